//go:build cuda && linux

package cuda

import (
	"gqa/internal/cuda"
	"gqa/internal/device"
)

const (
	headRows    = 8   // rows of a block of multiply_heads, as in the kernel
	headThreads = 128 // of a block, as in the kernel
	headsSkinny = 32  // the most rows for which multiply_heads is used
	headShared  = 48 << 10
)

var resizeWords = words("vv.....")

// each returns the distance between the heads of a part, 0 if it is shared.
func each(n int, shared bool) uint64 {
	if shared {
		return 0
	}
	return uint64(n)
}

// partsInside is inside for the parts of heads and their whole y; none of a and b need be there.
func (d *Device) partsInside(op string, a, b, y device.Rows, rows, heads, m, n int, shared bool) bool {
	width := heads * n
	if shared {
		width = n
	}
	for _, part := range []struct {
		rows device.Rows
		dim  int
	}{{a, heads * m}, {b, width}} {
		if !part.rows.None() {
			d.inside(op, rows, part.dim, part.rows)
		}
	}
	return d.inside(op, rows, heads*(m+n), y)
}

// JoinHeads implements device.Elementwise.
func (d *Device) JoinHeads(y, a, b device.Rows, rows, heads, m, n int, shared bool) {
	if d.partsInside("joining heads", a, b, y, rows, heads, m, n, shared) {
		d.each(headsSource[y.Format()], "join_heads", rows*heads*(m+n), addr(y.Buffer), uint64(y.LD), addr(a.Buffer), uint64(a.LD), addr(b.Buffer), uint64(b.LD),
			uint64(rows), uint64(heads), uint64(m), uint64(n), each(n, shared))
	}
}

// SplitHeads implements device.Elementwise.
func (d *Device) SplitHeads(a, b, y device.Rows, rows, heads, m, n int, shared bool) {
	if d.partsInside("splitting heads", a, b, y, rows, heads, m, n, shared) {
		d.each(headsSource[y.Format()], "split_heads", rows*heads*(m+n), addr(a.Buffer), uint64(a.LD), addr(b.Buffer), uint64(b.LD), addr(y.Buffer), uint64(y.LD),
			uint64(rows), uint64(heads), uint64(m), uint64(n), each(n, shared))
	}
}

// MultiplyHeads implements device.Products. For many rows there is a product for each head; weights in another format than x's are
// converted first.
func (d *Device) MultiplyHeads(trans bool, heads, rows, n, k int, y, x device.Heads, w device.Buffer) {
	if heads*rows*n == 0 || d.stopped() {
		return
	}
	if shared := 4 * headRows * k; rows <= headsSkinny && shared <= headShared {
		name, columns := "multiply_heads", headThreads
		if trans {
			name, columns = "multiply_heads_t", headThreads/32
		}
		grid := cuda.Grid{X: (n + columns - 1) / columns, Y: heads, Z: (rows + headRows - 1) / headRows, Threads: headThreads, Shared: shared}
		d.launch(headsSource[y.Format()], name, grid, addr(y.Buffer), uint64(y.Head), uint64(y.Row), addr(x.Buffer), uint64(x.Head), uint64(x.Row),
			addr(w), uint64(w.Format()), uint64(rows), uint64(n), uint64(k))
		return
	}
	if w.Format() != x.Format() {
		own := d.New(x.Format(), w.Len())
		d.convert(own, w, w.Len())
		defer d.Free(own)
		w = own
	}
	ldw := n
	if trans {
		ldw = k
	}
	for h := range heads {
		d.Gemm(false, trans, rows, n, k, 1, x.From(h*x.Head), x.Row, w.Slice(h*n*k, (h+1)*n*k), ldw, 0, y.From(h*y.Head), y.Row)
	}
}

// resized returns heads of another width: h with zeros at their ends, or room for the result. They have the format of h and must be freed.
func (d *Device) resized(h device.Heads, batch, rows, heads, width int) device.Heads {
	return device.Heads{Buffer: d.New(h.Format(), batch*rows*heads*width), Seq: rows * heads * width, Head: width, Row: heads * width}
}

// resize copies heads of m numbers to heads of n.
func (d *Device) resize(to, from device.Heads, batch, rows, heads, m, n int) {
	size := batch * rows * heads * n
	if size == 0 || d.stopped() {
		return
	}
	grid := cuda.Grid{X: min((size+255)/256, 32*d.gpu.Units), Threads: 256}
	d.gpu.Launch(cuda.Kernel{Source: headsSource[to.Format()], Function: "resize_heads", Words: resizeWords}, grid,
		append(append(view(to), view(from)...), uint64(batch), uint64(rows), uint64(heads), uint64(m), uint64(n))...)
}
