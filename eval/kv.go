package eval

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"gqa/internal/device"
	"gqa/internal/engine/infer"
	"gqa/internal/units"
)

// Groups returns the legal group counts: the divisors of the heads, largest first.
func (s Shape) Groups() []int {
	groups := divisors(s.Heads)
	slices.Reverse(groups)
	return groups
}

// params returns the number of weights in matrices at a number of groups, or of a conversion to latent attention: attention, feed-forward
// and embeddings of the decoder. Biases, norms and learned positions, less than 1% of a model, are excluded.
func (s Shape) params(groups int) int64 {
	attention := 2 * s.HeadDim * (s.Heads + groups) * s.Dim // q and o, k and v
	if groups == latent {
		attention = s.latentParams()
	}
	if s.Cross {
		attention *= 2
	}
	feedForward := 2 * s.Dim * s.FFN
	if s.Gated {
		feedForward = 3 * s.Dim * s.FFN
	}
	embeddings := 2 * s.Vocab * s.Dim
	if s.Tied {
		embeddings = s.Vocab * s.Dim
	}
	return int64(s.Layers)*int64(attention+feedForward) + int64(embeddings)
}

// rowSize returns the bytes of a row of n numbers: of a key, a value, or a latent vector.
type rowSize func(n int) int64

// perElement returns the size of rows of elements of so many bytes.
func perElement(bytes int) rowSize { return func(n int) int64 { return int64(n * bytes) } }

// kvBytes returns the size of a KV cache: a key and a value of HeadDim numbers for each of kvHeads, each layer and each of context
// tokens, limited by the shape's window, in each of batch sequences.
func kvBytes(s Shape, kvHeads, context, batch int, row rowSize) int64 {
	perLayer := 2 * int64(kvHeads) * row(s.HeadDim)
	if kvHeads == latent {
		perLayer = row(s.KVRank + s.RopeDim)
	}
	return int64(s.Layers) * perLayer * int64(s.cached(context)) * int64(batch)
}

// crossKVBytes returns the size of the cache of cross-attention for a source of the given number of tokens in each of
// batch sequences: per token as much as self-attention, whatever the window. It is 0 for a shape without cross-attention.
func crossKVBytes(s Shape, kvHeads, source, batch int, row rowSize) int64 {
	if !s.Cross {
		return 0
	}
	s.Window = 0
	return kvBytes(s, kvHeads, source, batch, row)
}

// KVOptions are the assumptions of KVRows. A zero field has its default value.
type KVOptions struct {
	Context     int    // tokens per sequence; default: the shape's own context
	Batch       int    // sequences; default 1
	KVBytes     int    // bytes per cached element; default 2 (bf16, f16)
	KVDType     string // one of KVDTypes instead of KVBytes, with scales; empty if not given
	WeightBytes int    // bytes per weight; default 2
	Memory      int64  // bytes available for weights and cache; 0 if not given
}

// row returns the size of rows.
func (o KVOptions) row() (rowSize, error) {
	if o.KVDType == "" {
		return perElement(o.KVBytes), nil
	}
	kept, err := KVCache{DType: o.KVDType}.kept()
	return func(n int) int64 { return int64(infer.RowBytes(kept.Format, n)) }, err
}

// KVRow describes one shape at one number of groups.
type KVRow struct {
	Shape           string  `json:"shape"`
	Groups          int     `json:"groups"`           // 0 for latent attention
	Latent          bool    `json:"latent,omitempty"` // multi-head latent attention (MLA)
	KVRank          int     `json:"kv_rank,omitempty"`
	RopeDim         int     `json:"rope_dim,omitempty"`
	Published       bool    `json:"published"` // the model was released with this number
	QKVWidth        int     `json:"qkv_width"` // of the joint projection of queries, keys and values; 0 for latent attention
	Context         int     `json:"context"`
	Batch           int     `json:"batch"`
	KVDType         string  `json:"kv_dtype,omitempty"`
	ElementBytes    float64 `json:"kv_element_bytes"` // with a share of the scale
	KVBytesPerToken int64   `json:"kv_bytes_per_token"`
	CrossBytesToken int64   `json:"cross_kv_bytes_per_token,omitempty"` // in addition, per token of the source
	KVBytes         int64   `json:"kv_bytes"`                           // of batch sequences at context, with sources of the same length
	RelativeToMHA   float64 `json:"relative_to_mha"`                    // 1 if there are as many groups as heads
	WeightBytes     int64   `json:"weight_bytes"`                       // see Shape.Params; 0 if not known, as of a shape with latent attention
	MaxBatch        *int64  `json:"max_batch,omitempty"`                // maximum number of sequences at context that fit beside the weights; nil if no memory is given
}

// KVRows returns the KV cache of a shape at every legal number of groups, largest first, then that of latent attention if the shape has
// it. A model that can be converted to latent attention has some of its sizes in between. All of it is arithmetic.
func KVRows(s Shape, o KVOptions) ([]KVRow, error) {
	o.Context, o.Batch = cmp.Or(o.Context, s.Context), cmp.Or(o.Batch, 1)
	o.KVBytes, o.WeightBytes = cmp.Or(o.KVBytes, 2), cmp.Or(o.WeightBytes, 2)
	if err := s.checkOptions(o); err != nil {
		return nil, err
	}
	row, err := o.row()
	if err != nil {
		return nil, err
	}
	var rows []KVRow
	for _, g := range s.Groups() {
		r := s.row(o, g, row)
		r.QKVWidth = (s.Heads + 2*g) * s.HeadDim
		rows = append(rows, r)
	}
	if s.KVRank > 0 {
		rows = append(rows, s.row(o, latent, row))
	}
	if conversions := s.conversions(o); len(conversions) > 0 {
		for _, c := range conversions {
			rows = append(rows, c.row(o, latent, row))
		}
		bySize(rows, func(r KVRow) int64 { return r.KVBytesPerToken })
	}
	return rows, nil
}

