//go:build cuda && linux

package cuda

import (
	"embed"
	"fmt"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

//go:embed kernels
var kernelFiles embed.FS

// source is a file of kernels behind what they share.
func source(name string, defines ...string) *cuda.Source {
	var text []byte
	for _, file := range []string{"common.cuh", name + ".cu"} {
		part, err := kernelFiles.ReadFile("kernels/" + file)
		if err != nil {
			panic(err) // a file of ours
		}
		text = append(append(text, part...), '\n')
	}
	return &cuda.Source{Name: name, Text: string(text), Defines: defines}
}

// typed is a source in each type of activations.
type typed map[device.Format]*cuda.Source

func typedSource(name string) typed {
	return typed{device.F32: source(name, "ACTIVATIONS=float"), device.BF16: source(name, "ACTIVATIONS=bf16")}
}

var (
	elementwiseSource = typedSource("elementwise")
	rowsSource        = typedSource("rows")
	lossSource        = typedSource("loss")
	optimSource       = source("optim")
)

// attentionTile is the side of attention's tiles, which must fit into shared memory.
func attentionTile(headDim int) int {
	switch {
	case headDim <= 128:
		return 64
	case headDim <= 256:
		return 32
	}
	return 16
}

// maxHeadDim is the largest head whose tiles fit into shared memory.
const maxHeadDim = 768

// attentionSource is attention for heads of a size.
func (d *Device) attentionSource(headDim int) *cuda.Source {
	s := d.attention[headDim]
	if s == nil {
		s = source("attention", fmt.Sprintf("HD=%d", headDim), fmt.Sprintf("TILE=%d", attentionTile(headDim)))
		d.attention[headDim] = s
	}
	return s
}
