//go:build cuda && linux

package cuda

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
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

// TestDeviceBF16 checks the operations on activations in bfloat16.
func TestDeviceBF16(t *testing.T) {
	open(t)
	devicetest.Run(t, func() device.Device {
		d, err := Open(0, Options{Activations: device.BF16})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func TestOutOfMemory(t *testing.T) {
	d := open(t)
	b := d.New(device.F32, 1<<40)
	d.Clear(b)
	if err := new(device.MemoryError); !errors.As(d.Err(), &err) || err.Wanted < 1<<42 {
		t.Errorf("error %v", d.Err())
	}
}

// Positions that a stopped device did not send are sent by the next rotation by them, once the device goes on.
func TestPositionsAfterStop(t *testing.T) {
	d := open(t)
	const heads, headDim, rows = 2, 8, 3
	pos, table := []int32{5, 0, 2}, d.NewRope([]float64{1, 0.5, 0.25, 0.125}, 8, 1, false)
	rotated := func() []float32 {
		x := make([]float32, rows*heads*headDim)
		for i := range x {
			x[i] = float32(i)
		}
		m := device.Rows{Buffer: d.Put(x), LD: heads * headDim}
		defer d.Free(m.Buffer)
		d.Rotate(table, m, m, pos, heads, headDim, false)
		return d.Host(m.Buffer)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	d.Until(ctx)
	rotated()
	d.Until(t.Context())
	got := rotated()
	d.held = nil
	if want := rotated(); !slices.Equal(got, want) || d.Err() != nil {
		t.Errorf("%v, want %v; %v", got, want, d.Err())
	}
}

// documents returns Scores.Firsts for sequences of documents of equal length.
func documents(batch, tokens, length int) (firsts []int32) {
	for range batch {
		for i := range tokens {
			firsts = append(firsts, int32(i/length*length))
		}
	}
	return firsts
}

// TestAttentionBF16 compares attention and its gradient in bf16, by cuDNN where it can, with our own kernels' in f32 on the same
// operands.
func TestAttentionBF16(t *testing.T) {
	open(t)
	slopes := []float32{0.5, 0.25, 0.125, 0.0625}
	for _, c := range []struct {
		name  string
		s     device.Scores
		bias  bool
		fused bool // q, k and v are columns of one matrix, and so are their gradients
		must  bool // cuDNN must compute it
	}{
		{"causal", device.Scores{Batch: 2, Queries: 256, Keys: 256, Heads: 8, KVHeads: 2, HeadDim: 64, Causal: true}, false, false, true},
		{"columns", device.Scores{Batch: 2, Queries: 256, Keys: 256, Heads: 8, KVHeads: 2, HeadDim: 64, Causal: true}, false, true, true},
		{"d 128", device.Scores{Batch: 1, Queries: 200, Keys: 200, Heads: 4, KVHeads: 4, HeadDim: 128, Causal: true}, false, true, true},
		{"all, more keys, d 32", device.Scores{Batch: 3, Queries: 128, Keys: 192, Heads: 4, KVHeads: 1, HeadDim: 32}, false, false, true},
		{"d 80", device.Scores{Batch: 2, Queries: 256, Keys: 256, Heads: 4, KVHeads: 2, HeadDim: 80, Causal: true}, false, true, false},
		{"d 256", device.Scores{Batch: 2, Queries: 256, Keys: 256, Heads: 4, KVHeads: 2, HeadDim: 256, Causal: true}, false, true, false},
		{"77 tokens", device.Scores{Batch: 3, Queries: 77, Keys: 77, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true}, false, true, false},
		{"9 tokens", device.Scores{Batch: 3, Queries: 9, Keys: 9, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true}, false, false, false},
		{"causal, more keys", device.Scores{Batch: 2, Queries: 128, Keys: 333, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true}, false, false, false},
		{"causal, more queries", device.Scores{Batch: 2, Queries: 200, Keys: 77, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true}, false, false, false},
		{"window", device.Scores{Batch: 2, Queries: 512, Keys: 512, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true, Window: 100}, false, true, false},
		{"window of 1", device.Scores{Batch: 2, Queries: 128, Keys: 128, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true, Window: 1}, false, false, false},
		{"window, more keys", device.Scores{Batch: 2, Queries: 128, Keys: 300, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true, Window: 33}, false, false, false},
		{"padding", device.Scores{Batch: 3, Queries: 130, Keys: 200, KeyLens: []int{200, 3, 77}, Heads: 4, KVHeads: 2, HeadDim: 64}, false, false, false},
		{"causal padding", device.Scores{Batch: 3, Queries: 64, Keys: 256, KeyLens: []int{256, 64, 100}, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true}, false, false, false},
		{"causal padding, window", device.Scores{Batch: 3, Queries: 64, Keys: 256, KeyLens: []int{256, 64, 100}, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true, Window: 20}, false, false, false},
		{"bias", device.Scores{Batch: 3, Queries: 128, Keys: 128, Heads: 4, KVHeads: 4, HeadDim: 64}, true, true, false},
		{"causal, bias", device.Scores{Batch: 2, Queries: 256, Keys: 256, Heads: 4, KVHeads: 4, HeadDim: 64, Causal: true}, true, false, false},
		{"bias, padding, 77 tokens", device.Scores{Batch: 3, Queries: 77, Keys: 77, KeyLens: []int{50, 77, 20}, Heads: 4, KVHeads: 4, HeadDim: 64}, true, false, false},
		{"ALiBi", device.Scores{Batch: 2, Queries: 256, Keys: 256, Heads: 4, KVHeads: 4, HeadDim: 64, Causal: true, Slopes: slopes}, false, true, false},
		{"documents", device.Scores{Batch: 2, Queries: 130, Keys: 130, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true, Firsts: documents(2, 130, 50)}, false, true, false},
		{"ALiBi, window", device.Scores{Batch: 2, Queries: 256, Keys: 256, Heads: 4, KVHeads: 4, HeadDim: 64, Causal: true, Slopes: slopes, Window: 50}, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.Scale = float32(1 / math.Sqrt(float64(c.s.HeadDim)))
			exact, _ := Open(0, Options{})
			want := newAttended(exact, c.s, c.bias, c.fused).run()
			for _, deterministic := range []bool{false, true} {
				d, _ := Open(0, Options{Activations: device.BF16, Nondeterministic: !deterministic})
				x := newAttended(d, c.s, c.bias, c.fused)
				forward, backward := x.planned(cuda.BiasBF16)
				t.Logf("deterministic %v: forward %s, backward %s", deterministic, by(forward), by(backward))
				if c.bias {
					forward, backward := x.planned(cuda.BiasF32)
					t.Logf("deterministic %v with a bias in f32: forward %s, backward %s", deterministic, by(forward), by(backward))
				}
				if c.must && (forward != nil || backward != nil && !deterministic) {
					t.Error("not by cuDNN")
				}
				got := x.run()
				if err := d.Err(); err != nil {
					t.Fatal(err)
				}
				for name, w := range want {
					if worst, size := furthest(got[name], w); !(worst < 0.02*size+1e-5) {
						t.Errorf("deterministic %v: %s is off by %g of %g", deterministic, name, worst, size)
					}
				}
			}
		})
	}
}

// by says who computes, given why cuDNN does not.
func by(err error) string {
	if err == nil {
		return "by cuDNN"
	}
	return "by our own kernels (" + err.Error() + ")"
}

// TestAttentionDeterministic repeats the deterministic gradient.
func TestAttentionDeterministic(t *testing.T) {
	open(t)
	for _, bias := range []bool{false, true} {
		s := device.Scores{Batch: 4, Queries: 1000, Keys: 1000, Heads: 16, KVHeads: 4, HeadDim: 64, Scale: 0.125, Causal: true}
		d, _ := Open(0, Options{Activations: device.BF16})
		x := newAttended(d, s, bias, true)
		_, err := x.planned(cuda.BiasBF16)
		t.Logf("bias %v: backward %s", bias, by(err))
		first := x.run()
		for range 4 {
			for name, again := range x.run() {
				if !slices.Equal(first[name], again) {
					t.Errorf("bias %v: %s differs", bias, name)
				}
			}
		}
		if err := d.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// attended is attention of random operands, which are the same in each format.
type attended struct {
	d                              *Device
	s                              device.Scores
	q, k, v, out, dout, dq, dk, dv device.Heads
	lse, dbias                     device.Buffer
}

func newAttended(d *Device, s device.Scores, bias, fused bool) *attended {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(f device.Format, n int) device.Buffer {
		x := make([]float32, n)
		for i := range x {
			x[i] = math.Float32frombits(math.Float32bits(float32(r.NormFloat64())) &^ 0xffff) // a bf16 number
		}
		b := d.New(f, n)
		d.Write(b, x)
		return b
	}
	f := d.Activations()
	x := &attended{d: d, s: s, lse: d.New(device.F32, s.Batch*s.Heads*s.Queries)}
	contiguous := func(b device.Buffer, tokens, n int) device.Heads {
		return device.Heads{Buffer: b, Seq: tokens * n * s.HeadDim, Head: s.HeadDim, Row: n * s.HeadDim}
	}
	queries := func() device.Heads {
		return contiguous(random(f, s.Batch*s.Queries*s.Heads*s.HeadDim), s.Queries, s.Heads)
	}
	three := func() (q, k, v device.Heads) {
		if !fused {
			n := s.Batch * s.Keys * s.KVHeads * s.HeadDim
			return queries(), contiguous(random(f, n), s.Keys, s.KVHeads), contiguous(random(f, n), s.Keys, s.KVHeads)
		}
		row := (s.Heads + 2*s.KVHeads) * s.HeadDim
		b := random(f, s.Batch*s.Queries*row)
		at := func(head int) device.Heads {
			return device.Heads{Buffer: b.From(head * s.HeadDim), Seq: s.Queries * row, Head: s.HeadDim, Row: row}
		}
		return at(0), at(s.Heads), at(s.Heads + s.KVHeads)
	}
	x.q, x.k, x.v = three()
	x.dq, x.dk, x.dv = three()
	x.out, x.dout = queries(), queries()
	if bias {
		n := s.Heads * s.Queries * s.Keys
		x.s.Bias, x.dbias = random(device.F32, n), random(device.F32, n)
	}
	return x
}

// planned returns why cuDNN does not compute the attention and its gradient, with the bias in a format.
func (x *attended) planned(format cuda.Bias) (forward, backward error) {
	o := x.d.scores(x.s)
	defer x.d.freeScores(o)
	a, err := x.d.dnnAttention(x.s, x.q, x.k, x.v)
	if err != nil {
		return err, err
	}
	if a.Bias != cuda.NoBias {
		a.Bias = format
	}
	p := o.operands(x.out, x.lse, x.q, x.k, x.v)
	_, forward = x.d.gpu.PrepareAttention(a, p)
	a.Backward, a.BiasGradient = true, !x.dbias.None()
	p.DQ, p.DK, p.DV, p.DOut = headView(x.dq), headView(x.dk), headView(x.dv), headView(x.dout)
	_, backward = x.d.gpu.PrepareAttention(a, p)
	return forward, backward
}

// run returns the result and the gradients. The bias's is added to small numbers.
func (x *attended) run() map[string][]float32 {
	d, s := x.d, x.s
	if !x.dbias.None() {
		d.Write(x.dbias, slices.Repeat([]float32{1. / 64}, x.dbias.Len()))
	}
	d.Attend(s, x.out, x.lse, x.q, x.k, x.v)
	d.AttendBackward(s, x.dq, x.dk, x.dv, x.dbias, x.dout, x.out, x.lse, x.q, x.k, x.v)
	rows := func(h device.Heads, n, tokens int) (all []float32) {
		host := d.Host(h.Buffer)
		for i := range s.Batch * n * tokens {
			at := i/tokens/n*h.Seq + i/tokens%n*h.Head + i%tokens*h.Row
			all = append(all, host[at:at+s.HeadDim]...)
		}
		return all
	}
	results := map[string][]float32{
		"out": rows(x.out, s.Heads, s.Queries), "lse": slices.Clone(d.Host(x.lse)), "dq": rows(x.dq, s.Heads, s.Queries),
		"dk": rows(x.dk, s.KVHeads, s.Keys), "dv": rows(x.dv, s.KVHeads, s.Keys),
	}
	if !x.dbias.None() {
		results["dbias"] = slices.Clone(d.Host(x.dbias))
	}
	return results
}

// furthest returns the largest difference of two slices, and the largest number of the second.
func furthest(got, want []float32) (worst, size float64) {
	for i, w := range want {
		if math.IsInf(float64(w), 0) && got[i] == w {
			continue
		}
		worst, size = max(worst, math.Abs(float64(got[i]-w))), max(size, math.Abs(float64(w)))
	}
	return worst, size
}
