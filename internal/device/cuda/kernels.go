//go:build cuda && linux

package cuda

import (
	"cmp"
	"embed"
	"fmt"
	"sync"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

//go:embed kernels
var kernelFiles embed.FS

// headers are the files that kernels need beside the common header.
var headers = map[string][]string{
	"attention":     {"masks.cuh"},
	"decode":        {"tensor.cuh", "cluster.cuh", "masks.cuh"},
	"decode_ints":   {"tensor.cuh", "cluster.cuh", "masks.cuh", "ints.cuh", "decode.cu"},
	"decode_latent": {"tensor.cuh", "cluster.cuh", "masks.cuh", "decode.cu"},
	"elementwise":   {"activation.cuh"},
	"heads":         {"masks.cuh"},
	"rows":          {"masks.cuh"},
	"sinks":         {"masks.cuh", "ints.cuh"},
	"skinny":        {"tensor.cuh", "activation.cuh", "products.cuh"},
	"store":         {"masks.cuh", "ints.cuh"},
	"streams":       {"tensor.cuh", "cluster.cuh", "activation.cuh", "products.cuh"},
}

// source returns a file of kernels after its headers.
func source(name string, defines ...string) *cuda.Source {
	var text []byte
	for _, file := range append(append([]string{"common.cuh"}, headers[name]...), name+".cu") {
		part, err := kernelFiles.ReadFile("kernels/" + file)
		if err != nil {
			panic(err) // an embedded file
		}
		text = append(append(text, part...), '\n')
	}
	return &cuda.Source{Name: name, Text: string(text), Defines: defines}
}

// typed is a source for each type of activations.
type typed map[device.Format]*cuda.Source

func typedSource(name string, defines ...string) typed {
	with := func(act string) *cuda.Source {
		return source(name, append([]string{"ACTIVATIONS=" + act}, defines...)...)
	}
	return typed{device.F32: with("float"), device.BF16: with("bf16")}
}

var chunkDefine = fmt.Sprintf("CHUNK=%d", chunk)

var (
	elementwiseSource = typedSource("elementwise")
	headsSource       = typedSource("heads")
	rowsSource        = typedSource("rows")
	lossSource        = typedSource("loss", chunkDefine)
	optimSource       = source("optim", chunkDefine)
	skinnySource      = typedSource("skinny")
	storeSource       = typedSource("store")
	skinnyTiles       = source("skinny", "ACTIVATIONS=bf16", "TENSOR=1")
	streamsSource     = source("streams", "ACTIVATIONS=bf16")
)

// attentionTile is the side of attention's tiles, which must fit in shared memory.
func attentionTile(headDim int) int {
	switch {
	case headDim <= 128:
		return 64
	case headDim <= 256:
		return 32
	}
	return 16
}

// maxHeadDim is the largest head dim whose tiles fit in shared memory.
const maxHeadDim = 768

// widths are those of a head's keys and of its values.
type widths struct{ keys, values int }

// widthsOf returns the widths of an attention.
func widthsOf(s device.Scores) widths { return widths{s.HeadDim, cmp.Or(s.ValueDim, s.HeadDim)} }

// most returns the larger width.
func (w widths) most() int { return max(w.keys, w.values) }

// tile returns the side of attention's tiles.
func (w widths) tile() int { return attentionTile(w.most()) }

// tiles returns the number of tiles of n rows.
func (w widths) tiles(n int) int { return (n + w.tile() - 1) / w.tile() }

var attentionSources sync.Map // of *cuda.Source by widths; devices share them, so that a GPU loads each once

// attentionSource returns the attention kernels for heads of some widths.
func attentionSource(w widths) *cuda.Source {
	s, ok := attentionSources.Load(w)
	if !ok {
		s, _ = attentionSources.LoadOrStore(w,
			source("attention", fmt.Sprintf("HD=%d", w.keys), fmt.Sprintf("VD=%d", w.values), fmt.Sprintf("TILE=%d", w.tile())))
	}
	return s.(*cuda.Source)
}
