package configs

// Layout is the arrangement of the rows of the query, key and value projections in a checkpoint.
type Layout string

// Layouts. A fused tensor has (heads + 2*kv_heads)*head_dim rows.
const (
	Separate      Layout = "separate"        // three tensors
	FusedPerHead  Layout = "fused_per_head"  // per head [q, k, v]; only with as many KV heads as heads
	FusedBlocks   Layout = "fused_blocks"    // [all q | all k | all v]
	FusedPerGroup Layout = "fused_per_group" // per KV head [its q heads…, k, v]
)

var layouts = []Layout{Separate, FusedPerHead, FusedBlocks, FusedPerGroup}

// Rows returns the rows of a fused tensor that belong to the query, the key and the value: q [heads*headDim], k and v
// [kvHeads*headDim], each in the order of heads. It must not be called for Separate.
func (l Layout) Rows(heads, kvHeads, headDim int) (q, k, v []int) {
	size := heads / kvHeads
	// head returns the index of the fused tensor's head slot of query head h, or of the key (part 0) or value (part 1) of KV head g.
	var query func(h int) int
	var shared func(g, part int) int
	switch l {
	case FusedBlocks:
		query = func(h int) int { return h }
		shared = func(g, part int) int { return heads + part*kvHeads + g }
	default: // FusedPerHead is FusedPerGroup with groups of one.
		query = func(h int) int { return h/size*(size+2) + h%size }
		shared = func(g, part int) int { return g*(size+2) + size + part }
	}
	expand := func(n int, slot func(int) int) []int {
		rows := make([]int, 0, n*headDim)
		for h := range n {
			for d := range headDim {
				rows = append(rows, slot(h)*headDim+d)
			}
		}
		return rows
	}
	return expand(heads, query),
		expand(kvHeads, func(g int) int { return shared(g, 0) }),
		expand(kvHeads, func(g int) int { return shared(g, 1) })
}
