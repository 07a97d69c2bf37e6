package convert

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// Inspection is what a checkpoint is and what its conversions would be.
type Inspection struct {
	Family          string       `json:"family"`
	Layers          int          `json:"layers"`
	Dim             int          `json:"dim"`
	Heads           int          `json:"heads"`
	KVHeads         int          `json:"kv_heads"` // the most of a layer's, where they differ
	KVHeadsPerLayer []int        `json:"kv_heads_per_layer,omitempty"`
	HeadDim         int          `json:"head_dim"`
	Vocab           int          `json:"vocab"`
	Context         int          `json:"context"`
	Parameters      int64        `json:"parameters"`
	DType           string       `json:"dtype"` // of the KV cache: that of the keys' weights
	Layout          string       `json:"layout"`
	Targets         []TargetInfo `json:"ways_out"`
	Sites           []SiteHeads  `json:"sites"` // the kinds of attention
	Rows            []Row        `json:"groups"`
	NotFloat        string       `json:"not_float,omitempty"` // a key or value weight that is of no float dtype, so that nothing can be converted
	// NotFinite and Unread are of InspectValues: tensors that hold NaN or infinities, and bytes that were too many to be read.
	NotFinite []BadValue `json:"not_finite,omitempty"`
	Unread    int64      `json:"values_unread_bytes,omitempty"`
}

// SiteHeads is one kind of attention.
type SiteHeads struct {
	Site      configs.Site `json:"site"`
	Layers    int          `json:"layers"`
	KVHeads   int          `json:"kv_heads"`
	Converted bool         `json:"converted"` // by a conversion of the sites that were asked for
}

// Row is one legal group count.
type Row struct {
	Groups               int   `json:"groups"` // the most of a layer's, where they differ
	GroupsPerLayer       []int `json:"groups_per_layer,omitempty"`
	KVBytesPerToken      int64 `json:"kv_bytes_per_token"`                 // 0: nothing is decoded
	CrossKVBytesPerToken int64 `json:"cross_kv_bytes_per_token,omitempty"` // beside those, of each token that an encoder reads
	// KVBytesAtContext is of one sequence as long as the model was trained on, with a source as long.
	KVBytesAtContext  int64 `json:"kv_bytes_at_context"`
	KVProjections     int64 `json:"kv_projection_parameters"` // of all sites: one multiplication and addition each per token
	Parameters        int64 `json:"parameters"`
	TensorParallelism []int `json:"tensor_parallel"` // how many devices can split the KV heads evenly
}

// Inspect describes src and each group count that its sites could be converted to.
func Inspect(src *weights.Source, sites Sites) (*Inspection, error) {
	a := src.Arch
	dtype, err := keyDType(src)
	if err != nil {
		return nil, err
	}
	integer, err := notFloat(src)
	if err != nil {
		return nil, err
	}
	in := &Inspection{
		Family: a.Family.Name, Layers: a.Layers, Dim: a.Dim, Heads: a.Heads, KVHeads: a.KVHeads, KVHeadsPerLayer: a.LayerKVHeads, HeadDim: a.HeadDim,
		Vocab: a.Vocab, Context: a.Context, DType: dtype.String(), Layout: string(a.Layout()), Targets: targetInfos(src, sites), NotFloat: integer,
	}
	if in.Parameters, err = weights.Parameters(a); err != nil {
		return nil, err
	}
	chosen := sites.of(a)
	in.Sites = siteHeads(a, chosen)
	legal := a.LegalGroups(chosen...)
	slices.Reverse(legal)
	if a.LayerKVHeads != nil {
		row, err := inspectGroups(a, a.KVHeads, dtype.Size())
		if err != nil {
			return nil, err
		}
		row.GroupsPerLayer, row.TensorParallelism = a.LayerKVHeads, divisors(legal[0])
		in.Rows = append(in.Rows, row)
	}
	for _, groups := range legal {
		row, err := inspectGroups(a.WithKVHeads(groups, chosen...), groups, dtype.Size())
		if err != nil {
			return nil, err
		}
		in.Rows = append(in.Rows, row)
	}
	return in, nil
}

func siteHeads(a *configs.Arch, chosen []configs.Site) (list []SiteHeads) {
	for _, s := range a.Sites() {
		layers := a.Layers
		if encoder := a.Encoder(); encoder != nil && s == configs.EncoderSelf {
			layers = encoder.Layers
		}
		list = append(list, SiteHeads{s, layers, a.SiteKVHeads(s), slices.Contains(chosen, s)})
	}
	return list
}

