package nn

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
)

func frequencies(half int) []float64 {
	f := make([]float64, half)
	for i := range f {
		f[i] = math.Pow(10000, -float64(i)/float64(half))
	}
	return f
}

func TestRopeTable(t *testing.T) {
	const half, positions = 4, 100
	table := NewRopeTable(frequencies(half), positions, 1.5, true)
	if table.Positions() != positions || table.Dim != 2*half || !table.Interleaved {
		t.Fatalf("table of %d positions, dim %d, interleaved %v", table.Positions(), table.Dim, table.Interleaved)
	}
	for p := range positions {
		for i, f := range frequencies(half) {
			sin, cos := math.Sincos(float64(p) * f)
			cputest.Compare(t, fmt.Sprintf("position %d, plane %d", p, i),
				[]float32{table.Cos[p*half+i], table.Sin[p*half+i]}, []float32{float32(1.5 * cos), float32(1.5 * sin)}, 1e-5)
		}
	}
}

// TestRopeTableFarPosition has numbers computed by numpy in float32: cos(float32(pos)·float32(f)).
func TestRopeTableFarPosition(t *testing.T) {
	f := 0.1
	table := NewRopeTable([]float64{f}, 100001, 1, false)
	angle := float32(100000) * float32(f)
	if float64(angle) == 100000*float64(float32(f)) {
		t.Fatal("the product is exact in float32: the case shows nothing")
	}
	cputest.Compare(t, "cos and sin", []float32{table.Cos[100000], table.Sin[100000]},
		[]float32{float32(math.Cos(float64(angle))), float32(math.Sin(float64(angle)))}, 1e-7)
}

func TestRotate(t *testing.T) { cputest.OnPaths(t, testRotate) }

func testRotate(t *testing.T) {
	for _, interleaved := range []bool{false, true} {
		for _, s := range []struct{ rows, heads, headDim, dim int }{{1, 1, 2, 2}, {3, 2, 8, 8}, {5, 3, 10, 4}, {300, 4, 32, 16}} {
			table := NewRopeTable(frequencies(s.dim/2), 64, 1, interleaved)
			pos := make([]int32, s.rows)
			for i := range pos {
				pos[i] = int32(i * 7 % 64)
			}
			x := cputest.Normal(1, s.rows*s.heads*s.headDim)
			what := fmt.Sprintf("interleaved %v, %+v: ", interleaved, s)
			for _, inverse := range []bool{false, true} {
				y, want := cputest.Poisoned(len(x)), cputest.Poisoned(len(x))
				table.Rotate(y, x, pos, s.heads, s.headDim, inverse)
				table.RotateRef(want, x, pos, s.heads, s.headDim, inverse)
				cputest.Compare(t, what+"y", y, want, 1e-6)
				back := slices.Clone(y)
				table.Rotate(back, back, pos, s.heads, s.headDim, !inverse)
				cputest.Compare(t, what+"rotated there and back", back, x, 1e-6)
			}
		}
	}
}
