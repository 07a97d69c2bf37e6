package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tileKernels generates products of bfloat16 by AMX: eight registers that are tiles of 16 rows of 64 bytes, and one
// instruction that adds the products of two to a third, 16 times as many as AVX-512 does in f32.
func tileKernels() {
	layOutUpper()
	for _, tiles := range []int{1, 4} {
		tileDots(tiles)
	}
	splitRow()
	prefetches()
	for _, rows := range []int{8, 16} {
		newTileAttend(rows).generate()
	}
	blockKernels()
}

// Neither Go's assembler nor avo knows AMX: its instructions are encoded here (Intel SDM vol. 2, VEX.128.0F38.W0), on
// registers that are given, as avo cannot choose them after the fact.
const (
	none, p66, pF3, pF2 = 0, 1, 2, 3 // mandatory prefixes

	opConfig, opMove, opDot = 0x49, 0x4b, 0x5c
)

// vex emits an instruction. index and base are the numbers of the address's registers, 0 if there are none.
func vex(prefix, op, vvvv, index, base int, rest ...int) {
	code := append([]int{0xc4, 0x82 | (1-index>>3)<<6 | (1-base>>3)<<5, (15-vvvv)<<3 | prefix, op}, rest...)
	for _, b := range code {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}})
	}
}

func number64(r reg.GPPhysical) int { return int(r.PhysicalIndex()) }

// tileAddress emits a load or store of tile t at base, with rows a stride apart.
func tileAddress(prefix, t int, base, stride reg.GPPhysical) {
	b, i := number64(base), number64(stride)
	vex(prefix, opMove, 0, i, b, 1<<6|t<<3|4, i&7<<3|b&7, 0)
}

func tileLoad(t int, base, stride reg.GPPhysical) { tileAddress(pF2, t, base, stride) }

// tileLoadAt is tileLoad from disp bytes behind base.
func tileLoadAt(t int, base, stride reg.GPPhysical, disp int) {
	b, i := number64(base), number64(stride)
	vex(pF2, opMove, 0, i, b, 2<<6|t<<3|4, i&7<<3|b&7, disp&0xff, disp>>8&0xff, disp>>16&0xff, 0)
}

func tileStore(t int, base, stride reg.GPPhysical) { tileAddress(pF3, t, base, stride) }
func tileZero(t int)                               { vex(pF2, opConfig, 0, 0, 0, 3<<6|t<<3) }
func tileRelease()                                 { vex(none, opConfig, 0, 0, 0, 3<<6) }

// tileConfig sets the shapes of the tiles from the 64 bytes at base.
func tileConfig(base reg.GPPhysical) {
	b := number64(base)
	vex(none, opConfig, 0, 0, b, 1<<6|b&7, 0)
}

// tileDot is C += A·B for tiles: A [rows, 32 of bfloat16], B [16, columns of pairs].
func tileDot(c, a, b int) { vex(pF3, opDot, b, 0, 0, 3<<6|c<<3|a) }

// amx is AVX-512 with products of tiles of bfloat16 (AMX).
var amx = isa{"AMX", 16, 0, true}

// The general registers of tileDots.
var (
	dotsAt, dotsFrom, dotsRow, dotsTile = reg.R13, reg.RBX, reg.RCX, reg.RAX
	dotsHigh, dotsMiddle, dotsLow       = reg.RDX, reg.R9, reg.R10
	dotsC, dotsLDC, dotsColumns         = reg.RSI, reg.RDI, reg.R11
	dotsSteps, dotsAhead, dotsStride    = reg.R12, reg.R8, reg.R15
)

// tileDots generates the product of rows of bfloat16, 16 for each tile at a time, with columns that are split in three.
func tileDots(tiles int) {
	amx.text(fmt.Sprintf("tileDots%d", tiles), "func(blocks, steps int, w *uint16, row, tile, step, block int, b *float32, plane int, c *float32, ldc int, "+
		"shapes *byte, ahead *byte, from, stride int)",
		fmt.Sprintf("%%s is AMXKernels.Dots for blocks of %d rows and steps of 32 elements. All strides are in bytes.", 16*tiles))
	loadTileDots()
	Label("block")
	beginTileDots(tiles)
	Label("loop")
	stepTileDots(tiles)
	ADDQ(address("step"), dotsAt)
	DECQ(dotsSteps)
	JNZ(LabelRef("loop"))
	for i := range tiles {
		tileStore(i, dotsC, dotsLDC)
		ADDQ(dotsColumns, dotsC)
	}
	Load(Param("block"), dotsAt)
	ADDQ(dotsAt, address("w"))
	DECQ(address("blocks"))
	JNZ(LabelRef("block"))
	tileRelease()
	VZEROUPPER()
	RET()
}

