package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert"
	"gqa/internal/cli"
)

// inspectLimit is the number of bytes of weights that inspect reads without --check, which takes a few seconds.
const inspectLimit = 2 << 30

func newInspect() *cobra.Command {
	var f flags
	var check bool
	cmd := &cobra.Command{
		Use:   "inspect INPUT",
		Short: "Describe a checkpoint and list the possible group counts",
		Args:  cli.Args("INPUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := inspect(cmd, f, args[0], check)
			if err != nil {
				return err
			}
			if f.printJSON {
				return cli.PrintJSON(cmd.OutOrStdout(), in)
			}
			return printInspection(cmd.OutOrStdout(), in)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "check all weights for NaN and infinities (default: only if they take at most 2 GiB)")
	sitesFlag(cmd.Flags(), &f)
	sourceFlags(cmd, &f)
	return cmd
}

// inspect describes the checkpoint, with advice in terms of flags.
func inspect(cmd *cobra.Command, f flags, input string, check bool) (*convert.Inspection, error) {
	src, err := open(cmd, input, f.source)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	in, err := convert.Inspect(src, convert.Sites(f.sites))
	if err != nil {
		return nil, err
	}
	warn(src)
	for i := range in.Targets {
		adviseTarget(&in.Targets[i])
	}
	return in, inspectValues(cmd, in, src, check)
}

// inspectValues looks for NaN and infinities; with check there is no limit on the bytes read.
func inspectValues(cmd *cobra.Command, in *convert.Inspection, src *convert.Source, check bool) error {
	limit, bytes := int64(inspectLimit), src.OwnBytes()
	if check {
		limit = bytes
	}
	bar := cli.CommandProgress(cmd, bytes, "reading weights", true)
	defer bar.Done()
	return in.InspectValues(cmd.Context(), src, limit, bar.Add)
}

// printInspection writes an inspection as text.
func printInspection(w io.Writer, in *convert.Inspection) error {
	fmt.Fprintf(w, "family      %s (%s)\n", in.Family, in.Layout)
	fmt.Fprintf(w, "parameters  %s\n", thousands(in.Parameters))
	fmt.Fprintf(w, "shape       %d layers, dim %d, %d heads of %d, %s KV heads, vocabulary %d, context %d\n",
		in.Layers, in.Dim, in.Heads, in.HeadDim, kvHeadsText(in), in.Vocab, in.Context)
	fmt.Fprintf(w, "sites       %s\n", inspectedSites(in))
	if l := in.Latent; l != nil {
		fmt.Fprintf(w, "latent      %s + %d numbers per token and layer for all heads; keys of %d without positions and %d with, values of %d\n",
			latentText(l), l.RopeDim, l.NopeDim, l.RopeDim, l.ValueDim)
	}
	for _, target := range in.Targets {
		printTarget(w, target)
	}
	if in.NotFloat != "" {
		fmt.Fprintf(w, "not floats  %s: this checkpoint cannot be converted; take the one from before quantisation\n", in.NotFloat)
	}
	printValues(w, in)
	if !decodes(in) {
		fmt.Fprintf(w, "KV cache    none: this is an encoder, which does not decode; grouping only saves parameters and work of the\n"+
			"            K/V projections\n")
	}
	fmt.Fprintln(w)
	return printRows(w, in)
}

// printRows writes the table of group counts, with latent attention behind the groups whose cache is as large.
func printRows(w io.Writer, in *convert.Inspection) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, header(in))
	rows := slices.Concat(in.Rows, in.LatentRows)
	slices.SortStableFunc(rows, func(a, b convert.Row) int { return cmp.Compare(b.KVBytesPerToken, a.KVBytesPerToken) })
	for _, r := range rows {
		groups := fmt.Sprint(r.Groups)
		switch {
		case r.GroupsPerLayer != nil:
			groups = "as they are"
		case r.Latent != nil:
			groups = fmt.Sprintf("MLA, %d + %d", r.Latent.Rank, r.Latent.RopeDim)
		case in.Latent != nil:
			groups = "MLA"
		}
		fmt.Fprintf(tw, "%s\t%s%s\t%s\t\n", groups, cacheColumns(in, r), thousands(r.Parameters), headsText(0, r.TensorParallelism))
	}
	return tw.Flush()
}

