//go:build cuda && linux

package cuda

import (
	"fmt"
	"sync"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// valuesInKeys reports whether values are the first numbers of the keys, in the same memory.
func (o onDevice) valuesInKeys(k, v device.Heads) bool {
	w := widthsOf(o.Scores)
	return w.values < w.keys && k.Addr() == v.Addr() && k.Seq == v.Seq && k.Head == v.Head && k.Row == v.Row
}

var latentSources sync.Map // of *cuda.Source by widths

func latentSource(w widths) *cuda.Source {
	s, ok := latentSources.Load(w)
	if !ok {
		s, _ = latentSources.LoadOrStore(w, source("decode_latent", "ACTIVATIONS=bf16", fmt.Sprintf("HD=%d", w.keys), fmt.Sprintf("VD=%d", w.values), "LATENT=1"))
	}
	return s.(*cuda.Source)
}

// latentLaunch returns the launch for so many query rows. The kernels have the same sizes.
func (w widths) latentLaunch(rows int) decodeLaunch {
	const step, stages = 32, 3
	l := decodeLaunch{source: latentSource(w), layout: decodeWords, tile: 16, threads: 128, atOnce: 1}
	for l.tile < min(rows, 64) {
		l.tile, l.threads = 2*l.tile, 256
	}
	l.shared = 2 * ((l.tile+stages*step)*(w.keys+8) + l.tile*(step+8))
	return l
}

// latentDeclared is more than the bytes of shared memory that the kernels declare.
const latentDeclared = 16 << 10

// decodeLatent computes attention of few queries to keys whose first numbers are the values, if tensor cores can.
func (d *Device) decodeLatent(o onDevice, out device.Heads, lse device.Buffer, q, k device.Heads) bool {
	w, l := widthsOf(o.Scores), decodeLaunch{}
	fits := o.Queries <= decodePlan.queries && w.keys%16 == 0 && w.values%16 == 0 && q.Format() == device.BF16 && k.Format() == device.BF16 &&
		d.gpu.Arch >= tensorArch && vectors(k.Format(), []device.Buffer{k.Buffer}, k.Seq, k.Head, k.Row) == 1
	if fits {
		l = w.latentLaunch(o.Heads / o.KVHeads * o.Queries)
		fits = l.shared+latentDeclared <= d.gpu.Shared
	}
	if fits && o.Batch*o.Queries > 0 {
		d.launchDecode(l, o, out, lse, view(q), view(k), view(k))
	}
	return fits
}
