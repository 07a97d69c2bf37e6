package main

import "fmt"

// packing generates what packs matrices into panels.
func (a *asm) packing() {
	a.transpose()
	a.packN(mr)
	a.packN(nr)
}

// transpose generates dst[p·ldd+j] = src[j·lds+p] for 4 rows j and k columns p, a multiple of 4.
func (a *asm) transpose() {
	a.kernel("transpose4", "k int, src *float32, lds int, dst *float32, ldd int", "", "GemmKernels.PackT for 4 rows and a multiple of 4 columns")
	k, lds, dst, ldd := a.arg("k"), a.stride("lds", 4), a.arg("dst"), a.stride("ldd", 4)
	rows := []gp{a.arg("src"), a.gp(), a.gp(), a.gp()}
	for i := 1; i < 4; i++ {
		a.op("ADD %v, %v, %v", lds, rows[i-1], rows[i])
	}
	in, half, out := a.group(4), a.group(4), a.vec()
	a.loop("loop", k, 4, func() {
		for i, r := range rows {
			a.loadOn(4, r, in[i])
		}
		for i := range 2 { // pairs of rows i and i+2, then both pairs
			a.op("VZIP1 %s, %s, %s", in[i+2].s4(), in[i].s4(), half[i].s4())
			a.op("VZIP2 %s, %s, %s", in[i+2].s4(), in[i].s4(), half[i+2].s4())
		}
		for i := range 4 {
			a.op("VZIP%d %s, %s, %s", 1+i%2, half[i/2*2+1].s4(), half[i/2*2].s4(), out.s4())
			a.store(4, out, dst, 0)
			a.op("ADD %v, %v, %v", ldd, dst, dst)
		}
	})
	a.ret()
}

// packN generates the packing of rows into panels of a width: dst[t·stride+r·width+j] = src[r·lds+t·width+j].
func (a *asm) packN(width int) {
	a.kernel(fmt.Sprintf("packN%dx", width), "rows int, panels int, src *float32, lds int, dst *float32, stride int", "", "GemmKernels.PackN of a width")
	rows, panels, lds, stride := a.arg("rows"), a.gp(), a.stride("lds", 4), a.stride("stride", 4)
	src, dst, from, to := a.arg("src"), a.arg("dst"), a.gp(), a.gp()
	v := a.vec()
	a.label("row")
	a.reload("panels", panels)
	a.op("MOVD %v, %v", src, from)
	a.op("MOVD %v, %v", dst, to)
	a.label("panel")
	for at := 0; at < width; at += 4 {
		n := min(4, width-at)
		a.load(n, from, 4*at, v)
		a.store(n, v, to, 4*at)
	}
	a.op("ADD $%d, %v, %v", 4*width, from, from)
	a.op("ADD %v, %v, %v", stride, to, to)
	a.op("SUBS $1, %v, %v", panels, panels)
	a.op("BNE panel")
	a.op("ADD %v, %v, %v", lds, src, src)
	a.op("ADD $%d, %v, %v", 4*width, dst, dst)
	a.op("SUBS $1, %v, %v", rows, rows)
	a.op("BNE row")
	a.ret()
}