// inspectGroups describes a conversion to groups.
func inspectGroups(a *configs.Arch, groups, elementSize int) (Row, error) {
	parameters, err := weights.Parameters(a)
	if err != nil {
		return Row{}, err
	}
	params, err := a.Params()
	own, cross := a.KVBytesPerToken(elementSize), a.CrossKVBytesPerToken(elementSize)
	r := Row{
		Groups: groups, KVBytesPerToken: own, CrossKVBytesPerToken: cross, KVBytesAtContext: (own + cross) * int64(a.Context),
		Parameters: parameters, TensorParallelism: divisors(groups),
	}
	for _, p := range params {
		if p.KVHeads > 0 {
			r.KVProjections += int64(p.Size())
		}
	}
	return r, err
}

// divisors lists what divides n, from 1 up.
func divisors(n int) (list []int) {
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			list = append(list, d)
		}
	}
	return list
}

// keyDType is the dtype that the keys' weights have, as a cache usually has.
func keyDType(src *weights.Source) (checkpoints.DType, error) {
	params, err := src.Arch.Params()
	if err != nil {
		return 0, err
	}
	for _, p := range params {
		if p.Role == configs.K {
			t, ok := src.Tensor(p.Tensor)
			if ok {
				return t.DType, nil
			}
		}
	}
	return 0, fmt.Errorf("family %s has no key projection", src.Arch.Family.Name)
}

// notFloat names the first weight of keys or values that is of no float dtype, as fp8 and int8 are; empty if there is none.
func notFloat(src *weights.Source) (tensor string, err error) {
	params, err := src.Arch.Params()
	for _, p := range params {
		if t, ok := src.Tensor(p.Tensor); ok && p.KVHeads > 0 && !t.DType.IsFloat() {
			return fmt.Sprintf("%s is %s", t.Name, t.DType), nil
		}
	}
	return "", err
}

// Print writes the inspection for a person.
func (in *Inspection) Print(w io.Writer) error {
	fmt.Fprintf(w, "family      %s (%s)\n", in.Family, in.Layout)
	fmt.Fprintf(w, "parameters  %s\n", thousands(in.Parameters))
	fmt.Fprintf(w, "shape       %d layers, dim %d, %d heads of %d, %s KV heads, vocabulary %d, context %d\n",
		in.Layers, in.Dim, in.Heads, in.HeadDim, in.kvHeadsText(), in.Vocab, in.Context)
	fmt.Fprintf(w, "sites       %s\n", in.sitesText())
	for _, target := range in.Targets {
		target.print(w)
	}
	if in.NotFloat != "" {
		fmt.Fprintf(w, "not floats  %s: this checkpoint cannot be converted; take the one from before quantisation\n", in.NotFloat)
	}
	in.printValues(w)
	if !in.decodes() {
		fmt.Fprintf(w, "KV cache    none: every token sees all others and nothing is decoded; grouping saves the parameters and the work\n"+
			"            of the K/V projections alone\n")
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, in.header())
	for _, r := range in.Rows {
		groups := fmt.Sprint(r.Groups)
		if r.GroupsPerLayer != nil {
			groups = "as they are"
		}
		fmt.Fprintf(tw, "%s\t%s%s\t%s\t\n", groups, in.cacheColumns(r), thousands(r.Parameters), list(r.TensorParallelism))
	}
	return tw.Flush()
}

// decodes says whether there is a KV cache.
func (in *Inspection) decodes() bool { return in.Sites[0].Site == configs.DecoderSelf }

// kvHeadsText is the number of KV heads, or the least and the most of a layer's.
func (in *Inspection) kvHeadsText() string {
	if in.KVHeadsPerLayer == nil {
		return fmt.Sprint(in.KVHeads)
	}
	return fmt.Sprintf("%d to %d", slices.Min(in.KVHeadsPerLayer), in.KVHeads)
}

func (in *Inspection) sitesText() string {
	if in.KVHeadsPerLayer != nil { // of a decoder alone
		return fmt.Sprintf("%s (%d layers, with %s KV heads)", in.Sites[0].Site, in.Layers, list(in.KVHeadsPerLayer))
	}
	var texts []string
	for _, s := range in.Sites {
		text := fmt.Sprintf("%s (%d layers, %d KV heads", s.Site, s.Layers, s.KVHeads)
		if !s.Converted {
			text += "; left alone without --sites all"
		}
		texts = append(texts, text+")")
	}
	return strings.Join(texts, ", ")
}

// header names the columns: what one token takes of the cache, or, where there is none, the K/V projections.
func (in *Inspection) header() string {
	switch {
	case !in.decodes():
		return "groups\tK/V projections\tparameters\ttensor parallel\t"
	case len(in.Sites) > 1:
		return fmt.Sprintf("groups\tKV bytes/token (%s)\tper source token\tat context %d + %d\tparameters\ttensor parallel\t", in.DType, in.Context, in.Context)
	}
	return fmt.Sprintf("groups\tKV bytes/token (%s)\tat context %d\tparameters\ttensor parallel\t", in.DType, in.Context)
}

func (in *Inspection) cacheColumns(r Row) string {
	switch {
	case !in.decodes():
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
