package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose generates dst[p·ldd+j] = src[j·lds+p] for n <= 8 rows j and k columns p, a multiple of 8. It is bound by
// shuffles and stores, so AVX-512 has nothing to add.
func transpose() {
	TEXT("transpose8AVX2", NOSPLIT, "func(n, k int, src *float32, lds int, dst *float32, ldd int)")
	Doc("transpose8AVX2 is path.packT for up to 8 rows and a multiple of 8 columns.")
	Pragma("noescape")
	row := sourceRows()
	k, dst, ldd := Load(Param("k"), GP64()), Load(Param("dst"), GP64()), scaled("ldd")
	n := Load(Param("n"), GP64())
	m := &mask{v: YMM()}
	laneMask(n, 0, m.v)
	CMPQ(n, U32(8))
	JNE(LabelRef("part"))
	transposeLoop("full", row, k, dst, ldd, nil)
	Label("part")
	transposeLoop("masked", row, k, dst, ldd, m)
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

func transposeLoop(label string, row [8]reg.Register, k, dst, ldd reg.Register, m *mask) {
	Label(label)
	for half := range 2 {
		for _, col := range transpose4(row, 16*half) {
			isa{}.store(m, col, Mem{Base: dst})
			ADDQ(ldd, dst)
		}
	}
	for _, r := range row {
		ADDQ(U32(32), r)
	}
	SUBQ(U32(8), k)
	JNZ(LabelRef(label))
	VZEROUPPER()
	RET()
}

// transpose4 returns four columns of 8 rows, from a displacement: rows 0-3 in the low halves, rows 4-7 in the high.
func transpose4(row [8]reg.Register, disp int) [4]reg.VecVirtual {
	var y, t, col [4]reg.VecVirtual
	for i := range y {
		y[i], t[i], col[i] = YMM(), YMM(), YMM()
		VMOVUPS(Mem{Base: row[i], Disp: disp}, y[i].AsX())
		VINSERTF128(U8(1), Mem{Base: row[i+4], Disp: disp}, y[i], y[i])
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
