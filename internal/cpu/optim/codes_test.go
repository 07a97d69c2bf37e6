package optim

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
)

func newCodes(n int, signed bool) Codes {
	return Codes{Bytes: make([]byte, n), Scales: make([]float32, (n+CodeBlock-1)/CodeBlock), Signed: signed}
}

// values returns what all codes stand for, in increasing order.
func (c Codes) values() (all []float32) {
	for code := range 1<<c.decades() - 1 {
		all = append(all, c.magnitude(code+1))
	}
	return all
}

// Each code has the number that its definition gives it, and is the nearest for what is near that number.
func TestCodes(t *testing.T) {
	for _, signed := range []bool{false, true} {
		c := newCodes(1, signed)
		var want []float64
		for i := range c.decades() {
			for k := range 1 << i {
				want = append(want, math.Pow(10, float64(i-c.decades()))*(1+9*float64(k+1)/float64(int(1)<<i)))
			}
		}
		got := c.values()
		if len(got) != len(want) || got[len(got)-1] != 1 || !slices.IsSorted(got) {
			t.Fatalf("%d codes up to %v, want %d up to 1, sorted", len(got), got[len(got)-1], len(want))
		}
		for i, x := range got {
			if math.Abs(float64(x)-want[i]) > 1e-6*want[i] {
				t.Errorf("code %d is %v, want %v", i+1, x, want[i])
			}
			below := float32(0)
			if i > 0 {
				below = got[i-1]
			}
			for _, share := range []float32{0.51, 0.75, 1} {
				if i == 0 && share < 0.55 { // as if it were between a tenth of it and itself
					continue
				}
				if y := below + share*(x-below); c.code(y) != i+1 {
					t.Errorf("%v has code %d, want %d", y, c.code(y), i+1)
				}
			}
			if y := below + 0.49*(x-below); i > 0 && c.code(y) != i {
				t.Errorf("%v has code %d, want %d", y, c.code(y), i)
			}
		}
		if tiny := c.code(1e-12); signed != (tiny == 0) {
			t.Errorf("a tiny number has code %d, signed: %v", tiny, signed)
		}
	}
}

// Numbers that were read are stored as the same codes, whatever their scales, and zeros as zeros.
func TestCodesAgain(t *testing.T) {
	const n = 3*CodeBlock + 17
	for _, signed := range []bool{false, true} {
		for _, scale := range []float32{1, 3e-9, 7e-31, 123} {
			x, c, again := cputest.Normal(3, n), newCodes(n, signed), newCodes(n, signed)
			for i := range x {
				x[i] *= x[i] * x[i] * scale
				if !signed {
					x[i] = float32(math.Abs(float64(x[i])))
				}
				if i/CodeBlock == 1 {
					x[i] = 0
				}
			}
			c.Store(0, x)
			y := make([]float32, n)
			c.Load(y, 0)
			for i := range x {
				if most := c.Scales[i/CodeBlock]; math.Abs(float64(y[i]-x[i])) > 0.03*math.Abs(float64(x[i]))+1e-2*float64(most) {
					t.Errorf("%v is stored as %v, with a scale of %v", x[i], y[i], most)
				}
			}
			again.Store(0, y)
			if !slices.Equal(c.Bytes, again.Bytes) || !slices.Equal(c.Scales, again.Scales) {
				t.Errorf("scale %v, signed %v: what was read is stored otherwise", scale, signed)
			}
		}
	}
}

func TestAdamWStored(t *testing.T) {
	o := AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	for name, averages := range map[string]func(n int, signed bool) Averages{
		"codes":  func(n int, signed bool) Averages { return newCodes(n, signed) },
		"halves": func(n int, _ bool) Averages { return make(Halves, n) },
	} {
		for _, n := range []int{1, 255, 256, 257, 5000} {
			p := cputest.Normal(1, n)
			want, exact := slices.Clone(p), slices.Clone(p)
			m, v, wantM, wantV := averages(n, true), averages(n, false), averages(n, true), averages(n, false)
			exactM, exactV := make([]float32, n), make([]float32, n)
			for step := 1; step <= 4; step++ {
				g := cputest.Normal(uint64(1+step), n)
				o.StepStored(p, g, m, v, 0.7, step)
				o.StepStoredRef(want, g, wantM, wantV, 0.7, step)
				o.StepRef(exact, g, exactM, exactV, 0.7, step)
			}
			cputest.Compare(t, fmt.Sprintf("%s, n %d: p", name, n), p, want, 1e-4) // a code may be rounded otherwise
			cputest.Compare(t, fmt.Sprintf("%s, n %d: p without rounding", name, n), p, exact, 2e-2)
		}
	}
}

func TestAdamWStoredThreads(t *testing.T) {
	cputest.WithThreads(t, func() []float32 {
		const n = 70_001
		p, m, v := cputest.Normal(1, n), newCodes(n, true), newCodes(n, false)
		for step := 1; step <= 3; step++ {
			AdamW{LR: 1, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}.StepStored(p, cputest.Normal(uint64(step), n), m, v, 1, step)
		}
		return p
	})
}
