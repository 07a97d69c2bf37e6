// Command gguf writes a Llama with random weights in f32, of the shape that docs/performance.md times, as a GGUF file:
//
//	go run ./bench/llamacpp/gguf -kv-heads 4 -o b4.gguf
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

const dim, layers, heads, ffn, vocab, context = 1024, 8, 16, 2816, 8192, 1 << 17

const (
	alignment  = 32
	typeUint32 = 4
	typeFloat  = 6
	typeString = 8
)

func main() {
	kvHeads := flag.Int("kv-heads", heads, "heads of keys and values")
	out := flag.String("o", "random.gguf", "file to write")
	flag.Parse()
	if err := write(*out, *kvHeads); err != nil {
		fmt.Fprintln(os.Stderr, "gguf:", err)
		os.Exit(1)
	}
}

func write(path string, kvHeads int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &writer{w: bufio.NewWriterSize(f, 1<<20)}
	ts := tensors(kvHeads)
	w.header(kvHeads, ts)
	w.weights(ts)
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

// tensor is a name and sizes, the fastest first, as GGUF has them.
type tensor struct {
	name  string
	sizes []int
}

func (t tensor) len() int {
	n := 1
	for _, s := range t.sizes {
		n *= s
	}
	return n
}

func tensors(kvHeads int) []tensor {
	kv := dim / heads * kvHeads
	ts := []tensor{{"token_embd.weight", []int{dim, vocab}}, {"output_norm.weight", []int{dim}}, {"output.weight", []int{dim, vocab}}}
	for i := range layers {
		for _, t := range []tensor{
			{"attn_norm", []int{dim}},
			{"attn_q", []int{dim, dim}},
			{"attn_k", []int{dim, kv}},
			{"attn_v", []int{dim, kv}},
			{"attn_output", []int{dim, dim}},
			{"ffn_norm", []int{dim}},
			{"ffn_gate", []int{dim, ffn}},
			{"ffn_up", []int{dim, ffn}},
			{"ffn_down", []int{ffn, dim}},
		} {
			ts = append(ts, tensor{fmt.Sprintf("blk.%d.%s.weight", i, t.name), t.sizes})
		}
	}
	return ts
}

// writer keeps the first error and counts bytes.
type writer struct {
	w   *bufio.Writer
	n   int
	err error
}

func (w *writer) put(values ...any) {
	for _, v := range values {
		if s, ok := v.(string); ok {
			w.put(uint64(len(s)))
			_, err := io.WriteString(w.w, s)
			w.done(len(s), err)
			continue
		}
		w.done(binary.Size(v), binary.Write(w.w, binary.LittleEndian, v))
	}
}

func (w *writer) done(n int, err error) {
	w.n += n
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) align() { w.put(make([]byte, (alignment-w.n%alignment)%alignment)) }

func (w *writer) header(kvHeads int, ts []tensor) {
	numbers := []struct {
		key   string
		value int
	}{
		{"block_count", layers},
		{"context_length", context},
		{"embedding_length", dim},
		{"feed_forward_length", ffn},
		{"attention.head_count", heads},
		{"attention.head_count_kv", kvHeads},
		{"rope.dimension_count", dim / heads},
		{"vocab_size", vocab},
	}
	w.put([]byte("GGUF"), uint32(3), uint64(len(ts)), uint64(len(numbers)+3))
	w.put("general.architecture", uint32(typeString), "llama", "tokenizer.ggml.model", uint32(typeString), "no_vocab")
	w.put("llama.attention.layer_norm_rms_epsilon", uint32(typeFloat), float32(1e-5))
	for _, n := range numbers {
		w.put("llama."+n.key, uint32(typeUint32), uint32(n.value))
	}
	w.places(ts)
	w.align()
}

// places writes where each tensor lies.
func (w *writer) places(ts []tensor) {
	offset := 0
	for _, t := range ts {
		w.put(t.name, uint32(len(t.sizes)))
		for _, s := range t.sizes {
			w.put(uint64(s))
		}
		w.put(uint32(0), uint64(offset)) // type f32
		offset += (4*t.len() + alignment - 1) / alignment * alignment
	}
}

func (w *writer) weights(ts []tensor) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, t := range ts {
		values := make([]float32, t.len())
		for i := range values {
			values[i] = (r.Float32() - 0.5) / 16
		}
		w.put(values)
		w.align()
	}
}
