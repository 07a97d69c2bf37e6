//go:build cuda && linux

package cuda

import (
	"fmt"

	"gqa/internal/activation"
	"gqa/internal/cuda"
	"gqa/internal/device"
)

var (
	_ device.Fused = (*Device)(nil)

	rotateStoreWords = words("......vv.............")
	skinnyGateWords  = []int{3 * skinnyAtOnce, 1, 1, 1, 1}
)

// RotateStore implements device.Fused.
func (d *Device) RotateStore(r device.Rope, q, k, v device.Rows, pos []int32, heads, headDim int, keys, values device.Heads, first, tokens int) {
	t, kvHeads, interleaved := r.(*rope), keys.Seq/keys.Head, uint64(0)
	if len(pos) == 0 || d.stopped() || heads > 0 && !d.inside("rotation", len(pos), heads*headDim, q) || !d.inside("rotation", len(pos), kvHeads*headDim, k, v) {
		return
	}
	if t.interleaved {
		interleaved = 1
	}
	at := d.positions(pos)
	if keys.Format().Scaled() {
		rows := len(pos) * (heads + 2*kvHeads)
		d.gpu.Launch(cuda.Kernel{Source: storeSource[k.Format()], Function: "rotate_store_ints", Words: rotateStoreIntsWords}, d.warps(rows),
			intsWords([]uint64{addr(q.Buffer), uint64(q.LD), addr(k.Buffer), uint64(k.LD), addr(v.Buffer), uint64(v.LD)}, keys, values,
				uint64(first), addr(d.replay.first(first)), uint64(tokens), uint64(kvHeads), addr(at), addr(t.cosines), addr(t.sines),
				uint64(len(pos)), uint64(heads), uint64(headDim), uint64(t.planes), interleaved)...)
		return
	}
	wide := vectors(k.Format(), []device.Buffer{q.Buffer, k.Buffer, v.Buffer, keys.Buffer, values.Buffer, t.cosines, t.sines},
		q.LD, k.LD, v.LD, headDim, t.planes, keys.Seq, keys.Head, keys.Row, values.Seq, values.Head, values.Row)
	work := len(pos) * (heads + 2*kvHeads) * max(t.planes, 1)
	if wide == 1 {
		work /= width(k.Format())
	}
	const threads = 128
	d.gpu.Launch(cuda.Kernel{Source: rowsSource[k.Format()], Function: "rotate_store", Words: rotateStoreWords},
		cuda.Grid{X: max(1, min((work+threads-1)/threads, 32*d.gpu.Units)), Threads: threads},
		addr(q.Buffer), uint64(q.LD), addr(k.Buffer), uint64(k.LD), addr(v.Buffer), uint64(v.LD),
		addr(keys.Buffer), uint64(keys.Seq), uint64(keys.Head), uint64(keys.Row), uint64(keys.Format()),
		addr(values.Buffer), uint64(values.Seq), uint64(values.Head), uint64(values.Row), uint64(values.Format()),
		uint64(first), addr(d.replay.first(first)), uint64(tokens), uint64(kvHeads), addr(at), addr(t.cosines), addr(t.sines), wide,
		uint64(len(pos)), uint64(heads), uint64(headDim), uint64(t.planes), interleaved)
}

// MultiplyGate implements device.Fused for few rows in bfloat16.
func (d *Device) MultiplyGate(act activation.Func, y, x, gate, up device.Buffer, rows, n, k int) bool {
	f := fewOf(x, []device.Product{{N: n, Y: y, W: gate}, {N: n, Y: y, W: up}})
	if len(f.ps) != 2 || rows == 0 || !d.tiled(rows, k, x, f) {
		return false
	}
	if d.stream(rows, k, x, f, act, true) {
		return true
	}
	tile, grid := d.tiles(rows, k, (n+skinnyHigh/2-1)/(skinnyHigh/2))
	d.skinny(skinnyTiles, fmt.Sprintf("skinny_gate_%d", tile), skinnyGateWords, grid, append(f.args, uint64(act), addr(x), uint64(rows), uint64(k)))
	return true
}
