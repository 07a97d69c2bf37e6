// Consumer uses the toolkit from a module of its own: it converts the embedded sample, measures it before and after, and gates
// the result.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"example.com/owner/gqa/checkpoints/sample"
	"example.com/owner/gqa/convert"
	"example.com/owner/gqa/eval"
	"example.com/owner/gqa/eval/report"
)

func main() {
	dir, err := os.MkdirTemp("", "consumer")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(context.Background(), dir); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) error {
	original, converted := filepath.Join(dir, "model"), filepath.Join(dir, "model-gqa4")
	if err := sample.Extract(original); err != nil {
		return err
	}
	src, err := convert.Open(original, convert.SourceOptions{})
	if err != nil {
		return err
	}
	defer src.Close()
	plan, err := convert.NewPlan(src, convert.Options{Goal: convert.Groups(4), Method: convert.Mean})
	if err != nil {
		return err
	}
	summary, err := plan.Run(ctx, converted, convert.RunOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("%d KV heads, %d bytes of cache per token\n", summary.Groups, summary.KVBytesPerToken)

	before, err := measure(ctx, original)
	if err != nil {
		return err
	}
	after, err := measure(ctx, converted)
	if err != nil {
		return err
	}
	fmt.Printf("loss %.2f -> %.2f\n", before.Points[0].Loss, after.Points[0].Loss)
	after.Points[0].Groups = before.Points[0].Groups // the gate compares points of one size
	verdict, err := report.Gate(report.Scored{Report: after}, report.Scored{Report: before}, report.DefaultLimits)
	if err == nil && verdict.Err() == nil {
		return errors.New("the gate lets the mean without up-training pass")
	}
	return err
}

// measure returns a report of one point.
func measure(ctx context.Context, path string) (report.Report, error) {
	m, err := eval.LoadModel(ctx, path, eval.ModelOptions{})
	if err != nil {
		return report.Report{}, err
	}
	o := eval.QualityOptions{SeqLen: 256, MaxWindows: 4}
	corpus, err := eval.LoadCorpus(ctx, "sample:val", m, o)
	if err != nil {
		return report.Report{}, err
	}
	q, err := eval.MeasureQuality(ctx, m, corpus, o)
	if err != nil {
		return report.Report{}, err
	}
	point := report.Point{
		Groups: m.Arch.KVHeads, Method: report.MethodMHA, Loss: q.Loss, LossStderr: q.LossStderr, Perplexity: q.Perplexity,
		KVBytesPerToken: 4096, Params: m.Parameters, Batch: 1, Context: 256,
	}
	return report.Report{Model: "sample", Corpus: corpus.Name, Machine: "this", Points: []report.Point{point}}, nil
}
