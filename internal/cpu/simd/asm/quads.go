package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// quads is AVX-512 with products of four bytes (AVX512_VNNI): an instruction for 64 multiply-adds.
var quads = isa{"Quads", vector512.lanes, vector512.mr, true}

// Where the parts of the queries begin, in bytes from them: for each lane what the sums of the upper parts begin with, what those of the
// lower parts begin with, and the scale of the row that a lane has in the end.
const (
	quadUpper = -192
	quadLower = -128
	quadScale = -64
)

// quadKernels generates the scores of keys of integers.
func quadKernels() {
	for rows := 1; rows <= quads.lanes; rows *= 2 {
		quadScore(rows, bytes)
		if rows > 1 { // a row of a head of 64 is half a register
			quadScore(rows, nibbles)
		}
	}
}

var (
	expansions = map[int]Mem{} // by rows: the key of each lane, of those that a register of scores has
	flip, low4 Mem
	times128   Mem
)

func layOutQuads() {
	for rows := 2; rows < 16; rows *= 2 {
		expansions[rows] = GLOBL(fmt.Sprintf("expansion%d", rows), RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(i/rows))
		}
	}
	flip = GLOBL("flip", RODATA|NOPTR)
	DATA(0, U32(0x80808080))
	low4 = GLOBL("low4", RODATA|NOPTR)
	DATA(0, U32(0x0f0f0f0f))
	times128 = GLOBL("times128", RODATA|NOPTR)
	DATA(0, F32(128))
}

// quadScore generates the scores of n tiles of keys. Each row of queries takes c lanes, four elements each, of either part. An instruction
// takes unsigned bytes of keys, so 128, or 8 for nibbles, is added to each; what that adds to a sum is subtracted from what it begins
// with.
func quadScore(rows int, f format) {
	t := scoreTile{quads, rows, 1, quads.lanes}
	t.text(fmt.Sprintf("score%d%s", rows, f.name), scoreIntsSignature, fmt.Sprintf("%%s is AttentionTile.ScoreQuads for %d rows, %d keys at a time.", rows, t.keys))
	// Behind the sums of keys lie those of the lower parts of the queries, then both parts of the queries, and keys.
	lower, query, constant := zmm[t.keys:][:keysAbreast], t.keys+keysAbreast, zmm[31]
	s := scoreStep{size: 1, bytes: 4 * t.c(), unroll: rows, query: query, queries: 2, apart: lower, quads: true}
	if f.name == bytes.name {
		VPBROADCASTD(flip, constant)
		s.multiply = func(i int, from Mem, sums []reg.VecPhysical) {
			key := t.fixed(query + 2 + i%2)
			if t.c() == t.lanes {
				VPXORD(from, constant, key)
			} else {
				t.repeat(t.c(), from, key)
				VPXORD(constant, key, key)
			}
			VPDPBUSD(t.fixed(query), key, sums[0])
			VPDPBUSD(t.fixed(query+1), key, lower[i])
		}
	} else {
		VPBROADCASTD(low4, constant)
		s.queries, s.unroll = 4, max(1, rows/2)
		s.multiply = func(i int, from Mem, sums []reg.VecPhysical) {
			low, high := t.fixed(query+4+2*(i%2)), t.fixed(query+5+2*(i%2))
			t.repeat(t.c(), from, high)
			VPANDD(constant, high, low)
			VPSRLD(U8(4), high, high)
			VPANDD(constant, high, high)
			VPDPBUSD(t.fixed(query), low, sums[0])
			VPDPBUSD(t.fixed(query+1), low, lower[i])
			VPDPBUSD(t.fixed(query+2), high, sums[0])
			VPDPBUSD(t.fixed(query+3), high, lower[i])
		}
	}
	t.generate(s)
}

// beginQuads loads what sums begin with.
func beginQuads(sums []reg.VecPhysical, at int) {
	q := Load(Param("q"), GP64())
	for _, sum := range sums {
		VMOVDQU32(Mem{Base: q, Disp: at}, sum)
	}
}

// joinQuads makes float32 of the sums of both parts: the upper ones count 128 times.
func joinQuads(upper, lower reg.VecPhysical) {
	VCVTDQ2PS(upper, upper)
	VCVTDQ2PS(lower, lower)
	VFMADD132PS_BCST(times128, lower, upper)
}

// scaleQuads multiplies registers of scores by the scales of rows and of keys.
func (t scoreTile) scaleQuads(sums []reg.VecPhysical, scales reg.Register, spare [2]reg.VecPhysical) {
	q, scale := Load(Param("q"), GP64()), spare[0]
	if t.rows > 1 && t.rows < t.lanes {
		VMOVDQU32(expansions[t.rows], spare[1])
	}
	for i, sum := range sums {
		t.repeat(t.c(), Mem{Base: scales, Disp: 4 * t.c() * i}, scale)
		if t.rows > 1 && t.rows < t.lanes {
			VPERMPS(scale, spare[1], scale)
		}
		VMULPS(Mem{Base: q, Disp: quadScale}, scale, scale)
		VMULPS(scale, sum, sum)
	}
}
