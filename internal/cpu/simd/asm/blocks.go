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
	amx.text("blockPanels", "func(panels, steps int, a, b, c *float32, ldc int, acc bool, shapes *byte)", "%s is AMXKernels.Panels. ldc is in bytes.")
	steps, panels, acc := reg.R12, reg.R13, reg.RAX
	Load(Param("shapes"), blockA)
	tileConfig(blockA)
	Load(Param("panels"), panels)
	Load(Param("b"), blockB)
	Load(Param("c"), blockC)
	Load(Param("ldc"), blockLDC)
	Load(Param("acc"), reg.AL)
	MOVQ(I32(64), blockLine)
	Label("panel")
	beginBlock(acc)
	Load(Param("a"), blockA)
	Load(Param("steps"), steps)
	LEAQ(Mem{Base: blockC, Disp: 128}, blockNext)
	Label("step")
	blockStep()
	ADDQ(U32(stepBytes), blockA)
	ADDQ(U32(stepBytes), blockB)
	DECQ(steps)
	JNZ(LabelRef("step"))
	eachBlockSum(tileStore)
	ADDQ(U32(128), blockC)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	tileRelease()
	VZEROUPPER()
	RET()
}

// The general registers of blockPanels: avo does not allocate registers for tile instructions.
var (
	blockA, blockB, blockC         = reg.RSI, reg.RBX, reg.RDI
	blockLDC, blockLine, blockNext = reg.R8, reg.R9, reg.RDX
)

// eachBlockSum visits the four tiles of C.
func eachBlockSum(f func(t int, base, stride reg.GPPhysical)) {
	below, right := reg.R10, reg.R11
	MOVQ(blockLDC, below)
	SHLQ(U8(4), below)
	ADDQ(blockC, below)
	for i, row := range []reg.GPPhysical{blockC, below} {
		LEAQ(Mem{Base: row, Disp: 64}, right)
		f(2*i, row, blockLDC)
		f(2*i+1, right, blockLDC)
	}
}

// beginBlock loads the sums of a panel from C, or clears them unless acc.
func beginBlock(acc reg.GPPhysical) {
	TESTB(acc.As8(), acc.As8())
	JE(LabelRef("zero"))
	eachBlockSum(tileLoad)
	JMP(LabelRef("begin"))
	Label("zero")
	for i := range 4 {
		tileZero(i)
	}
	Label("begin")
}

// blockStep adds the products of 32 elements of the sums, and prefetches the next step's part of B and the next panel's of C.
func blockStep() {
	held := [2]int{-1, -1}
	for n, parts := range partProducts {
		for f, base := range []reg.GPPhysical{blockA, blockB} {
			if held[f] == parts[f] {
				continue
			}
			held[f] = parts[f]
			for i := range 2 {
				tileLoadAt(4+2*f+i, base, blockLine, parts[f]*planeBytes+i*tileBytes)
			}
		}
		for i := range 4 {
			tileDot(i, 4+i/2, 6+i%2)
			for l := range 4 {
				PREFETCHT0(Mem{Base: blockB, Disp: stepBytes + 64*(16*n+4*i+l)})
			}
			if at := 4*n + i; at%3 == 0 { // eight rows of C
				PREFETCHT0(Mem{Base: blockNext})
				PREFETCHT0(Mem{Base: blockNext, Disp: 64})
				ADDQ(blockLDC, blockNext)
			}
		}
	}
}

// blockRows generates the splitting of rows of A, 32 elements at a time, into the tiles of blockPanels.
func blockRows() {
	amx.text("blockRow", "func(steps int, src *float32, dst *uint16, ahead int)", "%s is AMXKernels.PackRow. ahead is in bytes.")
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
	amx.text("blockPairs", "func(steps int, src *float32, ld int, alpha float32, dst *uint16)", "%s is AMXKernels.PackPairs. ld is in bytes.")
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
