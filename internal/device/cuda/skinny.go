//go:build cuda && linux

package cuda

import (
	"fmt"

	"gqa/internal/activation"
	"gqa/internal/cuda"
	"gqa/internal/device"
)

// skinny says for how many rows products are computed by the kernels for few rows.
var skinny = struct {
	tensor int // with tensor cores, at most 32
	same   int // without them, by weights in x's format
	other  int // by weights in another format
}{tensor: 16, same: 4, other: 16}

const (
	skinnyAtOnce  = 4  // products of a launch
	skinnyColumns = 16 // of a block without tensor cores
	skinnyHigh    = 32 // columns of a block with tensor cores
	skinnyRing    = 4  // tiles of a warp with tensor cores
)

var (
	skinnyWords      = []int{3 * skinnyAtOnce, 1, 1, 1, 1, 1}
	skinnyTilesWords = []int{3 * skinnyAtOnce, 1, 1, 1}
	streamWords      = []int{3 * skinnyAtOnce, 1, 1, 1, 1}
)

// few are products of one launch: with weights of one format.
type few struct {
	ps       []device.Product
	format   device.Format
	operands []device.Buffer // x and the weights
	args     []uint64
}

// fewOf returns the first of the products.
func fewOf(x device.Buffer, ps []device.Product) few {
	f := few{format: ps[0].W.Format(), operands: []device.Buffer{x}, args: make([]uint64, 0, 3*skinnyAtOnce+5)}
	for _, p := range ps[:min(len(ps), skinnyAtOnce)] {
		if p.W.Format() != f.format || p.Y.Format() != x.Format() {
			break
		}
		f.ps, f.operands = append(f.ps, p), append(f.operands, p.W)
		f.args = append(f.args, addr(p.Y), addr(p.W), uint64(p.N))
	}
	f.args = f.args[:3*skinnyAtOnce]
	return f
}

// blocks returns the number of blocks of so many columns.
func (f few) blocks(columns int) (blocks int) {
	for _, p := range f.ps {
		blocks += (p.N + columns - 1) / columns
	}
	return blocks
}

// multiplySkinny computes the first products if there are few rows, and returns how many.
func (d *Device) multiplySkinny(rows, k int, x device.Buffer, ps []device.Product) int {
	f := fewOf(x, ps)
	if len(f.ps) == 0 || rows == 0 || k == 0 || x.Format() == device.F16 || f.format == device.Rest {
		return 0
	}
	wide := uint64(0)
	if k%8 == 0 {
		wide = vectors(x.Format(), f.operands)
	}
	most := skinny.other
	if f.format == x.Format() {
		most = skinny.same
	}
	switch {
	case d.stream(rows, k, x, f, activation.Identity, false):
	case d.tiled(rows, k, x, f):
		tile, grid := d.tiles(rows, k, f.blocks(skinnyHigh))
		d.skinny(skinnyTiles, fmt.Sprintf("skinny_tiles_%d", tile), skinnyTilesWords, grid, append(f.args, addr(x), uint64(rows), uint64(k)))
	case rows <= most:
		tile := min(rows, 4)
		if tile == 3 {
			tile = 4
		}
		d.skinny(skinnySource[x.Format()], fmt.Sprintf("skinny_%d", tile), skinnyWords,
			cuda.Grid{X: f.blocks(skinnyColumns), Y: (rows + tile - 1) / tile, Threads: 256}, append(f.args, addr(x), uint64(f.format), wide, uint64(rows), uint64(k)))
	default:
		return 0
	}
	return len(f.ps)
}

// tiled reports whether products are computed with tensor cores.
func (d *Device) tiled(rows, k int, x device.Buffer, f few) bool {
	return x.Format() == device.BF16 && f.format == device.BF16 && k > 0 && k%8 == 0 && vectors(x.Format(), f.operands) == 1 &&
		d.gpu.Arch >= tensorArch && rows <= min(skinny.tensor, 32)
}

// tiles returns the number of rows that the kernels with tensor cores compute, and the launch of so many blocks.
func (d *Device) tiles(rows, k, blocks int) (tile int, grid cuda.Grid) {
	tile = 8
	for tile < rows {
		tile *= 2
	}
	warp := skinnyRing * (skinnyHigh + tile) * 64 * 2 // bytes of shared memory of a warp
	warps := 4
	if blocks <= d.gpu.Units { // more of a multiprocessor's loads at once
		warps = 8
	}
	warps = max(1, min(warps, (k+63)/64, d.gpu.Shared/warp))
	return tile, cuda.Grid{X: blocks, Threads: 32 * warps, Shared: warps * warp}
}

func (d *Device) skinny(s *cuda.Source, name string, layout []int, grid cuda.Grid, args []uint64) {
	if grid.X > 0 && !d.stopped() {
		d.gpu.Launch(cuda.Kernel{Source: s, Function: name, Words: layout}, grid, args...)
	}
}

// Sizes of streams.
const (
	streamBlocks = 2   // of a cluster: more of them do not fit on every GPU's multiprocessors
	streamWarps  = 8   // of a block
	streamSlots  = 3   // tiles of a warp's ring
	streamTile   = 128 // numbers of k of a tile
	streamHigh   = 16  // rows of weights of a tile
)

// streamed is the number of rows of weights per multiprocessor from which products are computed by streams.
var streamed = 64

// stream computes products, or a gate and what goes through it, by streams of weights if they are many and the GPU can. It reports whether
// it has.
func (d *Device) stream(rows, k int, x device.Buffer, f few, act activation.Func, gated bool) bool {
	columns, name, wide := 0, "stream", 8
	for _, p := range f.ps {
		columns += p.N
	}
	clusters := d.gpu.Units / streamBlocks
	if !d.tiled(rows, k, x, f) || !d.gpu.Clusters() || k%streamTile != 0 || k < streamBlocks*streamTile || columns < streamed*d.gpu.Units {
		return false
	}
	if rows > 8 {
		wide = 16
	}
	each := (columns + clusters - 1) / clusters // rows of weights of a cluster
	if gated {
		name, each = "stream_gate", 2*((f.ps[0].N+clusters-1)/clusters)
	}
	parts := (k/streamTile + streamBlocks - 1) / streamBlocks
	shared := 2*streamTile*(parts*wide+streamWarps*streamSlots*streamHigh) + 4*wide*((each+7)/8*8+4)
	if rows > 16 || shared > d.gpu.Shared {
		return false
	}
	d.skinny(streamsSource, fmt.Sprintf("%s_%d", name, wide), streamWords,
		cuda.Grid{X: streamBlocks * clusters, Threads: 32 * streamWarps, Shared: shared, CX: streamBlocks}, append(f.args, uint64(act), addr(x), uint64(rows), uint64(k)))
	return true
}
