// Package devicetest checks a device against the definitions of its operations, the Ref functions in internal/cpu,
// using odd sizes.
package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gqa/internal/device"
)

// values are buffers by name, on the host.
type values map[string][]float32

// operation is a call of a device operation and its reference.
type operation struct {
	name      string
	in        values // all operands; those that are only written hold NaN
	run       func(d device.Device, b map[string]device.Buffer)
	ref       func(v values) // in place
	scratch   []string       // operands whose contents are unspecified afterwards
	tolerance float64        // relative to 1 + |want|
}

// Run checks every operation of a device, in its format of activations.
func Run(t *testing.T, open func() device.Device) {
	_, quantizes := open().(device.Quantizer)
	_, sinks := open().(device.Sinker)
	for _, o := range slices.Concat(elementwise(), products(), norms(), positions(), attention(), decoding(quantizes, sinks), storing(quantizes), latent(quantizes), fewRows(), fused(), tables(), losses(), optimizers()) {
		t.Run(o.name, func(t *testing.T) { o.check(t, open()) })
	}
	if _, ok := open().(device.Replayer); ok {
		t.Run("replay", func(t *testing.T) { checkReplay(t, open(), device.BF16) })
		for f, name := range integers {
			if quantizes {
				t.Run("replay with a cache in "+name, func(t *testing.T) { checkReplay(t, open(), f) })
			}
		}
	}
	for f, name := range integers {
		if quantizes {
			t.Run("unusual rows in "+name, func(t *testing.T) { checkUnusualRows(t, open(), f) })
		}
		if _, ok := open().(device.Fused); ok && quantizes {
			t.Run("RotateStore in "+name, func(t *testing.T) { checkRotateStore(t, open(), f) })
		}
	}
	if open().Activations() != device.F32 {
		return
	}
	t.Run("rounding", func(t *testing.T) { checkRounding(t, open()) })
	t.Run("solve", func(t *testing.T) { checkSolve(t, open()) })
	t.Run("stored averages", func(t *testing.T) { checkStored(t, open()) })
	t.Run("parts", func(t *testing.T) { checkParts(t, open()) })
	t.Run("memory", func(t *testing.T) { checkMemory(t, open()) })
	t.Run("selections", func(t *testing.T) { checkSelections(t, open()) })
}

func (o operation) check(t *testing.T, d device.Device) {
	t.Helper()
	want, buffers := values{}, map[string]device.Buffer{}
	tolerance, scaled := o.tolerance, false
	for name, x := range o.in {
		want[name] = slices.Clone(x)
		if f := o.format(d, name); f == device.F32 {
			buffers[name] = d.Put(slices.Clone(x))
		} else {
			tolerance, scaled = toleranceBF16, true
			want[name] = rounded(x)
			buffers[name] = d.New(f, len(x))
			d.Write(buffers[name], x)
		}
	}
	o.run(d, buffers)
	o.ref(want)
	for name, w := range want {
		if slices.Contains(o.scratch, name) {
			continue
		}
		each := tolerance
		if scaled {
			each *= largest(w)
		}
		compare(t, name, d.Host(buffers[name]), w, each)
	}
}

// largest returns the largest finite absolute value, at least 1.
func largest(x []float32) float64 {
	most := 1.0
	for _, v := range x {
		if size := math.Abs(float64(v)); !math.IsInf(size, 0) {
			most = max(most, size)
		}
	}
	return most
}

func compare(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if off := math.Abs(float64(got[i]) - float64(w)); got[i] != w && !(off <= tolerance*(1+math.Abs(float64(w)))) {
			t.Fatalf("%s[%d] is %v, want %v within %g", what, i, got[i], w, tolerance)
		}
	}
}

// normal returns n normally distributed numbers, determined by seed.
func normal(seed uint64, n int) []float32 {
	r, x := rand.New(rand.NewPCG(seed, 1)), make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// nan returns n NaNs, for operands that must be overwritten.
func nan(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.NaN())
	}
	return x
}

// ids returns n numbers below limit.
func ids(seed uint64, n, limit int) []int32 {
	r, x := rand.New(rand.NewPCG(seed, 2)), make([]int32, n)
	for i := range x {
		x[i] = int32(r.IntN(limit))
	}
	return x
}

func checkMemory(t *testing.T, d device.Device) {
	x := normal(1, 1003)
	b := d.New(device.F32, len(x))
	d.Write(b, x)
	compare(t, "written", d.Host(b), x, 0)
	compare(t, "a part", d.Host(b.Slice(17, 500)), x[17:500], 0)
	d.Free(b)
	if again := d.New(device.F32, len(x)); again.Len() != len(x) {
		t.Errorf("a buffer of %d numbers, want %d", again.Len(), len(x))
	}
	for _, f := range []device.Format{device.BF16, device.F16} {
		for _, multiplied := range []bool{false, true} {
			checkLoaded(t, d, f, multiplied)
		}
	}
}

