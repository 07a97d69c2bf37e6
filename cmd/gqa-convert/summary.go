package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gqa/convert"
	"gqa/internal/cli"
)

// show prints a conversion, done or planned, as JSON or in one line that begins with verb.
func show(cmd *cobra.Command, f flags, s *convert.Summary, verb string) error {
	if f.printJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), s)
	}
	return printSummary(cmd, s, verb)
}

func printSummary(cmd *cobra.Command, s *convert.Summary, verb string) error {
	_, err := fmt.Fprintf(cmd.OutOrStdout(),
		"%s %s: %s, %d heads, KV heads %s -> %s%s by %s (%d tensors pooled, %d copied), %d -> %d parameters, %s; loads in %s\n",
		verb, s.Output, s.Family, s.Heads, headsText(s.SourceGroups, s.SourceGroupsPerLayer), groupsText(s), sitesText(s), how(s), s.TensorsPooled, s.TensorsCopied,
		s.SourceParameters, s.Parameters, cacheText(s), strings.Join(s.LoadsIn, ", "))
	return err
}

// headsText returns a number of KV heads, or each layer's.
func headsText(n int, perLayer []int) string {
	if perLayer == nil {
		return strconv.Itoa(n)
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(perLayer), " ", ","), "[]")
}

// groupsText returns the number of KV heads of the result, and how many heads they are repeated to, or the sizes of latent attention.
func groupsText(s *convert.Summary) string {
	if l := s.Latent; l != nil {
		return fmt.Sprintf("a latent of %s and a rotary key of %d", latentText(l), l.RopeDim)
	}
	text := headsText(s.Groups, s.GroupsPerLayer)
	if s.Target == convert.Expanded {
		text += fmt.Sprintf(" (repeated to %d)", s.Heads)
	}
	return text
}

// latentText returns the width of the latent, or the least and the largest of a layer's.
func latentText(l *convert.Latent) string {
	if l.RankPerLayer == nil {
		return strconv.Itoa(l.Rank)
	}
	return fmt.Sprintf("%d to %d", slices.Min(l.RankPerLayer), l.Rank)
}

// sitesText names the converted sites, if there are several kinds.
func sitesText(s *convert.Summary) string {
	if len(s.KVHeadsBySite) < 2 {
		return ""
	}
	return fmt.Sprintf(" at %s", strings.Trim(strings.ReplaceAll(fmt.Sprint(s.Sites), " ", ", "), "[]"))
}

func cacheText(s *convert.Summary) string {
	before, after := float64(s.SourceKVBytesPerToken+s.SourceCrossKVBytesPerToken), float64(s.KVBytesPerToken+s.CrossKVBytesPerToken)
	switch {
	case before == 0:
		return "no KV cache before or after"
	case after > before:
		return fmt.Sprintf("KV cache %.4g times as large", after/before)
	}
	return fmt.Sprintf("KV cache 1/%.4g", before/after)
}

// how describes how the heads were merged.
func how(s *convert.Summary) string {
	text := string(s.Method)
	if s.Grouping != convert.Contiguous {
		text += " of " + string(s.Grouping) + " heads"
	}
	if s.Calibration != "" {
		text += fmt.Sprintf(" on %d tokens of %s", s.CalibrationTokens, s.Calibration)
	}
	if s.Refine > 0 {
		text += fmt.Sprintf(", refined in %d steps", s.Refine)
	}
	return text
}
