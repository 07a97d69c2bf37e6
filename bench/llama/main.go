// Command llama writes a Llama-shaped checkpoint of random bf16 weights, for measuring a conversion: a 7B model's layers, as
// many as were asked for, in shards.
//
//	go run ./bench/llama -layers 10 -shard 1500000000 DIR
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"gqa/checkpoints"
	"gqa/configs"
)

const config = `{
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "vocab_size": 32000,
  "hidden_size": 4096,
  "intermediate_size": 11008,
  "num_hidden_layers": %d,
  "num_attention_heads": 32,
  "torch_dtype": "bfloat16"
}
`

func main() {
	layers := flag.Int("layers", 10, "layers of 405 MB")
	shard := flag.Int64("shard", 1_500_000_000, "most bytes of a file")
	flag.Parse()
	if err := write(flag.Arg(0), fmt.Sprintf(config, *layers), *shard); err != nil {
		fmt.Fprintln(os.Stderr, "llama:", err)
		os.Exit(1)
	}
}

func write(dir, config string, shard int64) error {
	if dir == "" {
		return fmt.Errorf("want the folder to write")
	}
	tensors, err := specs(config)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	err = checkpoints.Write(dir, tensors, checkpoints.WriteOptions{ShardSize: shard}, func(s checkpoints.Spec, w io.Writer) error {
		return noise(w, s.Bytes(), random)
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o666)
}

// specs are the tensors of a model in bf16.
func specs(config string) (all []checkpoints.Spec, err error) {
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		return nil, err
	}
	tensors, err := arch.Tensors()
	for _, t := range tensors {
		all = append(all, checkpoints.Spec{Name: t.Name, DType: checkpoints.BF16, Shape: t.Shape})
	}
	return all, err
}

// noise writes n bytes of bf16 numbers between 2⁻⁷ and 2⁻⁵, of either sign.
func noise(w io.Writer, n int64, random *rand.Rand) error {
	buf := make([]byte, 1<<20)
	for n > 0 {
		piece := buf[:min(n, int64(len(buf)))]
		fill(piece, random)
		if _, err := w.Write(piece); err != nil {
			return err
		}
		n -= int64(len(piece))
	}
	return nil
}

func fill(piece []byte, random *rand.Rand) {
	for i := 0; i+8 <= len(piece); i += 8 {
		binary.LittleEndian.PutUint64(piece[i:], random.Uint64()&0x80ff_80ff_80ff_80ff|0x3c00_3c00_3c00_3c00)
	}
}
