//go:build cuda && linux

package cuda

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gqa/internal/cuda"
	"gqa/internal/device"
	"gqa/internal/device/devicetest"
)

// open returns the first GPU. Without one the test is skipped.
func open(t *testing.T) *Device {
	t.Helper()
	if n, err := cuda.Count(); err != nil || n == 0 {
		t.Skipf("no GPU: %d found, %v", n, err)
	}
	d, err := Open(0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDevice(t *testing.T) {
	d := open(t)
	t.Logf("%s, %d multiprocessors", d.gpu.Name, d.gpu.Units)
	devicetest.Run(t, func() device.Device { return open(t) })
	if err := d.gpu.Synchronize(); err != nil {
		t.Fatal(err)
	}
}

func TestOutOfMemory(t *testing.T) {
	d := open(t)
	b := d.New(device.F32, 1<<40)
	d.Clear(b)
	if err := new(MemoryError); !errors.As(d.Err(), &err) || err.Wanted < 1<<42 {
		t.Errorf("error %v", d.Err())
	}
}

// TestAttentionBF16 compares cuDNN's attention and its gradient with our own kernels'.
func TestAttentionBF16(t *testing.T) {
	open(t)
	own, _ := Open(0, Options{Activations: device.BF16})
	fast, _ := Open(0, Options{Activations: device.BF16, Nondeterministic: true})
	for _, s := range []device.Scores{
		{Batch: 2, Queries: 256, Keys: 256, Heads: 8, KVHeads: 2, HeadDim: 64, Scale: 0.125, Causal: true},
		{Batch: 1, Queries: 200, Keys: 200, Heads: 4, KVHeads: 4, HeadDim: 128, Scale: 0.09, Causal: true},
		{Batch: 3, Queries: 128, Keys: 192, Heads: 4, KVHeads: 1, HeadDim: 32, Scale: 0.2},
	} {
		want, _ := attended(own, s)
		got, used := attended(fast, s)
		if err := fast.Err(); err != nil {
			t.Fatal(err)
		}
		if !used {
			t.Errorf("%+v: not by cuDNN: %v", s, fast.gpu.SupportsAttention(cuda.Attention{
				Queries: int64(s.Queries), Keys: int64(s.Keys), HeadDim: int64(s.HeadDim), Causal: s.Causal,
			}))
			continue
		}
		for name, w := range want {
			if worst, size := furthest(got[name], w); !(worst < 0.02*size) {
				t.Errorf("%+v: %s is off by %g of %g", s, name, worst, size)
			}
		}
	}
}

// attended returns attention's result and gradients of random operands, and whether cuDNN computed the gradient.
func attended(d *Device, s device.Scores) (results map[string][]float32, byDNN bool) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) device.Buffer {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		b := d.New(device.BF16, n)
		d.Write(b, x)
		return b
	}
	heads := func(b device.Buffer, tokens, n int) device.Heads {
		return device.Heads{Buffer: b, Seq: tokens * n * s.HeadDim, Head: s.HeadDim, Row: n * s.HeadDim}
	}
	nq, nk := s.Batch*s.Queries*s.Heads*s.HeadDim, s.Batch*s.Keys*s.KVHeads*s.HeadDim
	q, k, v := heads(random(nq), s.Queries, s.Heads), heads(random(nk), s.Keys, s.KVHeads), heads(random(nk), s.Keys, s.KVHeads)
	dout, out, lse := heads(random(nq), s.Queries, s.Heads), heads(random(nq), s.Queries, s.Heads), d.New(device.F32, s.Batch*s.Heads*s.Queries)
	dq, dk, dv := heads(random(nq), s.Queries, s.Heads), heads(random(nk), s.Keys, s.KVHeads), heads(random(nk), s.Keys, s.KVHeads)
	d.Attend(s, out, lse, q, k, v)
	d.AttendBackward(s, dq, dk, dv, device.Buffer{}, dout, out, lse, q, k, v)
	_, byDNN = d.dnnAttention(s, q, k, v)
	return map[string][]float32{
		"out": d.Host(out.Buffer), "lse": d.Host(lse), "dq": d.Host(dq.Buffer), "dk": d.Host(dk.Buffer), "dv": d.Host(dv.Buffer),
	}, byDNN
}

// furthest returns the largest difference of two slices, and the largest number of the second.
func furthest(got, want []float32) (worst, size float64) {
	for i, w := range want {
		worst, size = max(worst, math.Abs(float64(got[i]-w))), max(size, math.Abs(float64(w)))
	}
	return worst, size
}
