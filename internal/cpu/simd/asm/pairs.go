package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/ir"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// paired is AVX-512 with products of pairs of bfloat16 (AVX512_BF16): an instruction for 32 multiply-adds, as fast as one for 16
// of float32.
var paired = isa{"Pairs", vector512.lanes, vector512.mr, true}

// pairKernels generates the scores of keys of bfloat16.
func pairKernels() {
	for rows := 1; rows <= paired.lanes; rows *= 2 {
		pairScore(rows)
	}
}

// dotPairs is sum += x·y for pairs of bfloat16 (VDPBF16PS, EVEX.512.F3.0F38.W0 52; neither Go's assembler nor avo knows it).
func dotPairs(x, y, sum reg.VecPhysical) {
	a, b, c := int(sum.PhysicalIndex()), int(x.PhysicalIndex()), int(y.PhysicalIndex())
	not := func(n, bit int) int { return ^n >> bit & 1 }
	code := []int{
		0x62,
		not(a, 3)<<7 | not(c, 4)<<6 | not(c, 3)<<5 | not(a, 4)<<4 | 2,
		(^b&15)<<3 | 1<<2 | pF3,
		2<<5 | not(b, 4)<<3,
		0x52,
		3<<6 | a&7<<3 | c&7,
	}
	Instruction(&ir.Instruction{Opcode: "LONG", Operands: []Op{U32(code[0] | code[1]<<8 | code[2]<<16 | code[3]<<24)}})
	Instruction(&ir.Instruction{Opcode: "WORD", Operands: []Op{U16(code[4] | code[5]<<8)}})
}

// pairScore generates the scores of n tiles of keys. Each row of queries takes c lanes, a pair of elements each, of either part.
func pairScore(rows int) {
	t := scoreTile{paired, rows, 1, paired.lanes}
	doc := fmt.Sprintf("%%s is AttentionTile.ScorePairs for %d rows, %d keys at a time.", rows, t.keys)
	t.text(fmt.Sprintf("score%d", rows), fmt.Sprintf(scoreSignature, "uint16"), doc)
	// Behind the sums of keys lie those of the lower parts of the queries, then both parts of the queries, and keys.
	low, query := zmm[t.keys:][:keysAbreast], t.keys+keysAbreast
	t.generate(scoreStep{
		size: 2, bytes: 4 * t.c(), unroll: rows, query: query, queries: 2, apart: low,
		multiply: func(i int, from Mem, sums []reg.VecPhysical) {
			key := t.fixed(query + 2 + i%2)
			t.repeat(t.c(), from, key) // c pairs are as long as c float32
			dotPairs(t.fixed(query), key, sums[0])
			dotPairs(t.fixed(query+1), key, low[i])
		},
	})
}
