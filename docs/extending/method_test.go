package extending_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"gqa/checkpoints/sample"
	"gqa/convert"
	"gqa/eval"
)

// median takes the median of each number over the heads of a group.
func median(dst []float32, members [][]float32) {
	all := make([]float32, len(members))
	for i := range dst {
		for m, head := range members {
			all[m] = head[i]
		}
		slices.Sort(all)
		dst[i] = (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	}
}

func Example_method() {
	dir, err := os.MkdirTemp("", "method")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	input := filepath.Join(dir, "model")
	if err := sample.Extract(input); err != nil {
		log.Fatal(err)
	}
	for _, o := range []convert.Options{
		{Goal: convert.Groups(1), Method: convert.Mean},
		{Goal: convert.Groups(1), Method: "median", Pool: median},
	} {
		output := filepath.Join(dir, string(o.Method))
		loss, err := convertAndMeasure(input, output, o)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%-6s %.2f nats/token\n", o.Method, loss)
	}
	// Output:
	// mean   5.42 nats/token
	// median 5.50 nats/token
}

func convertAndMeasure(input, output string, o convert.Options) (loss float64, err error) {
	ctx := context.Background()
	src, err := convert.Open(input, convert.SourceOptions{})
	if err != nil {
		return 0, err
	}
	defer src.Close()
	plan, err := convert.NewPlan(src, o)
	if err != nil {
		return 0, err
	}
	if _, err := plan.Run(ctx, output, convert.RunOptions{}); err != nil {
		return 0, err
	}
	m, err := eval.LoadModel(ctx, output, eval.ModelOptions{})
	if err != nil {
		return 0, err
	}
	how := eval.QualityOptions{SeqLen: 512, MaxWindows: 10}
	corpus, err := eval.LoadCorpus(ctx, "sample:val", m, how)
	if err != nil {
		return 0, err
	}
	q, err := eval.MeasureQuality(ctx, m, corpus, how)
	if err != nil {
		return 0, err
	}
	return q.Loss, nil
}
