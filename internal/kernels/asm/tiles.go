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
	tileWeigh()
	splitRow()
	splitPairs()
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

// tileLoadAt is tileLoad from so many bytes behind base.
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

// tileDots generates the product of rows of bfloat16, 16 times so many at a time, with columns that are split in three.
func tileDots(tiles int) {
	name := fmt.Sprintf("tileDots%dAMX", tiles)
	TEXT(name, NOSPLIT, "func(blocks, steps int, w *uint16, row, tile, step, block int, b *float32, plane int, c *float32, ldc int, "+
		"shapes *byte, ahead *byte, from, stride int)")
	Doc(fmt.Sprintf("%s is tilePath.dots for blocks of %d rows and steps of 32 elements. All strides are in bytes.", name, 16*tiles))
	Pragma("noescape")
	at, from, row, tile := reg.R13, reg.RBX, reg.RCX, reg.RAX
	high, middle, low := reg.RDX, reg.R9, reg.R10
	c, ldc, columns := reg.RSI, reg.RDI, reg.R11
	steps, ahead, stride := reg.R12, reg.R8, reg.R15
	Load(Param("shapes"), at)
	tileConfig(at)
	Load(Param("row"), row)
	Load(Param("tile"), tile)
	Load(Param("c"), c)
	Load(Param("ldc"), ldc)
	Load(Param("ahead"), ahead)
	ADDQ(address("from"), ahead)
	Load(Param("stride"), stride)
	MOVQ(ldc, columns)
	SHLQ(U8(4), columns)
	Label("block")
	for i := range tiles {
		tileZero(i)
	}
	Load(Param("steps"), steps)
	Load(Param("w"), at)
	Load(Param("b"), high)
	MOVQ(high, middle)
	ADDQ(address("plane"), middle)
	MOVQ(middle, low)
	ADDQ(address("plane"), low)
	Label("loop")
	for i, plane := range []reg.GPPhysical{high, middle, low} {
		tileLoad(5+i, plane, ldc)
		ADDQ(columns, plane)
	}
	MOVQ(at, from)
	for i := range tiles {
		for range 16 {
			PREFETCHT1(Mem{Base: ahead})
			ADDQ(stride, ahead)
		}
		tileLoad(4, from, row)
		ADDQ(tile, from)
		for part := range 3 {
			tileDot(i, 4, 5+part)
		}
	}
	ADDQ(address("step"), at)
	DECQ(steps)
	JNZ(LabelRef("loop"))
	for i := range tiles {
		tileStore(i, c, ldc)
		ADDQ(columns, c)
	}
	Load(Param("block"), at)
	ADDQ(at, address("w"))
	DECQ(address("blocks"))
	JNZ(LabelRef("block"))
	tileRelease()
	VZEROUPPER()
	RET()
}

