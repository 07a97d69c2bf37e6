package simd_test

import (
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

var formats = []simd.Half{simd.BF16, simd.F16}

// everyHalf returns all numbers of 16 bits, and one more so that the last is not a whole register.
func everyHalf() []uint16 {
	s := make([]uint16, 1<<16+1)
	for i := range s {
		s[i] = uint16(i)
	}
	return s
}

func TestDecodeHalf(t *testing.T) {
	all := everyHalf()
	want, got := make([]float32, len(all)), make([]float32, len(all))
	for _, h := range formats {
		h.DecodeRef(want, all)
		cputest.OnPaths(t, func(t *testing.T) {
			copy(got, cputest.Poisoned(len(got)))
			h.Decode(got, all)
			for i, g := range got {
				if w := want[i]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
					t.Fatalf("format %d: %#04x is %v, want %v", h, all[i], g, w)
				}
			}
		})
	}
}

// TestEncodeHalf has every number of each format, those half way to the next, and the float32 beside each.
func TestEncodeHalf(t *testing.T) {
	for _, h := range formats {
		src := edges(h)
		want, got := make([]uint16, len(src)), make([]uint16, len(src))
		h.EncodeRef(want, src)
		cputest.OnPaths(t, func(t *testing.T) {
			for i := range got {
				got[i] = 0xdead
			}
			h.Encode(got, src)
			for i, g := range got {
				if src[i] != src[i] && g&^(1<<15) > h.Infinity() {
					continue
				}
				if g != want[i] {
					t.Fatalf("format %d: %v is %#04x, want %#04x", h, src[i], g, want[i])
				}
			}
		})
	}
}

func edges(h simd.Half) (s []float32) {
	for bits := range h.Infinity() {
		v := h.Magnitude(bits)
		middle := float32((v + h.Magnitude(bits+1)) / 2)
		s = append(s, float32(v), middle, math.Nextafter32(middle, 0), math.Nextafter32(middle, math.MaxFloat32))
	}
	s = append(s, float32(math.Inf(1)), math.MaxFloat32, 65519.996, 65520, cputest.NaN, math.Float32frombits(0x7f800001))
	for _, v := range s[:len(s):len(s)] {
		s = append(s, math.Float32frombits(math.Float32bits(v)^1<<31))
	}
	return s
}

func TestHalfSizes(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 7, 15, 16, 17, 31, 64, 100} {
			src := cputest.Normal(1, n)
			for _, h := range formats {
				want, got := make([]uint16, n), make([]uint16, n+1)
				h.EncodeRef(want, src)
				h.Encode(got[:n], src)
				if !slices.Equal(got[:n], want) || got[n] != 0 {
					t.Fatalf("format %d, %d numbers: %x, want %x", h, n, got, want)
				}
				back := cputest.Poisoned(n + 1)
				h.Decode(back[:n], got[:n])
				for i, v := range back[:n] {
					if v != h.Value(got[i]) {
						t.Fatalf("format %d, number %d of %d: %v, want %v", h, i, n, v, h.Value(got[i]))
					}
				}
				if back[n] == back[n] {
					t.Fatalf("format %d: wrote past %d numbers", h, n)
				}
			}
		}
	})
}
