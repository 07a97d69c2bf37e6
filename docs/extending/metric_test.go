package extending_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"gqa/checkpoints/sample"
	"gqa/eval"
)

// topK scores 1 where fewer than k tokens are likelier than the one that came, else 0.
func topK(k int) eval.Metric {
	score := func(scores, logits []float32, targets []int32) {
		vocab := len(logits) / len(scores)
		for i, target := range targets {
			if target < 0 {
				continue
			}
			row, likelier := logits[i*vocab:(i+1)*vocab], 0
			for _, l := range row {
				if l > row[target] {
					likelier++
				}
			}
			if scores[i] = 0; likelier < k {
				scores[i] = 1
			}
		}
	}
	return eval.Metric{Name: fmt.Sprintf("top-%d", k), Score: score}
}

func Example_metric() {
	dir, err := os.MkdirTemp("", "metric")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := sample.Extract(dir); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	m, err := eval.LoadModel(ctx, dir, eval.ModelOptions{})
	if err != nil {
		log.Fatal(err)
	}
	o := eval.QualityOptions{SeqLen: 512, MaxWindows: 10, Metrics: []eval.Metric{topK(1), topK(5)}}
	corpus, err := eval.LoadCorpus(ctx, "sample:val", m, o)
	if err != nil {
		log.Fatal(err)
	}
	q, err := eval.MeasureQuality(ctx, m, corpus, o)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"top-1", "top-5"} {
		e := q.Metrics[name]
		fmt.Printf("%s %.2f ± %.2f of %d\n", name, e.Value, e.Stderr, e.N)
	}
	fmt.Println("top-1 is the token accuracy:", fmt.Sprintf("%.6f", q.Metrics["top-1"].Value) == fmt.Sprintf("%.6f", q.TokenAccuracy))
	// Output:
	// top-1 0.58 ± 0.02 of 5110
	// top-5 0.79 ± 0.01 of 5110
	// top-1 is the token accuracy: true
}