// tileWeigh generates the product of weights that are split in three with rows of bfloat16, 32 rows and 64 columns at a
// time. Pairs of rows, 16 apart, are shuffled into one as the second operand of tileDot wants them: its columns come out in
// the order of unshuffle.
func tileWeigh() {
	TEXT("tileWeighAMX", NOSPLIT, "func(groups int, p *float32, ldp, plane int, v *uint16, ldv int, o *float32, ldo int, shapes *byte, scratch *float32, ahead *byte, from, stride int)")
	Doc("tileWeighAMX is tilePath.weigh for groups of 32 keys. All strides are in bytes.")
	Pragma("noescape")
	v, ldv, o, ldo := reg.RBX, reg.RCX, reg.RSI, reg.RDI
	p, ldp, plane := reg.RDX, reg.R9, reg.R10
	ahead, scratch, line, stride, t := reg.R8, reg.R11, reg.R12, reg.RAX, reg.R13
	Load(Param("shapes"), t)
	tileConfig(t)
	Load(Param("stride"), stride)
	Load(Param("p"), p)
	Load(Param("ldp"), ldp)
	Load(Param("plane"), plane)
	Load(Param("v"), v)
	Load(Param("ldv"), ldv)
	Load(Param("o"), o)
	Load(Param("ldo"), ldo)
	Load(Param("scratch"), scratch)
	Load(Param("ahead"), ahead)
	ADDQ(address("from"), ahead)
	MOVQ(I32(64), line)
	each := func(f func(t int, base, stride reg.GPPhysical)) {
		MOVQ(o, t)
		for i := range 4 {
			f(i, t, ldo)
			ADDQ(U32(64), t)
		}
	}
	each(tileLoad)
	Label("loop")
	MOVQ(p, t)
	for i := range 3 {
		tileLoad(4+i, t, ldp)
		ADDQ(plane, t)
	}
	ADDQ(U32(64), p)
	MOVQ(ldv, t)
	SHLQ(U8(4), t)
	ADDQ(v, t)
	for pair := range 16 {
		for range 4 {
			PREFETCHT1(Mem{Base: ahead})
			ADDQ(stride, ahead)
		}
		for half := range 2 {
			x := zmm[4*(pair%4)+2*half:]
			first, second, both := x[0], x[1], zmm[16+pair%8]
			VMOVUPS(Mem{Base: v, Disp: 64 * half}, first)
			VMOVUPS(Mem{Base: t, Disp: 64 * half}, second)
			VPUNPCKLWD(second, first, both)
			VMOVUPS(both, Mem{Base: scratch, Disp: 1024*2*half + 64*pair})
			VPUNPCKHWD(second, first, first)
			VMOVUPS(first, Mem{Base: scratch, Disp: 1024*(2*half+1) + 64*pair})
		}
		ADDQ(ldv, v)
		ADDQ(ldv, t)
	}
	MOVQ(t, v)
	MOVQ(scratch, t)
	for i := range 4 {
		tileLoad(7, t, line)
		ADDQ(U32(1024), t)
		for part := range 3 {
			tileDot(i, 4+part, 7)
		}
	}
	XORQ(U32(4096), scratch) // the tiles of the next keys are written while these are read
	DECQ(address("groups"))
	JNZ(LabelRef("loop"))
	each(tileStore)
	tileRelease()
	VZEROUPPER()
	RET()
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

// splitting returns the addresses of a splitting and calls body, which reads from src and writes to dst, for each step.
func splitting(name, doc string, step int, body func(src reg.Register, dst [3]Mem, keep reg.Register)) {
	TEXT(name, NOSPLIT, "func(n int, dst *uint16, plane int, src *float32)")
	Doc(name + " is tilePath." + doc + " The planes are so many bytes apart.")
	Pragma("noescape")
	n, src := Load(Param("n"), GP64()), Load(Param("src"), GP64())
	dst, plane := Load(Param("dst"), GP64()), Load(Param("plane"), GP64())
	keep := ZMM()
	VPBROADCASTD(upper, keep)
	Label("loop")
	body(src, [3]Mem{{Base: dst}, {Base: dst, Index: plane, Scale: 1}, {Base: dst, Index: plane, Scale: 2}}, keep)
	ADDQ(U32(4*step), src)
	ADDQ(U32(2*step), dst)
	SUBQ(U32(step), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// cut moves the upper half of x to part, and the rest of its value stays in x.
func cut(keep, x, part reg.Register) {
	VPANDD(keep, x, part)
	VSUBPS(part, x, x)
}

// splitRow generates the splitting of float32 into three bfloat16 of 8 bits each that sum up to it.
func splitRow() {
	splitting("splitRowAMX", "split for a multiple of 16 numbers.", 16, func(src reg.Register, dst [3]Mem, keep reg.Register) {
		x, part := ZMM(), ZMM()
		VMOVUPS(Mem{Base: src}, x)
		for _, to := range dst {
			cut(keep, x, part)
			VPSRLD(U8(16), part, part)
			VPMOVDW(part, to)
		}
	})
}

// splitPairs is splitRow with numbers i and i+16 of every 32 beside each other.
func splitPairs() {
	splitting("splitPairsAMX", "splitPairs for a multiple of 32 numbers.", 32, func(src reg.Register, dst [3]Mem, keep reg.Register) {
		x, y, part, other := ZMM(), ZMM(), ZMM(), ZMM()
		VMOVUPS(Mem{Base: src}, x)
		VMOVUPS(Mem{Base: src, Disp: 64}, y)
		for _, to := range dst {
			cut(keep, x, part)
			cut(keep, y, other)
			VPSRLD(U8(16), part, part)
			VPORD(other, part, part)
			VMOVUPS(part, to)
		}
	})
}