func loadTileDots() {
	Load(Param("shapes"), dotsAt)
	tileConfig(dotsAt)
	Load(Param("row"), dotsRow)
	Load(Param("tile"), dotsTile)
	Load(Param("c"), dotsC)
	Load(Param("ldc"), dotsLDC)
	Load(Param("ahead"), dotsAhead)
	ADDQ(address("from"), dotsAhead)
	Load(Param("stride"), dotsStride)
	MOVQ(dotsLDC, dotsColumns)
	SHLQ(U8(4), dotsColumns)
}

// beginTileDots clears the sums of a block of rows and goes to its first elements.
func beginTileDots(tiles int) {
	for i := range tiles {
		tileZero(i)
	}
	Load(Param("steps"), dotsSteps)
	Load(Param("w"), dotsAt)
	Load(Param("b"), dotsHigh)
	MOVQ(dotsHigh, dotsMiddle)
	ADDQ(address("plane"), dotsMiddle)
	MOVQ(dotsMiddle, dotsLow)
	ADDQ(address("plane"), dotsLow)
}

// stepTileDots adds the products of 32 elements.
func stepTileDots(tiles int) {
	for i, plane := range []reg.GPPhysical{dotsHigh, dotsMiddle, dotsLow} {
		tileLoad(5+i, plane, dotsLDC)
		ADDQ(dotsColumns, plane)
	}
	MOVQ(dotsAt, dotsFrom)
	for i := range tiles {
		prefetchLines(16, dotsAhead, dotsStride)
		tileLoad(4, dotsFrom, dotsRow)
		ADDQ(dotsTile, dotsFrom)
		for part := range 3 {
			tileDot(i, 4, 5+part)
		}
	}
}

// upper is the half of a float32 that is a bfloat16; upperWords are those of two registers, as VPERMT2W counts.
var upper, upperWords Mem

func layOutUpper() {
	upper = GLOBL("upper", RODATA|NOPTR)
	DATA(0, U32(0xffff0000))
	upperWords = GLOBL("upperWords", RODATA|NOPTR)
	for i := range 32 {
		DATA(2*i, U16(2*i+1))
	}
}

// cut moves the upper half of x to part, and the rest of its value stays in x.
func cut(keep, x, part reg.Register) {
	VPANDD(keep, x, part)
	VSUBPS(part, x, x)
}

// splitWords splits x and y in three planes of words, x in their lower and y in their upper half.
func splitWords(keep, x, y reg.Register, to func(plane int) Mem) {
	part, other := ZMM(), ZMM()
	for plane := range 3 {
		cut(keep, x, part)
		cut(keep, y, other)
		VPSRLD(U8(16), part, part)
		VPORD(other, part, part)
		VMOVUPS(part, to(plane))
	}
}

// splitRow generates the splitting of float32 into three bfloat16 of 8 bits each that sum up to it.
func splitRow() {
	amx.text("splitRow", "func(n int, dst *uint16, plane int, src *float32)", "%s is AMXKernels.split for a multiple of 16 numbers. The planes are so many bytes apart.")
	n, src := Load(Param("n"), GP64()), Load(Param("src"), GP64())
	dst, plane := Load(Param("dst"), GP64()), Load(Param("plane"), GP64())
	keep, x, part := ZMM(), ZMM(), ZMM()
	VPBROADCASTD(upper, keep)
	Label("loop")
	VMOVUPS(Mem{Base: src}, x)
	for _, to := range []Mem{{Base: dst}, {Base: dst, Index: plane, Scale: 1}, {Base: dst, Index: plane, Scale: 2}} {
		cut(keep, x, part)
		VPSRLD(U8(16), part, part)
		VPMOVDW(part, to)
	}
	ADDQ(U32(64), src)
	ADDQ(U32(32), dst)
	SUBQ(U32(16), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// prefetches generates the prefetching of lines.
func prefetches() {
	amx.text("prefetch", "func(n int, ahead *byte, from, stride int)", "%s is AMXKernels.Prefetch for n >= 1 lines.")
	n := Load(Param("n"), GP64())
	ahead, stride := lookahead()
	Label("loop")
	PREFETCHT1(Mem{Base: ahead})
	ADDQ(stride, ahead)
	DECQ(n)
	JNZ(LabelRef("loop"))
	RET()
}