// decodes reports whether there is a KV cache.
func decodes(in *convert.Inspection) bool { return in.Sites[0].Site == configs.DecoderSelf }

// kvHeadsText returns the number of KV heads, or the smallest and the largest number of a layer's.
func kvHeadsText(in *convert.Inspection) string {
	if in.KVHeadsPerLayer == nil {
		return fmt.Sprint(in.KVHeads)
	}
	return fmt.Sprintf("%d to %d", slices.Min(in.KVHeadsPerLayer), in.KVHeads)
}

func inspectedSites(in *convert.Inspection) string {
	if in.KVHeadsPerLayer != nil { // only for a decoder without an encoder
		return fmt.Sprintf("%s (%d layers, with %s KV heads)", in.Sites[0].Site, in.Layers, headsText(0, in.KVHeadsPerLayer))
	}
	var texts []string
	for _, s := range in.Sites {
		text := fmt.Sprintf("%s (%d layers, %d KV heads", s.Site, s.Layers, s.KVHeads)
		if !s.Converted {
			text += "; converted only with --sites all"
		}
		texts = append(texts, text+")")
	}
	return strings.Join(texts, ", ")
}

// header returns the names of the columns: the cache per token or, if there is no cache, the K/V projections.
func header(in *convert.Inspection) string {
	switch {
	case !decodes(in):
		return "groups\tK/V projections\tparameters\ttensor parallel\t"
	case len(in.Sites) > 1:
		return fmt.Sprintf("groups\tKV bytes/token (%s)\tper source token\tat context %d + %d\tparameters\ttensor parallel\t", in.DType, in.Context, in.Context)
	}
	return fmt.Sprintf("groups\tKV bytes/token (%s)\tat context %d\tparameters\ttensor parallel\t", in.DType, in.Context)
}

func cacheColumns(in *convert.Inspection, r convert.Row) string {
	switch {
	case !decodes(in):
		return thousands(r.KVProjections) + "\t"
	case len(in.Sites) > 1:
		return fmt.Sprintf("%s\t%s\t%s\t", thousands(r.KVBytesPerToken), thousands(r.CrossKVBytesPerToken), bytesText(r.KVBytesAtContext))
	}
	return fmt.Sprintf("%s\t%s\t", thousands(r.KVBytesPerToken), bytesText(r.KVBytesAtContext))
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	return fmt.Sprintf("%.4g %s", v, units[u])
}

// printValues writes which values are not finite, and how many were not read.
func printValues(w io.Writer, in *convert.Inspection) {
	if in.Unread > 0 {
		fmt.Fprintf(w, "values      not read (%s of weights); --check looks for NaN and infinities in all of them\n", bytesText(in.Unread))
	}
	const most = 5
	for i, f := range in.NotFinite {
		if i == most {
			fmt.Fprintf(w, "            and in %d more tensors\n", len(in.NotFinite)-most)
			break
		}
		label := "not finite"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "%-12s%s: %s at %s\n", label, f.Tensor, f.Value, checkpoints.IndexText(f.Index))
	}
}

// printTarget writes what loads a target, or why there is none.
func printTarget(out io.Writer, info convert.TargetInfo) {
	switch {
	case info.WhyNot != nil:
		fmt.Fprintf(out, "%-11s no: %s\n", info.Target, info.WhyNot)
	case info.Target == convert.Expanded:
		loader := strings.TrimPrefix(info.LoadsIn[len(info.LoadsIn)-1], "whatever loads ")
		fmt.Fprintf(out, "%-11s loads wherever %s does; saves no cache\n", info.Target, loader)
	default:
		fmt.Fprintf(out, "%-11s loads in %s\n", info.Target, strings.Join(info.LoadsIn, ", "))
	}
	for _, note := range info.Notes {
		fmt.Fprintf(out, "%-11s %s\n", "", note)
	}
}