// row returns the cache at a number of groups.
func (s Shape) row(o KVOptions, g int, row rowSize) KVRow {
	published, width := s.KVHeads, s.HeadDim
	if s.KVRank > 0 && !s.converted {
		published = latent
	}
	if g == latent {
		width = s.KVRank + s.RopeDim
	}
	r := KVRow{
		Shape: s.Name, Groups: g, Latent: g == latent, Published: g == published, Context: o.Context, Batch: o.Batch, KVDType: o.KVDType,
		ElementBytes:    float64(row(width)) / float64(width),
		KVBytesPerToken: kvBytes(s, g, 1, 1, row),
		CrossBytesToken: crossKVBytes(s, g, 1, 1, row),
		KVBytes:         cacheBytes(s, g, o.Context, o.Batch, row),
		RelativeToMHA:   float64(kvBytes(s, g, 1, 1, row)) / float64(kvBytes(s, s.Heads, 1, 1, row)),
	}
	if g == latent {
		r.KVRank, r.RopeDim = s.KVRank, s.RopeDim
	}
	if s.KVRank > 0 && !s.converted {
		return r
	}
	r.WeightBytes = s.params(g) * int64(o.WeightBytes)
	if o.Memory > 0 {
		most := max(0, o.Memory-r.WeightBytes) / cacheBytes(s, g, o.Context, 1, row)
		r.MaxBatch = &most
	}
	return r
}

// cacheBytes returns the size of everything that a decoder caches at a context, with a source of the same length.
func cacheBytes(s Shape, kvHeads, context, batch int, row rowSize) int64 {
	return kvBytes(s, kvHeads, context, batch, row) + crossKVBytes(s, kvHeads, context, batch, row)
}

// checkOptions returns an error for sizes below 1, and for a cache that there cannot be or that is too large to count.
func (s Shape) checkOptions(o KVOptions) error {
	if err := s.check(); err != nil {
		return err
	}
	if min(o.Context, o.Batch, o.KVBytes, o.WeightBytes) < 1 || o.Memory < 0 {
		return fmt.Errorf("context %d, batch %d, %d bytes per cached element, %d per weight, memory %d: want none below 1, memory not below 0",
			o.Context, o.Batch, o.KVBytes, o.WeightBytes, o.Memory)
	}
	if o.KVDType == formatNames[device.Int4] && s.HeadDim%2 != 0 {
		return fmt.Errorf("a KV cache of 4 bits needs an even head dim, that of %s is %d", s.Name, s.HeadDim)
	}
	if o.KVDType == formatNames[device.Int4] && s.uneven {
		return fmt.Errorf("a KV cache of 4 bits needs latents of a multiple of 32 numbers, and those of %s differ from layer to layer", s.Name)
	}
	if o.KVDType == formatNames[device.Int4] && s.KVRank%32 != 0 {
		return fmt.Errorf("a KV cache of 4 bits needs latents of a multiple of 32 numbers, those of %s have %d", s.Name, s.KVRank)
	}
	perToken := cacheBytes(s, s.Heads, 1, 1, perElement(o.KVBytes))
	if float64(perToken)*float64(o.Context)*float64(o.Batch) >= 1<<62 {
		return fmt.Errorf("context %d × batch %d of %s is too large to compute with", o.Context, o.Batch, s.Name)
	}
	return nil
}

// WriteKVTable writes rows as an aligned text table, with the bytes per cached element. A star marks the number of groups
// with which the model was published; "MLA" stands for latent attention, with the sizes of a conversion.
func WriteKVTable(w io.Writer, rows []KVRow) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	header := "shape\tgroups\tbytes/element\tKV/token\tcontext\tbatch\tKV cache\tof MHA\tweights\t"
	memory := slices.ContainsFunc(rows, func(r KVRow) bool { return r.MaxBatch != nil })
	if memory {
		header += "max batch\t"
	}
	fmt.Fprintln(table, header)
	for _, r := range rows {
		star := " "
		if r.Published {
			star = "*"
		}
		groups, weights, most := strconv.Itoa(r.Groups), units.Bytes(r.WeightBytes), "-"
		switch {
		case r.Latent && r.Published:
			groups = "MLA"
		case r.Latent:
			groups = latentText(r.KVRank, r.RopeDim)
		}
		if r.WeightBytes == 0 {
			weights = "-"
		}
		if r.MaxBatch != nil {
			most = strconv.FormatInt(*r.MaxBatch, 10)
		}
		fmt.Fprintf(table, "%s\t%s%s\t%s\t%s\t%d\t%d\t%s\t%s%%\t%s\t", r.Shape, groups, star, units.Significant(r.ElementBytes), units.Bytes(r.KVBytesPerToken),
			r.Context, r.Batch, units.Bytes(r.KVBytes), units.Significant(100*r.RelativeToMHA), weights)
		if memory {
			fmt.Fprintf(table, "%s\t", most)
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
