package convert_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"gqa/checkpoints/sample"
	"gqa/convert"
)

// A checkpoint with 8 KV heads is converted to 4 by the mean.
func Example() {
	dir, err := os.MkdirTemp("", "gqa")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	input, output := filepath.Join(dir, "model"), filepath.Join(dir, "model-gqa4")
	if err := sample.Extract(input); err != nil {
		log.Fatal(err)
	}

	src, err := convert.Open(input, convert.SourceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	fmt.Printf("%s: %d heads, %d KV heads\n", src.Arch.Family.Name, src.Arch.Heads, src.Arch.KVHeads)

	plan, err := convert.NewPlan(src, convert.Options{Goal: convert.Groups(4), Method: convert.Mean})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d of %d tensors are computed\n", plan.Pooled(), len(plan.Specs))

	done, err := plan.Run(context.Background(), output, convert.RunOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("KV heads %d -> %d, cache %d -> %d bytes a token\n",
		done.SourceGroups, done.Groups, done.SourceKVBytesPerToken, done.KVBytesPerToken)
	fmt.Println("loads in", done.LoadsIn)
	// Output:
	// llama: 8 heads, 8 KV heads
	// 8 of 38 tensors are computed
	// KV heads 8 -> 4, cache 4096 -> 2048 bytes a token
	// loads in [gqa transformers LlamaForCausalLM]
}

// A number of KV heads that the checkpoint cannot have is an error before anything is written.
func ExampleNewPlan_errors() {
	dir, err := os.MkdirTemp("", "gqa")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	input := filepath.Join(dir, "model")
	if err := sample.Extract(input); err != nil {
		log.Fatal(err)
	}
	src, err := convert.Open(input, convert.SourceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	_, err = convert.NewPlan(src, convert.Options{Goal: convert.Groups(3), Method: convert.Mean})
	fmt.Println(err)
	// Output:
	// groups is 3, want a divisor of the checkpoint's 8 KV heads (8 heads): one of [1 2 4 8]
}
