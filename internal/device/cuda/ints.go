//go:build cuda && linux

package cuda

import (
	"fmt"
	"sync"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

var (
	_ device.Quantizer = (*Device)(nil)
	_ device.Sinker    = (*Device)(nil)
)

// Quantizes implements device.Quantizer.
func (*Device) Quantizes() {}

// Sinks implements device.Sinker.
func (*Device) Sinks() {}

var (
	storeIntsWords       = words("vv...........")
	rotateStoreIntsWords = words("......vv..............")
	expandWords          = words(".v......")
	attendSinksWords     = words("sv.vvv....")
	decodeIntsWords      = words("s2v..vvv..")
)

// warps is the launch of a kernel of which a warp computes a row at a time.
func (d *Device) warps(rows int) cuda.Grid {
	const threads = 128
	return cuda.Grid{X: max(1, min((32*rows+threads-1)/threads, 32*d.gpu.Units)), Threads: threads}
}

// intsWords returns arguments with a cache's views and scales after the first ones.
func intsWords(first []uint64, keys, values device.Heads, others ...uint64) []uint64 {
	all := append(append(first, view(keys)...), view(values)...)
	return append(append(all, addr(keys.Scales), addr(values.Scales)), others...)
}

// storeInts is Store for integers.
func (d *Device) storeInts(keys, values device.Heads, first int, k, v device.Buffer, seqs, tokens, headDim int) {
	rows := seqs * tokens * keys.Seq / keys.Head
	if !v.None() {
		rows *= 2
	}
	if !v.None() && k.Format() != v.Format() {
		d.fail(fmt.Errorf("keys of format %d are stored with values of format %d", k.Format(), v.Format()))
	}
	if d.stopped() {
		return
	}
	heads := keys.Seq / keys.Head
	d.gpu.Launch(cuda.Kernel{Source: storeSource[device.F32], Function: "store_ints", Words: storeIntsWords}, d.warps(rows),
		intsWords(nil, keys, values, addr(k), addr(v), uint64(k.Format()),
			uint64(seqs*tokens), uint64(tokens), uint64(heads), uint64(headDim), uint64(first), addr(d.replay.first(first)))...)
}

// expanded returns the numbers of keys or values, which must be freed. Those of padding are zeros.
func (d *Device) expanded(o onDevice, h device.Heads) device.Heads {
	rows, act := o.Batch*o.KVHeads*o.Keys, d.options.Activations
	head := o.Keys * o.HeadDim
	y := device.Heads{Buffer: d.New(act, rows*o.HeadDim), Seq: o.KVHeads * head, Head: head, Row: o.HeadDim}
	if rows > 0 && !d.stopped() {
		args := append([]uint64{addr(y.Buffer)}, view(h)...)
		d.gpu.Launch(cuda.Kernel{Source: storeSource[act], Function: "expand", Words: expandWords}, d.warps(rows),
			append(args, addr(h.Scales), addr(o.lens), uint64(o.Batch), uint64(o.KVHeads), uint64(o.Keys), uint64(o.HeadDim))...)
	}
	return y
}

var sinksSources sync.Map // of *cuda.Source by head dim

// attendSinks adds the sinks that are not in windows to the results of attention to these.
func (d *Device) attendSinks(o onDevice, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	rows := o.Batch * o.Heads * o.Queries
	if rows == 0 || d.stopped() {
		return
	}
	if !o.SinkQueries.None() {
		q = o.SinkQueries
	}
	s, ok := sinksSources.Load(o.HeadDim)
	if !ok {
		s, _ = sinksSources.LoadOrStore(o.HeadDim, source("sinks", fmt.Sprintf("HD=%d", o.HeadDim)))
	}
	var args []uint64
	for _, a := range [][]uint64{o.words(), view(out), {addr(lse)}, view(q), view(k), view(v), {addr(k.Scales), addr(v.Scales), uint64(o.Sinks), uint64(o.Batch)}} {
		args = append(args, a...)
	}
	const threads = 128
	grid := cuda.Grid{X: (32*rows + threads - 1) / threads, Threads: threads}
	d.gpu.Launch(cuda.Kernel{Source: s.(*cuda.Source), Function: "attend_sinks", Words: attendSinksWords}, grid, args...)
}

// intsKey is what decoding kernels for integers are compiled for.
type intsKey struct {
	activations   device.Format
	bits, headDim int
	load          int // bytes that a thread loads at once; 0: tensor cores are used
}

var intsSources sync.Map // of *cuda.Source by intsKey

func (k intsKey) source() *cuda.Source {
	s, ok := intsSources.Load(k)
	if !ok {
		act := map[device.Format]string{device.F32: "float", device.BF16: "bf16"}[k.activations]
		how := "TENSOR=1"
		if k.load > 0 {
			how = fmt.Sprintf("LOAD=%d", k.load)
		}
		s, _ = intsSources.LoadOrStore(k, source("decode_ints", "ACTIVATIONS="+act, fmt.Sprintf("INTS=%d", k.bits), fmt.Sprintf("HD=%d", k.headDim), how))
	}
	return s.(*cuda.Source)
}

// tile is decodeKey.tile.
func (k intsKey) tile(rows int) (tile, blocks, shared int) {
	if k.load > 0 {
		if rows > 2 {
			rows = 4
		}
		return rows, decodePlan.blocks, 0
	}
	tile, blocks = 16, 2
	switch {
	case rows > 16 && k.headDim <= 128:
		tile = 32
	case k.bits == 8 && k.headDim <= 128:
		blocks = 3
	}
	return tile, blocks, 4 * decodeWarps * tile * (k.headDim + 8)
}

// decodesInts reports whether the kernels for few queries can compute attention to integers.
func (o onDevice) decodesInts(k, v device.Heads) bool {
	return o.Queries <= decodePlan.queries && o.HeadDim <= decodeHeadDim && k.Format() == v.Format() && k.Row == o.HeadDim && v.Row == o.HeadDim &&
		widthsOf(o.Scores).values == o.HeadDim
}

// intsKeyOf returns the kernel for an attention.
func (d *Device) intsKeyOf(o onDevice, q, k, v device.Heads) intsKey {
	bits := k.Format().Bits()
	key := intsKey{activations: q.Format(), bits: bits, headDim: o.HeadDim, load: 1}
	bytes, at := k.Format().Bytes(o.HeadDim), k.Addr()|v.Addr() // all rows are as aligned as the first and their length
	if bytes%32 == 0 && at%32 == 0 && key.activations == device.BF16 && d.gpu.Arch >= tensorArch {
		key.load = 0
		if _, _, shared := key.tile(o.Heads / o.KVHeads * o.Queries); shared+4<<10 <= d.gpu.Shared { // beside what the kernels declare
			return key
		}
		key.load = 1
	}
	if bytes%bits == 0 && at%uintptr(bits) == 0 {
		key.load = bits
	}
	return key
}

// decodeInts computes attention of few queries to integers.
func (d *Device) decodeInts(o onDevice, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	if o.Batch*o.Queries == 0 {
		return
	}
	key := d.intsKeyOf(o, q, k, v)
	tile, atOnce, shared := key.tile(o.Heads / o.KVHeads * o.Queries)
	if shared > 0 {
		atOnce = max(1, min(atOnce, d.gpu.Shared/(shared+4<<10)))
	}
	d.launchDecode(decodeLaunch{key.source(), decodeIntsWords, tile, 32 * decodeWarps, atOnce, shared, true}, o, out, lse,
		view(q), view(k), view(v), []uint64{addr(k.Scales), addr(v.Scales)})
}
