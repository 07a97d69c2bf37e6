package convert

import (
	"testing"

	"gqa/internal/golden"
)

// heads, of two dims each, in a model of 16 dims: the sizes of the configs in this package's tests.
const heads, headDim, dim = 8, 2, 16

// place is the location of an element: part 0, 1, 2 is q, k, v; head, dim of the head and input; -1 is nowhere.
type place func(kvHeads, part, head, d, in int) int

// separate places one of k_proj or v_proj, given as part; perHead and blocks a fused tensor; columns one that is stored
// [in, out]. A bias has one input.
func separate(only, inputs int) place {
	return func(_, part, head, d, in int) int {
		if part != only {
			return -1
		}
		return (head*headDim+d)*inputs + in
	}
}

func perHead(inputs int) place {
	return func(_, part, head, d, in int) int { return ((head*3+part)*headDim+d)*inputs + in }
}

func blocks(inputs int) place {
	return func(kvHeads, part, head, d, in int) int {
		return (block(kvHeads, part, head)*headDim+d)*inputs + in
	}
}

func columns(kvHeads, part, head, d, in int) int {
	return in*(heads+2*kvHeads)*headDim + block(kvHeads, part, head)*headDim + d
}

func block(kvHeads, part, head int) int {
	return []int{head, heads + head, heads + kvHeads + head}[part]
}

// TestLayouts pools each layout of weights and biases as index arithmetic written down here says.
func TestLayouts(t *testing.T) {
	grouped := func(config string) string { return with(config, "num_key_value_heads", "4") }
	const (
		llamaK, llamaVBias = "model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.v_proj.bias"
		neox, neoxBias     = "gpt_neox.layers.1.attention.query_key_value.weight", "gpt_neox.layers.1.attention.query_key_value.bias"
		gpt2, gpt2Bias     = "transformer.h.1.attn.c_attn.weight", "transformer.h.1.attn.c_attn.bias"
	)
	for _, c := range []struct {
		config, tensor string
		kvHeads        int
		inputs         int // 1 for a bias
		from, to, full place
	}{
		{llamaConfig, llamaK, 8, dim, separate(1, dim), separate(1, dim), separate(1, dim)},
		{llamaConfig, llamaVBias, 8, 1, separate(2, 1), separate(2, 1), separate(2, 1)},
		{grouped(llamaConfig), llamaK, 4, dim, separate(1, dim), separate(1, dim), separate(1, dim)},
		{neoxConfig, neox, 8, dim, perHead(dim), blocks(dim), perHead(dim)},
		{neoxConfig, neoxBias, 8, 1, perHead(1), blocks(1), perHead(1)},
		{grouped(neoxConfig), neox, 4, dim, blocks(dim), blocks(dim), perHead(dim)},
		{grouped(neoxConfig), neoxBias, 4, 1, blocks(1), blocks(1), perHead(1)},
		{gpt2Config, gpt2, 8, dim, columns, columns, columns},
		{gpt2Config, gpt2Bias, 8, 1, columns, columns, columns},
		{grouped(gpt2Config), gpt2, 4, dim, columns, columns, columns},
	} {
		dir := model{config: c.config}.write(t)
		stored := floats(t, golden.Open(t, dir), c.tensor)
		for _, groups := range []int{1, 2, 4} {
			own := convertTo(t, dir, Options{Goal: Groups(groups), Target: Own})
			wantPooled(t, floats(t, own, c.tensor), stored, groups, groups, c.kvHeads, c.inputs, c.from, c.to)
			expanded := convertTo(t, dir, Options{Goal: Groups(groups), Target: Expanded})
			wantPooled(t, floats(t, expanded, c.tensor), stored, groups, heads, c.kvHeads, c.inputs, c.from, c.full)
		}
	}
}

// wantPooled compares got, which holds kvHeads KV heads, with the means of groups of those of stored, which holds members.
func wantPooled(t *testing.T, got, stored []float32, groups, kvHeads, members, inputs int, from, to place) {
	t.Helper()
	seen := 0
	for part, n := range []int{heads, kvHeads, kvHeads} {
		for head := range n {
			for i := range headDim * inputs {
				d, in := i/inputs, i%inputs
				at := to(kvHeads, part, head, d, in)
				if at < 0 {
					continue
				}
				seen++
				var want float32
				if part == 0 {
					want = stored[from(members, part, head, d, in)]
				} else {
					size, group := members/groups, head*groups/kvHeads
					for m := range size {
						want += stored[from(members, part, group*size+m, d, in)]
					}
					want /= float32(size)
				}
				if got[at] != want {
					t.Fatalf("%d groups: part %d, head %d, dim %d, input %d is %v, want %v", groups, part, head, d, in, got[at], want)
				}
			}
		}
	}
	if seen != len(got) {
		t.Errorf("%d groups: %d elements, want %d", groups, len(got), seen)
	}
}
