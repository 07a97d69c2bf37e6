package main

import "fmt"

// Go's assembler lacks most of the vector instructions for floating point. These are written as words, with Arm's mnemonic
// beside them: bits 0-4 are the destination, 5-9 the first operand, 16-20 the second (Arm Architecture Reference Manual,
// C7.2).

// instruction has two operands of 4 lanes; the destination of multiply-adds is the addend.
type instruction struct {
	name string
	code uint32
}

var (
	fadd  = instruction{"FADD", 0x4e20d400}
	fsub  = instruction{"FSUB", 0x4ea0d400}
	fmul  = instruction{"FMUL", 0x6e20dc00}
	fdiv  = instruction{"FDIV", 0x6e20fc00}
	fmla  = instruction{"FMLA", 0x4e20cc00}
	fmls  = instruction{"FMLS", 0x4ea0cc00}
	fmax  = instruction{"FMAX", 0x4e20f400}
	fmin  = instruction{"FMIN", 0x4ea0f400}
	faddp = instruction{"FADDP", 0x6e20d400} // sums of neighbouring lanes: those of the first operand, then the second
	fmaxp = instruction{"FMAXP", 0x6e20f400}
	fcmgt = instruction{"FCMGT", 0x6ea0e400} // all bits where the first operand is larger
	fcmeq = instruction{"FCMEQ", 0x4e20e400}
)

// do is d = n op m.
func (a *asm) do(i instruction, n, m, d vec) {
	a.word(i.code|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s V%d.4S, V%d.4S, V%d.4S", i.name, d, n, m)
}

// multiplyAddLane is d += n · the lane of m.
func (a *asm) multiplyAddLane(n, m vec, lane int, d vec) {
	high, low := uint32(lane)>>1, uint32(lane)&1
	a.word(0x4f801000|high<<11|low<<21|uint32(m)<<16|uint32(n)<<5|uint32(d), "FMLA V%d.4S, V%d.4S, V%d.S[%d]", d, n, m, lane)
}

// conversion has one operand; from and to are the arrangements of lanes.
type conversion struct {
	name, to, from string
	code           uint32
}

var (
	fabs   = conversion{"FABS", "4S", "4S", 0x4ea0f800}
	fneg   = conversion{"FNEG", "4S", "4S", 0x6ea0f800}
	fsqrt  = conversion{"FSQRT", "4S", "4S", 0x6ea1f800}
	frintn = conversion{"FRINTN", "4S", "4S", 0x4e218800} // to the nearest integer, ties to even
	fcvtns = conversion{"FCVTNS", "4S", "4S", 0x4e21a800} // the same, as int32
	// Between 16 and 32 bits, of the low half or, with a 2, of the high half of the narrow register.
	fcvtl  = conversion{"FCVTL", "4S", "4H", 0x0e217800}
	fcvtl2 = conversion{"FCVTL2", "4S", "8H", 0x4e217800}
	fcvtn  = conversion{"FCVTN", "4H", "4S", 0x0e216800}
	fcvtn2 = conversion{"FCVTN2", "8H", "4S", 0x4e216800}
	// Signed integers, the low or the high half of the narrow register.
	sxtlBytes  = conversion{"SXTL", "8H", "8B", 0x0f08a400}
	sxtlBytes2 = conversion{"SXTL2", "8H", "16B", 0x4f08a400}
	sxtl       = conversion{"SXTL", "4S", "4H", 0x0f10a400}
	sxtl2      = conversion{"SXTL2", "4S", "8H", 0x4f10a400}
	scvtf      = conversion{"SCVTF", "4S", "4S", 0x4e21d800}
)

func (a *asm) convert(c conversion, n, d vec) {
	a.word(c.code|uint32(n)<<5|uint32(d), "%s V%d.%s, V%d.%s", c.name, d, c.to, n, c.from)
}

// shiftUp16 widens 16 bits of the low or the high half of n to 32, of which they are the upper.
func (a *asm) shiftUp16(high bool, n, d vec) {
	if high {
		a.word(0x6e613800|uint32(n)<<5|uint32(d), "SHLL2 V%d.4S, V%d.8H, #16", d, n)
	} else {
		a.word(0x2e613800|uint32(n)<<5|uint32(d), "SHLL V%d.4S, V%d.4H, #16", d, n)
	}
}

// halve is d = n >> 1, as int32.
func (a *asm) halve(n, d vec) {
	a.word(0x4f3f0400|uint32(n)<<5|uint32(d), "SSHR V%d.4S, V%d.4S, #1", d, n)
}

// clearWhere is d = n where m is zero, and 0 where all its bits are set.
func (a *asm) clearWhere(m, n, d vec) {
	a.word(0x4e601c00|uint32(m)<<16|uint32(n)<<5|uint32(d), "BIC V%d.16B, V%d.16B, V%d.16B", d, n, m)
}

func (a *asm) word(code uint32, mnemonic string, args ...any) {
	a.op("WORD $0x%08x // %s", code, fmt.Sprintf(mnemonic, args...))
}
