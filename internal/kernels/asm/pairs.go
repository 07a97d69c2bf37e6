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
	doc := fmt.Sprintf("%%s is laneTile.scorePairs for %d rows, %d keys at a time.", rows, t.keys)
	t.text(fmt.Sprintf("score%d", rows), fmt.Sprintf(scoreSignature, "uint16"), doc)
	size := 4 * t.c() // bytes of a key that a step multiplies
	n, out, k := Load(Param("n"), GP64()), Load(Param("s"), GP64()), newRows("k", "ldk", keysAbreast, 2)
	ahead, stride := lookahead()
	// A sum for each key, of those in work another for the lower part, both parts of the queries, and keys.
	low := func(i int) reg.VecPhysical { return t.fixed(t.keys + i) }
	query := func(part int) reg.VecPhysical { return t.fixed(t.keys + keysAbreast + part) }
	key := func(i int) reg.VecPhysical { return t.fixed(t.keys + keysAbreast + 2 + i%2) }
	sums := make([]reg.VecPhysical, t.keys)
	for i := range sums {
		sums[i] = t.fixed(i)
	}
	next := t.toNextKeys(k.stride, 4) // c pairs are as long as c float32
	unroll := rows
	Label("tile")
	for first := 0; first < t.keys; first += keysAbreast {
		loop := fmt.Sprintf("keys%d", first)
		q, steps := Load(Param("q"), GP64()), Load(Param("steps"), GP64())
		for i := range keysAbreast {
			zero(sums[first+i])
			zero(low(i))
		}
		Label(loop)
		for u := range unroll {
			for part := range 2 {
				VMOVUPS(Mem{Base: q, Disp: 64 * (2*u + part)}, query(part))
			}
			for i := range keysAbreast {
				t.repeatPairs(k.at(i).Offset(size*u), key(i))
				dotPairs(query(0), key(i), sums[first+i])
				dotPairs(query(1), key(i), low(i))
			}
		}
		for range keysAbreast * size * unroll / 64 {
			PREFETCHT1(Mem{Base: ahead})
			ADDQ(stride, ahead)
		}
		ADDQ(U32(128*unroll), q)
		k.advance(U32(size * unroll))
		SUBQ(U32(unroll), steps)
		JNZ(LabelRef(loop))
		for i := range keysAbreast {
			VADDPS(low(i), sums[first+i], sums[first+i])
		}
		k.advance(next)
	}
	registers := t.keys * rows / t.lanes
	t.storeSums(sums, registers, out, [2]reg.VecPhysical{low(0), low(1)})
	ADDQ(U32(64*registers), out)
	DECQ(n)
	JNZ(LabelRef("tile"))
	t.end()
}

// repeatPairs loads c pairs, repeated over the lanes.
func (t scoreTile) repeatPairs(from Mem, to reg.Register) {
	switch t.c() {
	case 1:
		VPBROADCASTD(from, to)
	case 2:
		VPBROADCASTQ(from, to)
	case 4:
		VBROADCASTI32X4(from, to)
	case 8:
		VBROADCASTI64X4(from, to)
	default:
		VMOVDQU32(from, to)
	}
}
