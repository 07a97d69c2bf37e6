// Command asm generates the assembly of package simd, with avo. It is a module of its own, so that the tool does not
// depend on avo. Run it by go generate in internal/cpu/simd.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	constants()
	layOutRegroup()
	layOutNibbles()
	layOutQuads()
	for _, s := range []isa{vector256, vector512} {
		s.micros()
		s.products()
		s.vectors()
		s.exponentials()
		s.halves()
		s.laneKernels()
		s.intKernels()
		for _, f := range formats {
			s.dotTiles(f)
		}
	}
	transpose8()
	transpose16()
	tileKernels()
	pairKernels()
	quadKernels()
	vendor()
	Generate()
}

// vendor generates the reading of the name of the processor's maker.
func vendor() {
	TEXT("vendor", NOSPLIT, "func(name *[12]byte)")
	Doc("vendor is the twelve letters of CPUID's leaf 0.")
	Pragma("noescape")
	name := Load(Param("name"), reg.R8)
	XORL(reg.EAX, reg.EAX)
	XORL(reg.ECX, reg.ECX)
	CPUID()
	for i, letters := range []reg.Register{reg.EBX, reg.EDX, reg.ECX} {
		MOVL(letters, Mem{Base: name, Disp: 4 * i})
	}
	RET()
}

// products generates what large products need: the tile, and the packing of panels as wide as it has rows or columns.
func (s isa) products() {
	if s.masks {
		s.panel(8, 3)
		s.panel(8, 2)
		s.packN(48)
		s.packN(32)
		return
	}
	s.panel(6, 2)
	for _, width := range []int{6, 8, 16} {
		s.packN(width)
	}
}

// isa is an instruction set: float32 lanes per register, rows of a whole tile, and whether it has opmasks (AVX-512).
type isa struct {
	name  string
	lanes int
	mr    int
	masks bool
}

// AVX-512 has the registers of AVX2, too.
var (
	vector256 = isa{"AVX2", 8, 6, false}
	vector512 = isa{"AVX512", 16, 14, true}
)

func (s isa) text(name, signature, doc string) {
	TEXT(name+s.name, NOSPLIT, signature)
	Doc(fmt.Sprintf(doc, name+s.name))
	Pragma("noescape")
}

func (s isa) reg() reg.VecVirtual {
	if s.masks {
		return ZMM()
	}
	return YMM()
}

// registers is how many vector registers there are.
func (s isa) registers() int {
	if s.masks {
		return len(zmm)
	}
	return len(ymm)
}

// fixed returns register i, which hand-allocated kernels use.
func (s isa) fixed(i int) reg.VecPhysical {
	if s.masks {
		return zmm[i]
	}
	return ymm[i]
}

var (
	zmm = []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12,
		reg.Z13, reg.Z14, reg.Z15, reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24,
		reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}
	ymm = []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12,
		reg.Y13, reg.Y14, reg.Y15,
	}
)

var maskTable Mem

// constants lays out the tables. Vectors of one constant are 64 bytes, for either width.
func constants() {
	maskTable = GLOBL("lanes", RODATA|NOPTR)
	for i := range 32 {
		DATA(4*i, U32(map[bool]uint32{true: 0xffffffff, false: 0}[i < 16]))
	}
	for _, c := range numbers {
		c.define()
	}
}

// laneMask returns the AVX2 mask of lanes [from,from+8) of n lanes: all ones where the lane is below n.
func laneMask(n reg.Register, from int, mask reg.Register) {
	table, at := GP64(), GP64()
	LEAQ(maskTable, table)
	MOVQ(U32(16), at)
	SUBQ(n, at)
	VMOVUPS(Mem{Base: table, Index: at, Scale: 4, Disp: 4 * from}, mask)
}

// mask is a set of lanes: an opmask or a vector; nil means all lanes.
type mask struct {
	k, v reg.Register
}