// checkParts splits numbers, restores them, and steps them in two parts as in one.
func checkParts(t *testing.T, d device.Device) {
	x := normal(1, 5003)
	for i := range x {
		x[i] *= float32(math.Pow(10, float64(i%70-35)))
	}
	copy(x, []float32{
		0, 1, -1, float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32,
		math.Float32frombits(0x3f808000), math.Float32frombits(0x3f818000), math.Float32frombits(0x3f817fff),
	})
	n := len(x)
	high, rest, back := d.New(device.BF16, n), d.New(device.Rest, n), d.New(device.F32, n)
	d.Split(high, rest, d.Put(slices.Clone(x)))
	d.Join(back, high, rest)
	for i, got := range d.Host(back) {
		if got != x[i] {
			t.Fatalf("%v (%#x) is restored as %v", x[i], math.Float32bits(x[i]), got)
		}
	}
	d.Split(high, rest, d.Put(slices.Repeat([]float32{math.Float32frombits(0x7fffffff)}, n)))
	d.Join(back, high, rest)
	if got := d.Host(back)[17]; got == got {
		t.Errorf("NaN is restored as %v", got)
	}

	p, g := normal(2, n), normal(3, n)
	d.Split(high, rest, d.Put(slices.Clone(p)))
	whole, zeros := d.Put(slices.Clone(p)), func() device.Buffer { return d.Put(make([]float32, n)) }
	o := device.AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	d.AdamW([]device.AdamWStep{
		{AdamW: o, P: rest, Copy: high, G: d.Put(slices.Clone(g)), M: zeros(), V: zeros()},
		{AdamW: o, P: whole, G: d.Put(g), M: zeros(), V: zeros()},
	}, d.Put([]float32{0.5}), 1)
	d.Join(back, high, rest)
	compare(t, "in two parts", d.Host(back), d.Host(whole), 0)
	checkPartsAdafactor(t, d)
}

// checkPartsAdafactor steps a matrix in two parts as in one.
func checkPartsAdafactor(t *testing.T, d device.Device) {
	t.Helper()
	const rows, cols, n = 37, 101, 37 * 101
	p, g := normal(2, n), normal(3, n)
	high, rest, back := d.New(device.BF16, n), d.New(device.Rest, n), d.New(device.F32, n)
	d.Split(high, rest, d.Put(slices.Clone(p)))
	whole, zeros := d.Put(p), func(n int) device.Buffer { return d.Put(make([]float32, n)) }
	o := device.Adafactor{LR: 1e-2, Rate: 0.8, Threshold: 1, Decay: 0.1, Scale: true}
	for step := range 2 {
		d.Adafactor([]device.AdafactorStep{
			{Adafactor: o, P: rest, Copy: high, G: d.Put(slices.Clone(g)), Row: zeros(rows), Col: zeros(cols), Rows: rows, Cols: cols},
			{Adafactor: o, P: whole, G: d.Put(slices.Clone(g)), Row: zeros(rows), Col: zeros(cols), Rows: rows, Cols: cols},
		}, d.Put([]float32{0.5}), step+1)
	}
	d.Join(back, high, rest)
	compare(t, "by Adafactor in two parts", d.Host(back), d.Host(whole), 1e-6)
}

// checkLoaded multiplies by a weight loaded in 16 bits, or gathers its rows.
func checkLoaded(t *testing.T, d device.Device, f device.Format, multiplied bool) {
	const rows, n, k = 5, 67, 96
	w, x := normal(2, n*k), normal(3, rows*k)
	for i := range w {
		w[i] = float32(math.Round(float64(w[i])*16) / 16) // exactly representable in both formats
	}
	loaded := d.Load(f, slices.Clone(w), n, k, multiplied)
	y := d.Put(nan(rows * n))
	d.Multiply(rows, k, d.Put(x), []device.Product{{N: n, Y: y, W: loaded}})
	want := make([]float32, rows*n)
	for i := range rows {
		for j := range n {
			sum := 0.0
			for p := range k {
				sum += float64(x[i*k+p]) * float64(w[j*k+p])
			}
			want[i*n+j] = float32(sum)
		}
	}
	compare(t, fmt.Sprintf("format %d, for products only %v: product", f, multiplied), d.Host(y), want, 2e-3)
	if multiplied {
		return
	}
	which := ids(4, 9, n)
	gathered := d.Put(nan(9 * k))
	d.Gather(gathered, loaded, which, k)
	for i, id := range which {
		compare(t, "gathered", d.Host(gathered)[i*k:][:k], w[int(id)*k:][:k], 0)
	}
}

// checkSelections checks the operations that return indexes.
func checkSelections(t *testing.T, d device.Device) {
	const rows, vocab, k = 7, 1031, 5
	x := normal(5, rows*vocab)
	x[3*vocab+700], x[3*vocab+900] = 9, 9 // the first of equal ones wins
	best, top, logP := make([]int32, rows), make([]int32, rows*k), make([]float32, rows*k)
	d.Argmax(best, d.Put(slices.Clone(x)), rows, vocab)
	d.TopLogP(top, logP, d.Put(slices.Clone(x)), 2, rows, vocab, k)
	for r := range rows {
		row := x[r*vocab:][:vocab]
		if want := slices.Index(row, slices.Max(row)); int(best[r]) != want {
			t.Errorf("row %d: the largest is %d, want %d", r, best[r], want)
		}
		sum := 0.0
		for _, v := range row {
			sum += math.Exp(float64(v) / 2)
		}
		sorted := slices.Clone(row)
		slices.Sort(sorted)
		for i := range k {
			want := float64(sorted[vocab-1-i])/2 - math.Log(sum)
			if got := float64(logP[r*k+i]); math.Abs(got-want) > 1e-4 || row[top[r*k+i]] != sorted[vocab-1-i] {
				t.Errorf("row %d: number %d is %d with %v, want a log-probability of %v", r, i, top[r*k+i], got, want)
			}
		}
	}
}
