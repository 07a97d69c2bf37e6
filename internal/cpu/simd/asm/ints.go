package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	scoreIntsSignature     = "func(n, steps int, q *float32, k *byte, ldk int, s *float32, ahead *byte, from, stride int, scales *float32)"
	sumValuesIntsSignature = "func(n int, p *float32, ldp int, v *byte, ldv int, o *float32, ldo int, ahead *byte, from, stride int, scales *float32)"
	fromIntsSignature      = "func(rows, n int, dst *float32, src *byte, ld int, scales *float32)"
)

// intsBlock is that of package simd.
const intsBlock = 32

var (
	bytes   = format{name: "I8", element: "byte", note: ", with a scale each", size: 1, convert: convertByte}
	nibbles = format{name: "I4", element: "byte", note: ", with a scale each", size: 1}
)

func convertByte(from Op, to reg.Register) {
	VPMOVSXBD(from, to)
	VCVTDQ2PS(to, to)
}

// nibbleTable is the numbers of the sixteen nibbles.
var nibbleTable Mem

func layOutNibbles() {
	nibbleTable = GLOBL("nibbles", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, F32(float32(i-8)))
	}
}

// convertNibbles converts 16 bytes to the numbers in their lower and in their upper halves. A permutation looks at the lowest four
// bits of each index.
func convertNibbles(from Mem, table, low, high reg.Register) {
	VPMOVZXBD(from, high)
	VPERMPS(table, high, low)
	VPSRLD(U8(4), high, high)
	VPERMPS(table, high, high)
}

// intKernels generates attention to rows of integers, and their conversion.
func (s isa) intKernels() {
	for _, t := range s.scoreTiles()[:1] {
		t.score(bytes)
		if s.masks {
			t.scoreNibbles()
		}
	}
	for _, t := range s.sumValuesTiles() {
		t.sumValues(bytes)
		if s.masks {
			t.sumValues(nibbles)
		}
	}
	s.fromBytes()
	s.fromNibbles()
}

// scoreNibbles is score for a row of queries, a block at a time.
func (t scoreTile) scoreNibbles() {
	t.text("score1I4", scoreIntsSignature, "%s is AttentionTile.ScoreInts for a row, 16 keys at a time"+nibbles.note+".")
	high, query, table := zmm[t.keys:][:keysAbreast], t.keys+keysAbreast, zmm[31]
	VMOVUPS(nibbleTable, table)
	t.generate(scoreStep{
		size: 1, bytes: intsBlock / 2, unroll: 1, query: query, queries: 2, apart: high, scaled: true,
		multiply: func(i int, from Mem, sums []reg.VecPhysical) {
			x, y := t.fixed(query+2+2*(i%2)), t.fixed(query+3+2*(i%2))
			convertNibbles(from, table, x, y)
			VFMADD231PS(t.fixed(query), x, sums[0])
			VFMADD231PS(t.fixed(query+1), y, high[i])
		},
	})
}

// eachRow calls step for every block of every row, with the scale of the row.
func (s isa) eachRow(step func(dst, src reg.Register, scale reg.VecVirtual), size int) {
	rows, dst, src, ld := Load(Param("rows"), GP64()), Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("ld"), GP64())
	scales, at, left, scale := Load(Param("scales"), GP64()), GP64(), GP64(), s.reg()
	Label("row")
	VBROADCASTSS(Mem{Base: scales}, scale)
	MOVQ(src, at)
	Load(Param("n"), left)
	Label("block")
	step(dst, at, scale)
	ADDQ(U32(4*intsBlock), dst)
	ADDQ(U32(size), at)
	SUBQ(U32(intsBlock), left)
	JNZ(LabelRef("block"))
	ADDQ(ld, src)
	ADDQ(U32(4), scales)
	DECQ(rows)
	JNZ(LabelRef("row"))
	s.end()
}

func (s isa) fromBytes() {
	s.text("fromI8", fromIntsSignature, "%s is path.fromInts for I8.")
	s.eachRow(func(dst, src reg.Register, scale reg.VecVirtual) {
		for i := 0; i < intsBlock; i += s.lanes {
			x := s.reg()
			convertByte(Mem{Base: src, Disp: i}, x)
			VMULPS(scale, x, x)
			VMOVUPS(x, Mem{Base: dst, Disp: 4 * i})
		}
	}, intsBlock)
}

func (s isa) fromNibbles() {
	s.text("fromI4", fromIntsSignature, "%s is path.fromInts for I4.")
	table := s.reg()
	VMOVUPS(nibbleTable, table)
	upper := s.reg() // of AVX2's table of half the size
	if !s.masks {
		VMOVUPS(nibbleTable.Offset(32), upper)
	}
	s.eachRow(func(dst, src reg.Register, scale reg.VecVirtual) {
		for i := 0; i < intsBlock/2; i += s.lanes {
			x, y := s.reg(), s.reg()
			if s.masks {
				convertNibbles(Mem{Base: src, Disp: i}, table, x, y)
			} else {
				convertNibblesAVX2(Mem{Base: src, Disp: i}, table, upper, x, y)
			}
			for half, v := range []reg.VecVirtual{x, y} {
				VMULPS(scale, v, v)
				VMOVUPS(v, Mem{Base: dst, Disp: 4 * (i + half*intsBlock/2)})
			}
		}
	}, intsBlock/2)
}

// convertNibblesAVX2 is convertNibbles for 8 bytes, with tables of 8 numbers: the fourth bit of an index says which.
func convertNibblesAVX2(from Mem, lower, upper, low, high reg.Register) {
	index, sign, other := YMM(), YMM(), YMM()
	VPMOVZXBD(from, index)
	for i, to := range []reg.Register{low, high} {
		if i > 0 {
			VPSRLD(U8(4), index, index)
		}
		VPSLLD(U8(28), index, sign)
		VPERMPS(lower, index, to)
		VPERMPS(upper, index, other)
		VBLENDVPS(sign, other, to, to)
	}
}
