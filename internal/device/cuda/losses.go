//go:build cuda && linux

package cuda

import (
	"math"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// losses launches a kernel with one block per row of logits. Small blocks overlap more rows.
func (d *Device) losses(s *cuda.Source, name string, rows, vocab int, args ...uint64) {
	threads := 64
	for threads < 512 && threads*64 < vocab {
		threads *= 2
	}
	if rows > 0 {
		d.launch(s, name, cuda.Grid{X: rows, Threads: threads}, args...)
	}
}

// CrossEntropy implements device.Losses.
func (d *Device) CrossEntropy(ce, logits device.Buffer, targets []int32, rows, vocab int) {
	d.crossEntropy(ce, logits, targets, 0, 1, rows, vocab)
}

// CrossEntropyGradient implements device.Losses.
func (d *Device) CrossEntropyGradient(ce, logits device.Buffer, targets []int32, scale float32, rows, vocab int) {
	d.crossEntropy(ce, logits, targets, 1, scale, rows, vocab)
}

func (d *Device) crossEntropy(ce, logits device.Buffer, targets []int32, gradient uint64, scale float32, rows, vocab int) {
	at := d.ids(targets[:rows])
	defer d.Free(at)
	d.losses(lossSource[logits.Format()], "cross_entropy", rows, vocab, addr(ce), addr(logits), addr(at), gradient, cuda.Float(scale), uint64(vocab))
}

// Argmax implements device.Losses. It waits.
func (d *Device) Argmax(best []int32, logits device.Buffer, rows, vocab int) {
	d.TopLogP(best, nil, logits, 1, rows, vocab, 1)
}

// Distill implements device.Losses.
func (d *Device) Distill(ce, kl, logits device.Buffer, targets []int32, soft device.Soft, o device.Distillation, scale float32, rows, vocab int) {
	at := d.ids(targets[:rows])
	defer d.Free(at)
	how := []uint64{cuda.Float(o.Weight), cuda.Float(o.Temperature), cuda.Float(scale), uint64(vocab)}
	if !soft.Logits.None() {
		d.losses(lossSource[logits.Format()], "distill", rows, vocab, append([]uint64{addr(ce), addr(kl), addr(logits), addr(soft.Logits), addr(at)}, how...)...)
		return
	}
	n := rows * soft.K
	ids, logP, kept := d.ids(soft.IDs[:n]), d.New(device.F32, n), d.New(device.F32, n)
	if !d.stopped() {
		cuda.Send(d.gpu, logP.Addr(), soft.LogP[:n])
	}
	d.losses(lossSource[logits.Format()], "distill_top", rows, vocab,
		append([]uint64{addr(ce), addr(kl), addr(logits), addr(ids), addr(logP), addr(kept), uint64(soft.K), addr(at)}, how...)...)
	for _, b := range []device.Buffer{ids, logP, kept} {
		d.Free(b)
	}
}

// TopLogP implements device.Losses. It waits.
func (d *Device) TopLogP(ids []int32, logP []float32, logits device.Buffer, temperature float32, rows, vocab, k int) {
	n := rows * k
	if n == 0 {
		return
	}
	which, p := d.New(device.F32, n), device.Buffer{}
	defer d.Free(which)
	if logP != nil {
		p = d.New(device.F32, n)
		defer d.Free(p)
	}
	d.losses(lossSource[logits.Format()], "top_log_p", rows, vocab, addr(which), addr(p), addr(logits), cuda.Float(temperature), uint64(vocab), uint64(k))
	if d.stopped() {
		return
	}
	err := cuda.Download(d.gpu, ids[:n], which.Addr())
	if err == nil && logP != nil {
		err = cuda.Download(d.gpu, logP[:n], p.Addr())
	}
	if err != nil {
		d.fail(err)
	}
}

// Sum implements device.Losses.
func (d *Device) Sum(terms ...device.Term) device.Number {
	place := d.New(device.F32, 2) // one 64-bit number
	defer d.Free(place)
	d.sum(place.Addr(), terms)
	return d.number(place)
}

// number returns the 64-bit number at a place, which may be overwritten by later operations.
func (d *Device) number(place device.Buffer) device.Number {
	if d.stopped() {
		return func() float64 { return math.NaN() }
	}
	wait := d.gpu.Fetch(place.Addr())
	return func() float64 {
		x, err := wait() // also if memory was lacking since
		if err != nil {
			d.fail(err)
		}
		return x
	}
}

// Total implements device.Losses.
func (d *Device) Total(dst device.Buffer, scale float32, terms ...device.Term) {
	place := d.New(device.F32, 2)
	defer d.Free(place)
	d.sum(place.Addr(), terms)
	d.launch(lossSource[device.F32], "scaled_total", cuda.Grid{Threads: 1}, addr(dst), addr(place), cuda.Float(scale))
}

// sum writes a sum of terms as a 64-bit number.
func (d *Device) sum(to uintptr, terms []device.Term) {
	var words []uint64 // of a Term in loss.cu for each
	blocks, count := 0, 0
	for _, t := range terms {
		if t.X.Len() == 0 {
			continue
		}
		squares := uint64(0)
		if t.Squares {
			squares = 1
		}
		words = append(words, addr(t.X), uint64(t.X.Format()), uint64(t.X.Len()), uint64(blocks), squares, math.Float64bits(t.Weight))
		blocks += chunks(t.X.Len())
		count++
	}
	if count == 0 {
		if !d.stopped() {
			d.gpu.Clear(to, 8)
		}
		return
	}
	table, part := d.table(words), d.New(device.F32, 2*blocks)
	defer d.Free(table)
	defer d.Free(part)
	d.launch(lossSource[device.F32], "partial_sums", cuda.Grid{X: blocks, Threads: 256}, addr(part), addr(table), uint64(count))
	d.launch(lossSource[device.F32], "add_sums", cuda.Grid{Threads: 1024}, uint64(to), addr(part), uint64(blocks))
}
