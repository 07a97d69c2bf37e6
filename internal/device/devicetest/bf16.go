package devicetest

import (
	"math"
	"strings"

	"gqa/internal/device"
)

// toleranceBF16 is relative to the largest number of a result, at least 1, because sums of rounded numbers may be small. A
// bfloat16 has 8 significant bits; an operation rounds its result and, within, what it stores for others to read.
const toleranceBF16 = 0.01

// activationNames are the operands that are activations or their gradients, by the beginnings of the operations' names. The others
// are F32 on every device.
var activationNames = []struct{ operations, operands string }{
	{"Copy Clear Add Axpy Scale Shift Clip Lerp Swap", "x y z"},
	{"Activate", "x u dy y dx du"},
	{"Gate", "x u dy y dx du z"},
	{"Gemm", "a b c"},
	{"Multiply", "x w u y z y0 y1 y2 y3 y4"},
	{"norm RMSNorm LayerNorm", "x z dy sum y dx y2 dx2"},
	{"Heads", "a b y z z2 da db dy"},
	{"Rotate", "x y z"},
	{"RotateStore", "q k v keys values"},
	{"Gather", "y dy"},
	{"Store", "k v keys values out"},
	{"CrossEntropy Distill", "logits teacher"},
	{"Attend", "q sq k v out dout dq dk dv"},
	{"AdamW", "g g2 copy"},
	{"Adafactor", "g copy"},
}

// format returns the format of an operand on a device.
func (o operation) format(d device.Device, operand string) device.Format {
	for _, a := range activationNames {
		for _, prefix := range strings.Fields(a.operations) {
			for _, name := range strings.Fields(a.operands) {
				if strings.HasPrefix(o.name, prefix) && name == operand {
					return d.Activations()
				}
			}
		}
	}
	return device.F32
}

// rounded rounds numbers to bfloat16: to the nearest, ties to even.
func rounded(x []float32) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		bits := math.Float32bits(v)
		if v == v {
			bits += 0x7fff + bits>>16&1
		}
		y[i] = math.Float32frombits(bits &^ 0xffff)
	}
	return y
}
