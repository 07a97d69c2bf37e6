package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// packN generates the packing of rows into panels as wide as a tile has rows or columns:
// dst[t·stride+r·width+j] = src[r·lds+t·width+j]. Rows may be in pages far stride, so it prefetches those that follow.
func (s isa) packN(width int) {
	s.text(fmt.Sprintf("packN%dx", width), "func(rows, panels int, src *float32, lds int, dst *float32, stride int)", "%s is GemmKernels.PackN of a width.")
	rows, panels, lds, stride := Load(Param("rows"), GP64()), GP64(), scaled("lds"), scaled("stride")
	src, dst := Load(Param("src"), GP64()), Load(Param("dst"), GP64())
	part := s.part(width)
	Label("row")
	Load(Param("panels"), panels)
	from, to, soon := GP64(), GP64(), GP64()
	MOVQ(src, from)
	MOVQ(dst, to)
	LEAQ(Mem{Base: src, Index: lds, Scale: 8}, soon)
	Label("panel")
	for at := 0; at < width; at += s.lanes {
		v, m := s.reg(), part
		if at+s.lanes <= width {
			m = nil
		}
		s.load(m, Mem{Base: from, Disp: 4 * at}, v)
		s.store(m, v, Mem{Base: to, Disp: 4 * at})
	}
	for at := 0; at < width; at += 16 {
		PREFETCHT0(Mem{Base: soon, Disp: 4 * at})
	}
	ADDQ(U32(4*width), from)
	ADDQ(U32(4*width), soon)
	ADDQ(stride, to)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	ADDQ(lds, src)
	ADDQ(U32(4*width), dst)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// part returns the mask of the last, incomplete register of width elements; nil if there is none.
func (s isa) part(width int) *mask {
	n := width % s.lanes
	if n == 0 {
		return nil
	}
	count := GP64()
	MOVQ(I32(n), count)
	return s.tail(count)
}