// tail returns the mask of the first n lanes, n below the number of lanes.
func (s isa) tail(n reg.GPVirtual) *mask {
	if !s.masks {
		v := YMM()
		laneMask(n, 0, v)
		return &mask{v: v}
	}
	bits, k := GP64(), K()
	MOVQ(I32(-1), bits)
	BZHIQ(n, bits, bits)
	KMOVW(bits.As32(), k)
	return &mask{k: k}
}

// load loads the lanes of m, the others become zero.
func (s isa) load(m *mask, from Op, to reg.Register) {
	switch {
	case m == nil:
		VMOVUPS(from, to)
	case s.masks:
		VMOVUPS_Z(from, m.k, to)
	default:
		VMASKMOVPS(from, m.v, to)
	}
}

// loaded is load into a register of its own.
func (s isa) loaded(m *mask, from Op) reg.VecVirtual {
	r := s.reg()
	s.load(m, from, r)
	return r
}

// loadOr is load, but the other lanes become those of fill.
func (s isa) loadOr(m *mask, from Op, fill, to reg.Register) {
	switch {
	case m == nil:
		VMOVUPS(from, to)
	case s.masks:
		VMOVAPS(fill, to)
		VMOVUPS(from, m.k, to)
	default:
		VMASKMOVPS(from, m.v, to)
		VBLENDVPS(m.v, to, fill, to)
	}
}

func (s isa) store(m *mask, from reg.Register, to Op) {
	switch {
	case m == nil:
		VMOVUPS(from, to)
	case s.masks:
		VMOVUPS(from, m.k, to)
	default:
		VMASKMOVPS(from, m.v, to)
	}
}

func zero(r reg.Register) {
	if r.Size() == 64 {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

// broadcast loads a float32 parameter into all lanes.
func (s isa) broadcast(param string) reg.VecVirtual {
	r := s.reg()
	VBROADCASTSS(address(param), r)
	return r
}

// each runs body for the vectors of n elements: unroll at a time while it can, then one at a time, then the tail. at
// is the address of vector u of the group.
func (s isa) each(n reg.GPVirtual, unroll int, body func(m *mask, u int, at func(base reg.Register) Mem)) {
	i := GP64()
	s.whole(n, i, unroll, body)
	TESTQ(n, n)
	JE(LabelRef("done"))
	body(s.tail(n), 0, s.vectorAt(i, 0))
	Label("done")
}

func (s isa) vectorAt(i reg.Register, u int) func(base reg.Register) Mem {
	return func(base reg.Register) Mem { return Mem{Base: base, Index: i, Scale: 4, Disp: 4 * s.lanes * u} }
}

// whole is each without the tail: it leaves in n how many elements remain, and in i the index of the first.
func (s isa) whole(n, i reg.GPVirtual, unroll int, body func(m *mask, u int, at func(base reg.Register) Mem)) {
	XORQ(i, i)
	loop := func(label string, count int) {
		Label(label)
		CMPQ(n, U32(s.lanes*count))
		JL(LabelRef(label + "_end"))
		for u := range count {
			body(nil, u, s.vectorAt(i, u))
		}
		ADDQ(U32(s.lanes*count), i)
		SUBQ(U32(s.lanes*count), n)
		JMP(LabelRef(label))
		Label(label + "_end")
	}
	if unroll > 1 {
		loop("unrolled", unroll)
	}
	loop("vector", 1)
}

// fold reduces the lanes of r by op to the lowest lane.
func (s isa) fold(r reg.VecVirtual, op func(...Op)) reg.Register {
	if s.masks {
		half := YMM()
		VEXTRACTF64X4(U8(1), r, half)
		op(half, r.AsY(), r.AsY())
	}
	x := XMM()
	VEXTRACTF128(U8(1), r.AsY(), x)
	op(x, r.AsX(), x)
	y := XMM()
	VPERMILPS(U8(0x4e), x, y)
	op(y, x, x)
	VPERMILPS(U8(0xb1), x, y)
	op(y, x, x)
	return x
}

// length loads the length of a slice parameter, pointer its base.
func length(param string) reg.GPVirtual {
	return Load(Param(param).Len(), GP64()).(reg.GPVirtual)
}

func pointer(param string) reg.Register { return Load(Param(param).Base(), GP64()) }
