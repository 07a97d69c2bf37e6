package eval_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"gqa/checkpoints/sample"
	"gqa/eval"
)

// extractSample writes the embedded sample into a temporary folder, which remove deletes.
func extractSample() (model string, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	model = filepath.Join(dir, sample.Name)
	if err := sample.Extract(model); err != nil {
		log.Fatal(err)
	}
	return model, func() { os.RemoveAll(dir) }
}

// This example measures the loss of the embedded sample on ten windows of its validation text.
func ExampleMeasureQuality() {
	path, remove := extractSample()
	defer remove()
	ctx := context.Background()

	m, err := eval.LoadModel(ctx, path, eval.ModelOptions{})
	if err != nil {
		log.Fatal(err)
	}
	o := eval.QualityOptions{SeqLen: 512, MaxWindows: 10}
	corpus, err := eval.LoadCorpus(ctx, "sample:val", m, o)
	if err != nil {
		log.Fatal(err)
	}
	q, err := eval.MeasureQuality(ctx, m, corpus, o)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("loss %.2f nats/token in %d windows\n", q.Loss, q.Windows)
	// Output: loss 1.92 nats/token in 10 windows
}
