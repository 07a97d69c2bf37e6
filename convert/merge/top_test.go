package merge

import (
	"math"
	"math/rand/v2"
	"testing"

	"gqa/internal/cpu/blas"
)

// spectrum returns a random symmetric matrix [n, n] with those eigenvalues, the others zero.
func spectrum(r *rand.Rand, n int, values []float64) []float32 {
	basis, scaled, s := noise(r, n*len(values)), make([]float32, n*len(values)), make([]float32, n*n)
	q := make([]float32, len(basis))
	if !orthonormalise(basis, n, len(values), q, true) {
		panic("no basis")
	}
	for i := range q {
		scaled[i] = q[i] * float32(values[i%len(values)])
	}
	blas.Gemm(false, true, n, n, len(values), 1, scaled, len(values), q, len(values), 0, s, n)
	return s
}

// TestTop compares the iteration with the full decomposition: where eigenvalues decrease slowly, where they
// end, and where all are zero.
func TestTop(t *testing.T) {
	const n, k = exactSize + 40, 50
	r := rand.New(rand.NewPCG(1, 9))
	for name, value := range map[string]func(i int) float64{
		"slow":  func(i int) float64 { return 1 / (1 + float64(i)/40) },
		"fast":  func(i int) float64 { return math.Exp(-float64(i) / 10) },
		"steep": func(i int) float64 { return math.Exp(-float64(i)) }, // columns are soon nearly dependent
		"flat":  func(int) float64 { return 1 },
		"few":   func(i int) float64 { return float64(max(0, 30-i)) },
		"exact": func(i int) float64 { return float64(max(0, min(k-i, 1))) },
		"none":  func(int) float64 { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			values := make([]float64, n)
			for i := range values {
				values[i] = value(i)
			}
			s := spectrum(r, n, values)
			vectors, got, ok := Top(t.Context(), s, n, k)
			if !ok {
				t.Fatal("not found")
			}
			want, sum := 0.0, 0.0
			for i := range k {
				want += values[i]
				sum += got[i]
			}
			if math.Abs(sum-want) > 2e-3*want+1e-6 {
				t.Errorf("eigenvalues add up to %v, want %v", sum, want)
			}
			for i := range k {
				for j := range i + 1 {
					dot := 0.0
					for row := range n {
						dot += vectors.At(row, i) * vectors.At(row, j)
					}
					if orthonormal := map[bool]float64{true: 1}[i == j]; math.Abs(dot-orthonormal) > 1e-4 && name != "none" && name != "few" {
						t.Fatalf("vectors %d and %d have product %v", i, j, dot)
					}
				}
			}
		})
	}
}

// TestPolar compares the iteration with the decomposition; including singular, zero and NaN matrices.
func TestPolar(t *testing.T) {
	const dim = 17
	r := rand.New(rand.NewPCG(3, 1))
	for name, m := range map[string][]float32{
		"random": noise(r, dim*dim), "tiny": scaledBy(noise(r, dim*dim), 1e-12), "singular": singular(noise(r, dim*dim)),
		"nothing": make([]float32, dim*dim), "no number": scaledBy(noise(r, dim*dim), float32(math.NaN())),
	} {
		t.Run(name, func(t *testing.T) {
			got, want, gram := append([]float32(nil), m...), append([]float32(nil), m...), make([]float32, dim*dim)
			polar(got, dim)
			polarBySVD(want, dim)
			blas.GemmRef(true, false, dim, dim, dim, 1, got, dim, got, dim, 0, gram, dim)
			if off := offIdentity(gram, dim); !(off < 1e-5) {
				t.Errorf("what comes is off a turn by %g", off)
			}
			if d := largestDifference(got, want); name == "random" && !(d < 1e-4) {
				t.Errorf("differs by %g", d)
			}
		})
	}
}

func scaledBy(x []float32, by float32) []float32 {
	blas.Scale(x, by)
	return x
}

// singular returns x with a zero row.
func singular(x []float32) []float32 {
	clear(x[:17])
	return x
}
