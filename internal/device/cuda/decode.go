//go:build cuda && linux

package cuda

import (
	"fmt"
	"sync"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// decodePlan is how attention of few queries is computed.
var decodePlan = struct {
	queries    int // the most per sequence
	tensorRows int // the fewest query rows of a KV head for which tensor cores are used
	blocks     int // that a multiprocessor runs at once
	cost       int // of a split, in keys
	splits     int // if not 0, the number of splits
}{queries: 16, tensorRows: 2, blocks: 4, cost: 64}

const (
	decodeHeadDim = 256 // the largest of the kernels
	decodeWarps   = 4   // of a block
	tensorArch    = 80  // the first whose tensor cores and copies the kernels use
	mostSplits    = 256
	splitKeys     = 64 // the fewest keys for which there is another split
)

var (
	decodeWords  = words("s2v..vvv")
	combineWords = words("sv....")
)

// decodeKey is what decoding kernels are compiled for.
type decodeKey struct {
	activations, cache device.Format
	headDim, width     int // width is the number of numbers that are loaded at once
	tensor             bool
}

var decodeSources sync.Map // of *cuda.Source by decodeKey

func (k decodeKey) source() *cuda.Source {
	s, ok := decodeSources.Load(k)
	if !ok {
		types := [...]string{device.F32: "float", device.BF16: "bf16", device.F16: "f16"}
		defines := []string{
			"ACTIVATIONS=" + types[k.activations], "KV=" + types[k.cache], fmt.Sprintf("HD=%d", k.headDim), fmt.Sprintf("KVW=%d", k.width),
		}
		if k.tensor {
			defines = append(defines, "TENSOR=1")
		}
		s, _ = decodeSources.LoadOrStore(k, source("decode", defines...))
	}
	return s.(*cuda.Source)
}

// decodeTile returns the number of query rows of a block, how many blocks a multiprocessor runs at once, and the bytes of dynamic
// shared memory of each. The kernels have the same sizes.
func (k decodeKey) tile(rows int) (tile, blocks, shared int) {
	if !k.tensor || rows < decodePlan.tensorRows {
		switch {
		case rows <= 2:
			return rows, decodePlan.blocks, 0
		default:
			return 4, decodePlan.blocks, 0
		}
	}
	tile, blocks, stages := 16, 2, 3
	if k.headDim > 128 {
		blocks, stages = 1, 2
	} else if rows > 16 {
		tile, blocks = 32, 1 // a second one fits, but one reads nearly as fast, and half as many splits take less time to combine
	}
	row := k.headDim
	if row%64 != 0 {
		row += 8 // so that rows do not share banks
	}
	return tile, blocks, 2 * row * (tile + decodeWarps*stages*2*16)
}

// splits returns into how many parts the keys are split, given the number of blocks of each and the number that run at once: the
// number that takes the shortest time if a block's time is that of its keys and of cost more.
func splits(blocks, atOnce, keys, cost int) int {
	best, shortest := 1, 0
	for n := 1; n <= max(1, min(keys/splitKeys, mostSplits)); n++ {
		time := (blocks*n + atOnce - 1) / atOnce * ((keys+n-1)/n + cost)
		if n == 1 || time < shortest {
			best, shortest = n, time
		}
	}
	return best
}

// decode computes attention if the queries are few.
func (d *Device) decode(o onDevice, out device.Heads, lse device.Buffer, q, k, v device.Heads) bool {
	if o.Queries > decodePlan.queries || o.HeadDim > decodeHeadDim || k.Format() != v.Format() || q.Format() == device.F16 {
		return false
	}
	if o.Batch*o.Queries == 0 {
		return true
	}
	key := decodeKey{activations: q.Format(), cache: k.Format(), headDim: o.HeadDim, width: 1}
	if vectors(key.cache, []device.Buffer{k.Buffer, v.Buffer}, k.Seq, k.Head, k.Row, v.Seq, v.Head, v.Row, o.HeadDim) == 1 {
		key.width = width(key.cache)
	}
	rows := o.Heads / o.KVHeads * o.Queries
	key.tensor = key.width > 1 && o.HeadDim%16 == 0 && key.activations == device.BF16 && key.cache == device.BF16 && d.gpu.Arch >= tensorArch
	tile, atOnce, shared := key.tile(rows)
	if shared+4<<10 > d.gpu.Shared { // beside what the kernels declare
		key.tensor = false
		tile, atOnce, shared = key.tile(rows)
	}
	tiles := (rows + tile - 1) / tile
	blocks := o.Batch * o.KVHeads * tiles
	n := decodePlan.splits
	if n == 0 {
		n = splits(blocks, atOnce*d.gpu.Units, o.Keys, decodePlan.cost+2*min(rows, tile))
	}
	var part device.Buffer
	all := o.Batch * o.Heads * o.Queries
	if n > 1 {
		part = d.New(device.F32, n*all*(o.HeadDim+2)+1)
		defer d.Free(part)
	}
	kernel := func(name string, layout []int, grid cuda.Grid, args ...[]uint64) {
		if d.stopped() {
			return
		}
		var words []uint64
		for _, a := range args {
			words = append(words, a...)
		}
		d.gpu.Launch(cuda.Kernel{Source: key.source(), Function: name, Words: layout}, grid, words...)
	}
	kernel(fmt.Sprintf("decode_%d", tile), decodeWords, cuda.Grid{X: blocks, Y: n, Threads: 32 * decodeWarps, Shared: shared},
		o.words(), []uint64{uint64(tiles), uint64(n)}, view(out), []uint64{addr(lse), addr(part)}, view(q), view(k), view(v))
	if n > 1 {
		each := 4 // numbers of a thread, as in the kernel
		if o.HeadDim%4 != 0 {
			each = 1
		}
		const threads = 128
		kernel("decode_combine", combineWords, cuda.Grid{X: (all*o.HeadDim/each + threads - 1) / threads, Threads: threads},
			o.words(), view(out), []uint64{addr(lse), addr(part), uint64(n), uint64(all)})
	}
	return true
}

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
