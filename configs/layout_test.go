package configs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestRows compares with layouts written by hand: one letter and number per row of the fused tensor, in its order.
func TestRows(t *testing.T) {
	for _, c := range []struct {
		layout                  Layout
		heads, kvHeads, headDim int
		rows                    string // qHEAD.DIM, kHEAD.DIM, vHEAD.DIM
	}{
		{FusedPerHead, 2, 2, 1, "q0.0 k0.0 v0.0 q1.0 k1.0 v1.0"},
		{FusedPerHead, 2, 2, 2, "q0.0 q0.1 k0.0 k0.1 v0.0 v0.1 q1.0 q1.1 k1.0 k1.1 v1.0 v1.1"},
		{FusedBlocks, 2, 2, 2, "q0.0 q0.1 q1.0 q1.1 k0.0 k0.1 k1.0 k1.1 v0.0 v0.1 v1.0 v1.1"},
		{FusedBlocks, 4, 2, 1, "q0.0 q1.0 q2.0 q3.0 k0.0 k1.0 v0.0 v1.0"},
		{FusedBlocks, 3, 1, 2, "q0.0 q0.1 q1.0 q1.1 q2.0 q2.1 k0.0 k0.1 v0.0 v0.1"},
		{FusedPerGroup, 4, 2, 1, "q0.0 q1.0 k0.0 v0.0 q2.0 q3.0 k1.0 v1.0"},
		{FusedPerGroup, 6, 2, 1, "q0.0 q1.0 q2.0 k0.0 v0.0 q3.0 q4.0 q5.0 k1.0 v1.0"},
		{FusedPerGroup, 2, 1, 2, "q0.0 q0.1 q1.0 q1.1 k0.0 k0.1 v0.0 v0.1"},
	} {
		at := map[string]int{}
		for i, row := range strings.Fields(c.rows) {
			at[row] = i
		}
		want := func(letter string, heads int) (rows []int) {
			for h := range heads {
				for d := range c.headDim {
					rows = append(rows, at[fmt.Sprintf("%s%d.%d", letter, h, d)])
				}
			}
			return rows
		}
		q, k, v := c.layout.Rows(c.heads, c.kvHeads, c.headDim)
		if !slices.Equal(q, want("q", c.heads)) || !slices.Equal(k, want("k", c.kvHeads)) || !slices.Equal(v, want("v", c.kvHeads)) {
			t.Errorf("%s of %d heads, %d KV heads of %d: q %v, k %v, v %v; want %s", c.layout, c.heads, c.kvHeads, c.headDim, q, k, v, c.rows)
		}
	}
}

// TestRowsArePermutations checks that each row of the fused tensor belongs to exactly one weight.
func TestRowsArePermutations(t *testing.T) {
	for _, layout := range []Layout{FusedPerHead, FusedBlocks, FusedPerGroup} {
		for _, heads := range []int{1, 2, 3, 6, 8, 12} {
			for kv := 1; kv <= heads; kv++ {
				if heads%kv != 0 || layout == FusedPerHead && kv != heads {
					continue
				}
				for _, headDim := range []int{1, 2, 5} {
					q, k, v := layout.Rows(heads, kv, headDim)
					all := slices.Sorted(slices.Values(slices.Concat(q, k, v)))
					if len(q) != heads*headDim || len(k) != kv*headDim || len(v) != kv*headDim {
						t.Fatalf("%s of %d heads, %d KV heads of %d: %d, %d and %d rows", layout, heads, kv, headDim, len(q), len(k), len(v))
					}
					for i, row := range all {
						if i != row {
							t.Fatalf("%s of %d heads, %d KV heads of %d: rows %v", layout, heads, kv, headDim, all)
						}
					}
				}
			}
		}
	}
}
