package checkpoints

import (
	"math"
	"testing"
)

// halves are the two 16-bit formats with their parameters.
var halves = []struct {
	name      string
	dtype     DType
	decode    func(uint16) float32
	encode    func(float32) uint16
	exponent  int // bits
	fraction  int // bits
	bias, max int // exponent bias; exponent field of infinity
}{
	{"F16", F16, F16ToF32, F32ToF16, 5, 10, 15, 0x1f},
	{"BF16", BF16, bf16ToF32, f32ToBF16, 8, 7, 127, 0xff},
}

// TestHalfValues checks every value against the formats' definition, and its round trip.
func TestHalfValues(t *testing.T) {
	for _, h := range halves {
		t.Run(h.name, func(t *testing.T) {
			for i := range 1 << 16 {
				bits := uint16(i)
				exp, frac := i>>h.fraction&h.max, i&(1<<h.fraction-1)
				got := h.decode(bits)
				switch {
				case exp == h.max && frac != 0:
					if got == got {
						t.Fatalf("%04x decodes to %v, want NaN", bits, got)
					}
				default:
					want := math.Ldexp(float64(frac), 1-h.bias-h.fraction)
					if exp > 0 {
						want = math.Ldexp(float64(frac+1<<h.fraction), exp-h.bias-h.fraction)
					}
					if exp == h.max {
						want = math.Inf(1)
					}
					if i>>15 == 1 {
						want = -want
					}
					if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
						t.Fatalf("%04x decodes to %v, want %v", bits, got, want)
					}
				}
				if back := h.encode(got); back != bits {
					t.Fatalf("%04x decodes to %v, which encodes to %04x", bits, got, back)
				}
			}
		})
	}
}

// TestHalfRounding checks each border between two neighbouring values: the middle goes to
// the even one, the floats on either side of it to the nearer one. Rounding is monotonic,
// so that covers every float32.
func TestHalfRounding(t *testing.T) {
	for _, h := range halves {
		t.Run(h.name, func(t *testing.T) {
			infinity := uint16(h.max << h.fraction)
			for low := range infinity {
				high := low + 1
				ceiling := float64(h.decode(high))
				if high == infinity { // rounding works as if the next binade existed
					ceiling = math.Ldexp(1, h.max-h.bias)
				}
				middle := float32((float64(h.decode(low)) + ceiling) / 2)
				even := low + low&1
				below := math.Nextafter32(middle, 0)
				above := math.Nextafter32(middle, float32(math.Inf(1)))
				for sign, s := range map[float32]uint16{1: 0, -1: 1 << 15} {
					if got := h.encode(sign * middle); got != even|s {
						t.Fatalf("%v, between %04x and %04x, encodes to %04x, want %04x", sign*middle, low, high, got, even|s)
					}
					if got := h.encode(sign * below); got != low|s {
						t.Fatalf("%v encodes to %04x, want %04x", sign*below, got, low|s)
					}
					if got := h.encode(sign * above); got != high|s {
						t.Fatalf("%v encodes to %04x, want %04x", sign*above, got, high|s)
					}
				}
			}
		})
	}
}

func TestHalfSpecials(t *testing.T) {
	for _, h := range halves {
		for _, f := range []float32{float32(math.Inf(1)), math.MaxFloat32} {
			if got, want := h.encode(f), uint16(h.max<<h.fraction); got != want {
				t.Errorf("%s: %v encodes to %04x, want infinity %04x", h.name, f, got, want)
			}
		}
		// The payload of this NaN lies in bits that both formats cut off.
		if got := h.decode(h.encode(math.Float32frombits(0x7f800001))); got == got {
			t.Errorf("%s: a NaN became %v", h.name, got)
		}
		if got := h.encode(math.SmallestNonzeroFloat32); got != 0 {
			t.Errorf("%s: the smallest float32 encodes to %04x, want 0", h.name, got)
		}
	}
}

func TestEncodeDecodeFloats(t *testing.T) {
	values := []float32{0, 1, -2.5, 0.15625, 65504, -1.0 / 1024, float32(math.Inf(-1))}
	for _, d := range []DType{F64, F32, F16, BF16} {
		src := values
		if d == BF16 {
			src = []float32{0, 1, -2.5, 0.15625, 65280, -1.0 / 1024, float32(math.Inf(-1))}
		}
		raw := make([]byte, len(src)*d.Size())
		if err := EncodeFloats(raw, src, d); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(src))
		if err := DecodeFloats(got, raw, d); err != nil {
			t.Fatal(err)
		}
		for i, want := range src {
			if got[i] != want {
				t.Errorf("%v: element %d is %v, want %v", d, i, got[i], want)
			}
		}
	}
}

func TestFloatErrors(t *testing.T) {
	two := make([]float32, 2)
	wantError(t, DecodeFloats(two, make([]byte, 7), F32), "7 bytes for 2 elements of F32, want 8")
	wantError(t, EncodeFloats(make([]byte, 6), two, BF16), "6 bytes for 2 elements of BF16, want 4")
	wantError(t, DecodeFloats(two, make([]byte, 16), I64), "dtype I64 cannot be converted")
	wantError(t, EncodeFloats(make([]byte, 2), two, F8E4M3), "dtype F8_E4M3 cannot be converted")
	wantError(t, EncodeFloats(make([]byte, 4), []float32{1, 65520}, F16), "holds 65520, and the largest F16 is 65504")
	wantError(t, EncodeFloats(make([]byte, 4), []float32{1, -3.4e38}, BF16), "holds -3.4e+38, and the largest BF16 is 3.3895e+38; write F32")
	wantError(t, EncodeFloats(nil, nil, DType(99)), "dtype DType(99) cannot be converted")
}

func TestDTypes(t *testing.T) {
	sizes := map[string]int{
		"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4,
		"I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
	}
	for name, size := range sizes {
		d, err := ParseDType(name)
		if err != nil || d.String() != name || d.Size() != size {
			t.Errorf("%s parses to %v of %d bytes: %v", name, d, d.Size(), err)
		}
	}
	_, err := ParseDType("f32")
	wantError(t, err, `unknown dtype "f32"`, "F32")
	if zero := DType(0); zero.Size() != 0 || zero.IsFloat() {
		t.Error("the zero DType is taken for a dtype")
	}
}
