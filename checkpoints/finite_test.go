package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
)

// TestCheckFinite places NaN, infinities and the largest numbers everywhere in tensors whose sizes are not multiples of a word.
func TestCheckFinite(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, d := range []DType{F64, F32, BF16, F16} {
		largest := map[DType]float32{F64: math.MaxFloat32, F32: math.MaxFloat32, BF16: 0x1.fep127, F16: 65504}[d]
		for n := range 41 {
			values := slices.Repeat([]float32{largest, -largest, 0}, n)[:n]
			tensor := ofFloats(t, d, values)
			if _, err := tensor.Float32(nil); err != nil || tensor.CheckFinite(t.Context()) != nil {
				t.Fatalf("%v: %d finite elements: %v", d, n, err)
			}
			for i := range n {
				for _, x := range []float64{nan, inf, -inf} {
					poisoned := slices.Clone(values)
					poisoned[i], poisoned[n-1] = float32(x), float32(x)
					tensor := ofFloats(t, d, poisoned)
					_, err := tensor.Float32(nil)
					for _, err := range []error{err, tensor.CheckFinite(t.Context())} {
						var not *NotFiniteError
						if !errors.As(err, &not) || not.Index[0] != i || fmt.Sprint(not.Value) != fmt.Sprint(x) {
							t.Fatalf("%v: %v at %d of %d: error %v", d, x, i, n, err)
						}
					}
				}
			}
		}
	}
}

func ofFloats(t *testing.T, d DType, values []float32) *Tensor {
	t.Helper()
	data := make([]byte, len(values)*d.Size())
	if err := EncodeFloats(data, values, d); err != nil {
		t.Fatal(err)
	}
	return oneTensor(t, d, data)
}

// TestNotFiniteFar checks an element after the first chunk, and its index in the tensor's shape.
func TestNotFiniteFar(t *testing.T) {
	const rows, cols = 1000, 777
	values := make([]float32, rows*cols)
	values[998*cols+5], values[999*cols] = float32(math.Inf(-1)), 1
	tensor := ofFloats(t, BF16, values)
	tensor.Shape = []int{rows, cols}
	const want = `tensor "t": -Inf at [998, 5]; the file is damaged or its training diverged`
	wantError(t, tensor.CheckFinite(t.Context()), want)
	_, err := tensor.Float32(nil)
	wantError(t, err, want)
	part := make([]float32, 2)
	wantError(t, tensor.Float32Range(part, 998*cols+4), want)
	if err := tensor.Float32Range(part, 999*cols); err != nil || part[0] != 1 {
		t.Errorf("a finite part: %v, %v", part, err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	tensor = ofFloats(t, F32, make([]float32, 3*chunkBytes))
	if err := tensor.CheckFinite(stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestBeyondFloat32: an F64 number out of range for float32 would be read as infinity.
func TestBeyondFloat32(t *testing.T) {
	data := make([]byte, 24)
	for i, x := range []uint64{0, math.Float64bits(-1e300), 0} {
		for j := range 8 {
			data[8*i+j] = byte(x >> (8 * j))
		}
	}
	tensor := oneTensor(t, F64, data)
	if err := tensor.CheckFinite(t.Context()); err != nil {
		t.Error(err)
	}
	_, err := tensor.Float32(nil)
	wantError(t, err, `tensor "t": -1e+300 at [1] is out of range for float32`)
}

// TestEncodeFinite: computed numbers must be finite in every dtype.
func TestEncodeFinite(t *testing.T) {
	for _, d := range []DType{F64, F32, F16, BF16} {
		dst := make([]byte, 3*d.Size())
		if err := EncodeFinite(dst, []float32{1, -2, 0}, d); err != nil {
			t.Errorf("%v: %v", d, err)
		}
		wantError(t, EncodeFinite(dst, []float32{1, float32(math.NaN()), 0}, d), "holds NaN, and only finite numbers are written")
		wantError(t, EncodeFinite(dst, []float32{1, 0, float32(math.Inf(1))}, d), "holds +Inf, and only finite numbers are written")
	}
}

func BenchmarkCheckFinite(b *testing.B) {
	for _, d := range []DType{F32, BF16} {
		b.Run("dtype="+d.String(), func(b *testing.B) {
			c := mustOpen(b, benchFolder(b, d))
			b.SetBytes(benchBytes)
			for b.Loop() {
				for _, name := range c.Names() {
					tensor, _ := c.Tensor(name)
					if err := tensor.CheckFinite(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
