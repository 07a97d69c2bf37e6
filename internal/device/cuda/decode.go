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
	mostCluster   = 8  // splits whose blocks form a cluster
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
	if o.Firsts == nil && o.valuesInKeys(k, v) {
		return d.decodeLatent(o, out, lse, q, k)
	}
	if o.Queries > decodePlan.queries || o.Firsts != nil || o.HeadDim > decodeHeadDim || widthsOf(o.Scores).values != o.HeadDim || k.Format() != v.Format() || q.Format() == device.F16 {
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
	d.launchDecode(decodeLaunch{key.source(), decodeWords, tile, 32 * decodeWarps, atOnce, shared, true}, o, out, lse, view(q), view(k), view(v))
	return true
}

// decodeLaunch is how a kernel for few queries is launched.
type decodeLaunch struct {
	source        *cuda.Source
	layout        []int
	tile, threads int  // query rows and threads of a block
	atOnce        int  // blocks that a multiprocessor runs at once
	shared        int  // bytes of a block's dynamic shared memory
	clusters      bool // blocks can combine splits themselves
}

// launchDecode launches a kernel for few queries. inputs follow the other parameters of its layout.
func (d *Device) launchDecode(l decodeLaunch, o onDevice, out device.Heads, lse device.Buffer, inputs ...[]uint64) {
	rows, values := o.Heads/o.KVHeads*o.Queries, widthsOf(o.Scores).values
	tiles := (rows + l.tile - 1) / l.tile
	blocks := o.Batch * o.KVHeads * tiles
	n := decodePlan.splits
	if n == 0 {
		n = splits(blocks, l.atOnce*d.gpu.Units, o.Keys, decodePlan.cost+2*min(rows, l.tile))
	}
	var part device.Buffer
	all, cluster := o.Batch*o.Heads*o.Queries, 1
	if n <= mostCluster && l.clusters && d.gpu.Clusters() {
		cluster = n
	}
	if n > cluster {
		part = d.New(device.F32, n*all*(values+2)+1)
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
		d.gpu.Launch(cuda.Kernel{Source: l.source, Function: name, Words: layout}, grid, words...)
	}
	args := [][]uint64{o.words(), {uint64(tiles), uint64(n)}, view(out), {addr(lse), addr(part)}}
	kernel(fmt.Sprintf("decode_%d", l.tile), l.layout, cuda.Grid{X: blocks, Y: n, Threads: l.threads, Shared: l.shared, CY: cluster}, append(args, inputs...)...)
	if n > cluster {
		each := 4 // numbers of a thread, as in the kernel
		if values%4 != 0 {
			each = 1
		}
		const threads = 128
		kernel("decode_combine", combineWords, cuda.Grid{X: (all*values/each + threads - 1) / threads, Threads: threads},
			o.words(), view(out), []uint64{addr(lse), addr(part), uint64(n), uint64(all)})
	}
}
