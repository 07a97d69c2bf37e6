package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const transposeSignature = "func(n, k int, src *float32, lds int, dst *float32, ldd int)"

// transpose8 generates dst[p·ldd+j] = src[j·lds+p] for up to 8 rows j and k columns p, a multiple of 8, with AVX2.
func transpose8() {
	vector256.text("transpose8", transposeSignature, "%s is GemmKernels.PackT for up to 8 rows and a multiple of 8 columns.")
	row := sourceRows()
	advance := func(by Op) {
		for _, r := range row {
			ADDQ(by, r)
		}
	}
	at := func(i int) Mem { return Mem{Base: row[i]} }
	k, dst, ldd := Load(Param("k"), GP64()), Load(Param("dst"), GP64()), scaled("ldd")
	n := Load(Param("n"), GP64())
	m := &mask{v: YMM()}
	laneMask(n, 0, m.v)
	CMPQ(n, U32(8))
	JNE(LabelRef("part"))
	transposeLoop("full", YMM, at, advance, k, dst, ldd, nil, func() {})
	Label("part")
	transposeLoop("masked", YMM, at, advance, k, dst, ldd, m, func() {})
}

// transpose16 is transpose8 for 16 rows with AVX-512.
func transpose16() {
	vector512.text("transpose16", transposeSignature, "%s is GemmKernels.PackT for 16 rows and a multiple of 8 columns.")
	k, dst, ldd := Load(Param("k"), GP64()), Load(Param("dst"), GP64()), scaled("ldd")
	src := newRows("src", "lds", 16, 4)
	next := src.following(16)
	transposeLoop("loop", ZMM, src.at, func(by Op) { src.advance(by); next.advance(by) }, k, dst, ldd, nil, func() {
		for i := range 16 {
			PREFETCHT0(next.at(i)) // the next 16 rows: each begins somewhere else in memory
		}
	})
}

// sourceRows returns pointers to 8 rows; those past n repeat the last row, so that nothing outside is read.
func sourceRows() (row [8]reg.Register) {
	n, lds := Load(Param("n"), GP64()), scaled("lds")
	row[0] = Load(Param("src"), GP64())
	for j := 1; j < 8; j++ {
		row[j] = GP64()
		MOVQ(row[j-1], row[j])
		ADDQ(lds, row[j])
		CMPQ(n, U32(j))
		CMOVQLE(row[j-1], row[j])
	}
	return row
}

func transposeLoop(label string, vec func() reg.VecVirtual, row func(int) Mem, advance func(Op), k, dst, ldd reg.Register, m *mask, ask func()) {
	Label(label)
	ask()
	for half := range 2 {
		for _, col := range transpose4(vec, row, 16*half) {
			isa{}.store(m, col, Mem{Base: dst})
			ADDQ(ldd, dst)
		}
	}
	advance(U32(32))
	SUBQ(U32(8), k)
	JNZ(LabelRef(label))
	VZEROUPPER()
	RET()
}

// transpose4 returns four columns from a displacement, as long as a vector: rows i, i+4 … lie in the 128-bit lanes of
// one register, so that no shuffle has to cross lanes.
func transpose4(vec func() reg.VecVirtual, row func(int) Mem, disp int) [4]reg.VecVirtual {
	var y, t, col [4]reg.VecVirtual
	for i := range y {
		y[i], t[i], col[i] = vec(), vec(), vec()
		fill, insert := VBROADCASTF128, VINSERTF128
		if y[i].Size() == 64 {
			fill = func(m, y Op) { VBROADCASTF32X4(m, y) }
			insert = func(i, m, x, y Op) { VINSERTF32X4(i, m, x, y) }
		}
		fill(row(i).Offset(disp), y[i])
		for lane := 1; lane < int(y[i].Size())/16; lane++ {
			insert(U8(lane), row(i+4*lane).Offset(disp), y[i], y[i])
		}
	}
	VUNPCKLPS(y[1], y[0], t[0])
	VUNPCKHPS(y[1], y[0], t[1])
	VUNPCKLPS(y[3], y[2], t[2])
	VUNPCKHPS(y[3], y[2], t[3])
	VUNPCKLPD(t[2], t[0], col[0])
	VUNPCKHPD(t[2], t[0], col[1])
	VUNPCKLPD(t[3], t[1], col[2])
	VUNPCKHPD(t[3], t[1], col[3])
	return col
}
