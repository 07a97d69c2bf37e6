package checkpoints

import "fmt"

// DType is the type of a tensor's elements.
type DType uint8

// DTypes in increasing order of alignment. The order matters: the reference writer sorts tensors by it, largest first,
// and so does [Write].
const (
	Bool DType = iota + 1
	U8
	I8
	F8E5M2 // copied as bytes, never converted
	F8E4M3 // copied as bytes, never converted
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	F64
	I64
	U64
)

var dtypes = [...]struct {
	name string
	size int
}{
	Bool:   {"BOOL", 1},
	U8:     {"U8", 1},
	I8:     {"I8", 1},
	F8E5M2: {"F8_E5M2", 1},
	F8E4M3: {"F8_E4M3", 1},
	I16:    {"I16", 2},
	U16:    {"U16", 2},
	F16:    {"F16", 2},
	BF16:   {"BF16", 2},
	I32:    {"I32", 4},
	U32:    {"U32", 4},
	F32:    {"F32", 4},
	F64:    {"F64", 8},
	I64:    {"I64", 8},
	U64:    {"U64", 8},
}

// ParseDType returns the dtype with the given safetensors name ("F32", "BF16", ...).
func ParseDType(s string) (DType, error) {
	for d := Bool; d.valid(); d++ {
		if dtypes[d].name == s {
			return d, nil
		}
	}
	return 0, fmt.Errorf("unknown dtype %q; known are F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 I32 I16 I8 U64 U32 U16 U8 BOOL", s)
}

// String returns the dtype's safetensors name.
func (d DType) String() string {
	if !d.valid() {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// Size returns the size of an element in bytes, or 0 if d is not a valid dtype.
func (d DType) Size() int {
	if !d.valid() {
		return 0
	}
	return dtypes[d].size
}

// IsFloat reports whether elements of d convert to and from float32: F64, F32,
// F16 and BF16.
func (d DType) IsFloat() bool {
	return d == F64 || d == F32 || d == F16 || d == BF16
}

func (d DType) valid() bool { return d >= Bool && d <= U64 }
