package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	tileBytes  = 1024
	planeBytes = 2 * tileBytes  // of two tiles beside each other
	stepBytes  = 3 * planeBytes // of 32 elements of the sums, for 32 rows or columns
)

// blockKernels generates what large products of float32 need: both factors are split in three bfloat16, and the six products
// of the parts that a float32 can show are summed.
func blockKernels() {
	blockPanels()
	blockRows()
	blockPairs()
}

// partProducts are the parts of A and B that are multiplied, the largest product last. One factor changes at a time.
var partProducts = [][2]int{{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}}

// blockPanels generates the product of 32 rows of A with panels of 32 columns of B. Tiles 0 to 3 are sums, 4 and 5 of A, 6
// and 7 of B.
func blockPanels() {
	TEXT("blockPanelsAMX", NOSPLIT, "func(panels, steps int, a, b, c *float32, ldc int, acc bool, shapes *byte)")
	Doc("blockPanelsAMX is tilePath.panels. ldc is in bytes.")
	Pragma("noescape")
	a, b, c, below, ldc, line, next := reg.RSI, reg.RBX, reg.RDI, reg.R10, reg.R8, reg.R9, reg.RDX
	steps, panels, right, acc := reg.R12, reg.R13, reg.R11, reg.RAX
	Load(Param("shapes"), a)
	tileConfig(a)
	Load(Param("panels"), panels)
	Load(Param("b"), b)
	Load(Param("c"), c)
	Load(Param("ldc"), ldc)
	Load(Param("acc"), reg.AL)
	MOVQ(I32(64), line)
	sums := func(f func(t int, base, stride reg.GPPhysical)) {
		MOVQ(ldc, below)
		SHLQ(U8(4), below)
		ADDQ(c, below)
		for i, row := range []reg.GPPhysical{c, below} {
			LEAQ(Mem{Base: row, Disp: 64}, right)
			f(2*i, row, ldc)
			f(2*i+1, right, ldc)
		}
	}
	Label("panel")
	TESTB(acc.As8(), acc.As8())
	JE(LabelRef("zero"))
	sums(tileLoad)
	JMP(LabelRef("begin"))
	Label("zero")
	for i := range 4 {
		tileZero(i)
	}
	Label("begin")
	Load(Param("a"), a)
	Load(Param("steps"), steps)
	LEAQ(Mem{Base: c, Disp: 128}, next)
	Label("step")
	held := [2]int{-1, -1}
	for n, parts := range partProducts {
		for f, base := range []reg.GPPhysical{a, b} {
			if held[f] == parts[f] {
				continue
			}
			held[f] = parts[f]
			for i := range 2 {
				tileLoadAt(4+2*f+i, base, line, parts[f]*planeBytes+i*tileBytes)
			}
		}
		for i := range 4 {
			tileDot(i, 4+i/2, 6+i%2)
			for l := range 4 { // the next step's part of B
				PREFETCHT0(Mem{Base: b, Disp: stepBytes + 64*(16*n+4*i+l)})
			}
			if at := 4*n + i; at%3 == 0 { // eight rows of the next part of C
				PREFETCHT0(Mem{Base: next})
				PREFETCHT0(Mem{Base: next, Disp: 64})
				ADDQ(ldc, next)
			}
		}
	}
	ADDQ(U32(stepBytes), a)
	ADDQ(U32(stepBytes), b)
	DECQ(steps)
	JNZ(LabelRef("step"))
	sums(tileStore)
	ADDQ(U32(128), c)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	tileRelease()
	VZEROUPPER()
	RET()
}

// blockRows generates the splitting of rows of A, 32 elements at a time, into the tiles of blockPanels.
func blockRows() {
	TEXT("blockRowAMX", NOSPLIT, "func(steps int, src *float32, dst *uint16, ahead int)")
	Doc("blockRowAMX is tilePath.packRow. ahead is in bytes.")
	Pragma("noescape")
	steps, src, dst := Load(Param("steps"), GP64()), Load(Param("src"), GP64()), Load(Param("dst"), GP64())
	ahead := Load(Param("ahead"), GP64())
	keep, words := ZMM(), ZMM()
	VPBROADCASTD(upper, keep)
	VMOVUPS(upperWords, words)
	x, y, part, other := ZMM(), ZMM(), ZMM(), ZMM()
	Label("loop")
	VMOVUPS(Mem{Base: src}, x)
	VMOVUPS(Mem{Base: src, Disp: 64}, y)
	PREFETCHT1(Mem{Base: src, Index: ahead, Scale: 1})
	PREFETCHT1(Mem{Base: src, Index: ahead, Scale: 1, Disp: 64})
	for plane := range 3 {
		cut(keep, x, part)
		cut(keep, y, other)
		VPERMT2W(other, words, part)
		VMOVUPS(part, Mem{Base: dst, Disp: plane * planeBytes})
	}
	ADDQ(U32(128), src)
	ADDQ(U32(stepBytes), dst)
	DECQ(steps)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// blockPairs generates the splitting of pairs of rows of B, 32 columns of them, into the tiles of blockPanels.
func blockPairs() {
	TEXT("blockPairsAMX", NOSPLIT, "func(steps int, src *float32, ld int, alpha float32, dst *uint16)")
	Doc("blockPairsAMX is tilePath.packPairs. ld is in bytes.")
	Pragma("noescape")
	steps, src, dst := Load(Param("steps"), GP64()), Load(Param("src"), GP64()), Load(Param("dst"), GP64())
	ld, pairs := Load(Param("ld"), GP64()), GP64()
	keep, alpha := ZMM(), ZMM()
	VPBROADCASTD(upper, keep)
	VBROADCASTSS(address("alpha"), alpha)
	Label("step")
	MOVQ(I32(16), pairs)
	Label("pair")
	for tile := range 2 {
		x, y := ZMM(), ZMM()
		PREFETCHT0(Mem{Base: src, Disp: 128 + 64*tile}) // the next panel's
		PREFETCHT0(Mem{Base: src, Index: ld, Scale: 1, Disp: 128 + 64*tile})
		VMULPS(Mem{Base: src, Disp: 64 * tile}, alpha, x)
		VMULPS(Mem{Base: src, Index: ld, Scale: 1, Disp: 64 * tile}, alpha, y)
		splitWords(keep, x, y, func(plane int) Mem { return Mem{Base: dst, Disp: plane*planeBytes + tile*tileBytes} })
	}
	LEAQ(Mem{Base: src, Index: ld, Scale: 2}, src)
	ADDQ(U32(64), dst)
	DECQ(pairs)
	JNZ(LabelRef("pair"))
	ADDQ(U32(stepBytes-tileBytes), dst)
	DECQ(steps)
	JNZ(LabelRef("step"))
	VZEROUPPER()
	RET()
}
