package eval

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"gqa/internal/units"
)

// Groups returns the legal group counts: the divisors of the heads, largest first.
func (s Shape) Groups() (groups []int) {
	for g := s.Heads; g >= 1; g-- {
		if s.Heads%g == 0 {
			groups = append(groups, g)
		}
	}
	return groups
}

// params returns the number of weights in matrices at a number of groups: attention, feed-forward and embeddings of the
// decoder. Biases, norms and learned positions, less than 1% of a model, are excluded.
func (s Shape) params(groups int) int64 {
	attention := 2 * s.HeadDim * (s.Heads + groups) * s.Dim // q and o, k and v
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

// kvBytes returns the size of a KV cache: a key and a value of kvHeads × HeadDim elements of dtypeBytes for each layer
// and each of context tokens, limited by the shape's window, in each of batch sequences.
func kvBytes(s Shape, kvHeads, context, batch, dtypeBytes int) int64 {
	if s.Window > 0 {
		context = min(context, s.Window)
	}
	return 2 * int64(s.Layers) * int64(kvHeads) * int64(s.HeadDim) * int64(context) * int64(batch) * int64(dtypeBytes)
}

// crossKVBytes returns the size of the cache of cross-attention for a source of the given number of tokens in each of
// batch sequences: per token as much as self-attention, whatever the window. It is 0 for a shape without cross-attention.
func crossKVBytes(s Shape, kvHeads, source, batch, dtypeBytes int) int64 {
	if !s.Cross {
		return 0
	}
	s.Window = 0
	return kvBytes(s, kvHeads, source, batch, dtypeBytes)
}

// KVOptions are the assumptions of KVRows. A zero field has its default value.
type KVOptions struct {
	Context     int   // tokens per sequence; default: the shape's own context
	Batch       int   // sequences; default 1
	KVBytes     int   // bytes per cached element; default 2 (bf16, f16)
	WeightBytes int   // bytes per weight; default 2
	Memory      int64 // bytes available for weights and cache; 0 if not given
}

// KVRow describes one shape at one number of groups.
type KVRow struct {
	Shape           string  `json:"shape"`
	Groups          int     `json:"groups"`
	Published       bool    `json:"published"` // the model was released with this number
	QKVWidth        int     `json:"qkv_width"` // of the joint projection of queries, keys and values
	Context         int     `json:"context"`
	Batch           int     `json:"batch"`
	ElementBytes    int     `json:"kv_element_bytes"`
	KVBytesPerToken int64   `json:"kv_bytes_per_token"`
	CrossBytesToken int64   `json:"cross_kv_bytes_per_token,omitempty"` // in addition, per token of the source
	KVBytes         int64   `json:"kv_bytes"`                           // of batch sequences at context, with sources of the same length
	RelativeToMHA   float64 `json:"relative_to_mha"`                    // 1 if there are as many groups as heads
	WeightBytes     int64   `json:"weight_bytes"`                       // see Shape.Params
	MaxBatch        *int64  `json:"max_batch,omitempty"`                // maximum number of sequences at context that fit beside the weights; nil if no memory is given
}

// KVRows returns the KV cache of a shape at every legal number of groups, largest first.
func KVRows(s Shape, o KVOptions) ([]KVRow, error) {
	o.Context, o.Batch = cmp.Or(o.Context, s.Context), cmp.Or(o.Batch, 1)
	o.KVBytes, o.WeightBytes = cmp.Or(o.KVBytes, 2), cmp.Or(o.WeightBytes, 2)
	if err := s.checkOptions(o); err != nil {
		return nil, err
	}
	var rows []KVRow
	for _, g := range s.Groups() {
		row := KVRow{
			Shape: s.Name, Groups: g, Published: g == s.KVHeads, QKVWidth: (s.Heads + 2*g) * s.HeadDim, Context: o.Context, Batch: o.Batch,
			ElementBytes:    o.KVBytes,
			KVBytesPerToken: kvBytes(s, g, 1, 1, o.KVBytes),
			CrossBytesToken: crossKVBytes(s, g, 1, 1, o.KVBytes),
			KVBytes:         cacheBytes(s, g, o.Context, o.Batch, o.KVBytes),
			RelativeToMHA:   float64(g) / float64(s.Heads),
			WeightBytes:     s.params(g) * int64(o.WeightBytes),
		}
		if o.Memory > 0 {
			most := max(0, o.Memory-row.WeightBytes) / cacheBytes(s, g, o.Context, 1, o.KVBytes)
			row.MaxBatch = &most
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// cacheBytes returns the size of everything that a decoder caches at a context, with a source of the same length.
func cacheBytes(s Shape, kvHeads, context, batch, dtypeBytes int) int64 {
	return kvBytes(s, kvHeads, context, batch, dtypeBytes) + crossKVBytes(s, kvHeads, context, batch, dtypeBytes)
}

// checkOptions returns an error for sizes below 1 and for a cache too large to count.
func (s Shape) checkOptions(o KVOptions) error {
	if err := s.check(); err != nil {
		return err
	}
	if min(o.Context, o.Batch, o.KVBytes, o.WeightBytes) < 1 || o.Memory < 0 {
		return fmt.Errorf("context %d, batch %d, %d bytes per cached element, %d per weight, memory %d: want none below 1, memory not below 0",
			o.Context, o.Batch, o.KVBytes, o.WeightBytes, o.Memory)
	}
	perToken := cacheBytes(s, s.Heads, 1, 1, o.KVBytes)
	if float64(perToken)*float64(o.Context)*float64(o.Batch) >= 1<<62 {
		return fmt.Errorf("context %d × batch %d of %s is too large to compute with", o.Context, o.Batch, s.Name)
	}
	return nil
}

// WriteKVTable writes rows as an aligned text table, with the bytes per cached element. A star marks the number of groups
// with which the model was published.
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
		fmt.Fprintf(table, "%s\t%d%s\t%d\t%s\t%d\t%d\t%s\t%s%%\t%s\t", r.Shape, r.Groups, star, r.ElementBytes, units.Bytes(r.KVBytesPerToken),
			r.Context, r.Batch, units.Bytes(r.KVBytes), units.Significant(100*r.RelativeToMHA), units.Bytes(r.WeightBytes))
		if r.MaxBatch != nil {
			fmt.Fprintf(table, "%d\t", *r.MaxBatch)
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
