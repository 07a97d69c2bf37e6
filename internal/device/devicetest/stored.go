package devicetest

import (
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/optim"
	"gqa/internal/device"
)

// stored are averages in another form, on the device and by their definition.
type stored struct {
	buffer, scales device.Buffer
	want           optim.Averages
}

// newStored returns averages of n numbers, all zero.
func newStored(d device.Device, f device.Format, n int) (s stored) {
	blocks := (n + device.BlockOf - 1) / device.BlockOf
	s.buffer = d.New(f, n)
	d.Clear(s.buffer)
	if f == device.BF16 {
		s.want = make(optim.Halves, n)
		return s
	}
	s.scales = d.Put(make([]float32, blocks))
	s.want = optim.Codes{Bytes: make([]byte, n), Scales: make([]float32, blocks), Signed: f == device.Signed8}
	return s
}

// host returns the numbers on the host.
func (s stored) host(d device.Device) []float32 {
	x := d.New(device.F32, s.buffer.Len())
	if s.scales.None() {
		d.Copy(x, s.buffer)
	} else {
		d.Decode(x, s.buffer, s.scales)
	}
	return slices.Clone(d.Host(x))
}

// checkStored steps parameters whose averages are not F32, whole and in two parts, and stores numbers as codes.
func checkStored(t *testing.T, d device.Device) {
	o := device.AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	for _, n := range []int{1, 255, 5003} {
		for _, formats := range [][2]device.Format{{device.BF16, device.BF16}, {device.Signed8, device.Unsigned8}} {
			p := normal(1, n)
			want, whole := slices.Clone(p), d.Put(slices.Clone(p))
			high, rest, copied := d.New(device.BF16, n), d.New(device.Rest, n), d.New(device.BF16, n)
			d.Split(high, rest, d.Put(slices.Clone(p)))
			m, v := newStored(d, formats[0], n), newStored(d, formats[1], n)
			m2, v2 := newStored(d, formats[0], n), newStored(d, formats[1], n)
			for step := 1; step <= 3; step++ {
				g := normal(uint64(1+step), n)
				d.AdamW([]device.AdamWStep{
					{AdamW: o, P: whole, G: d.Put(slices.Clone(g)), M: m.buffer, V: v.buffer, MScales: m.scales, VScales: v.scales, Copy: copied},
					{AdamW: o, P: rest, G: d.Put(slices.Clone(g)), M: m2.buffer, V: v2.buffer, MScales: m2.scales, VScales: v2.scales, Copy: high},
				}, d.Put([]float32{0.5}), step)
				optim.AdamW(o).StepStoredRef(want, g, m.want, v.want, 0.5, step)
			}
			compare(t, "p", d.Host(whole), want, 1e-4) // a number between two codes may be rounded otherwise
			joined, narrow := d.New(device.F32, n), d.New(device.F32, n)
			d.Join(joined, high, rest)
			compare(t, "p in two parts", d.Host(joined), d.Host(whole), 0)
			d.Copy(narrow, copied)
			compare(t, "copy", d.Host(narrow), rounded(d.Host(whole)), 0)
			for _, s := range []stored{m, v} {
				got, values := s.host(d), make([]float32, n)
				s.want.Load(values, 0)
				compare(t, "average", got, values, 0.02)
			}
			x := slices.Clone(d.Host(whole))
			d.AdamW([]device.AdamWStep{{AdamW: o, P: whole, G: d.Put(normal(9, n)), M: m.buffer, V: v.buffer, MScales: m.scales, VScales: v.scales}},
				d.Put([]float32{float32(math.NaN())}), 4)
			compare(t, "p without a step", d.Host(whole), x, 0)
		}
		for _, f := range []device.Format{device.Signed8, device.Unsigned8} {
			checkCodes(t, d, f, n)
		}
	}
}

// checkCodes stores numbers as codes, and what was read again.
func checkCodes(t *testing.T, d device.Device, f device.Format, n int) {
	t.Helper()
	x := normal(7, n)
	for i := range x {
		if x[i] *= x[i] * x[i] * 1e-9; f == device.Unsigned8 {
			x[i] = float32(math.Abs(float64(x[i])))
		}
	}
	s := newStored(d, f, n)
	d.Encode(s.buffer, s.scales, d.Put(slices.Clone(x)))
	s.want.Store(0, x)
	want := make([]float32, n)
	s.want.Load(want, 0)
	got := s.host(d)
	for i := range want { // relative to the numbers, as all are small
		if math.Abs(float64(got[i]-want[i])) > 1e-6*math.Abs(float64(want[i])) && math.Abs(float64(got[i]-want[i])) > 0.01*math.Abs(float64(x[i])) {
			t.Fatalf("%v is stored as %v, want %v", x[i], got[i], want[i])
		}
	}
	d.Encode(s.buffer, s.scales, d.Put(slices.Clone(got)))
	compare(t, "stored again", s.host(d), got, 0)
}
