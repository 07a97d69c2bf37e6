package report_test

import (
	"fmt"

	"gqa/eval/report"
)

// This example compares a report with the baseline of an earlier build, in which the conversion lost less.
func ExampleGate() {
	measured := report.Report{Model: "my-model", Corpus: "valid.txt", Machine: "ci", Points: []report.Point{
		{Groups: 8, Method: report.MethodMHA, Loss: 1.7254, Perplexity: 5.615, KVBytesPerToken: 8192, Batch: 1, Context: 2048, Params: 3_737_856},
		{Groups: 2, Method: "calibrated", Loss: 1.95, Perplexity: 7.029, KVBytesPerToken: 2048, Batch: 1, Context: 2048, Params: 3_340_544},
	}}
	baseline := measured
	baseline.Points = append([]report.Point(nil), measured.Points...)
	baseline.Points[1].Loss, baseline.Points[1].Perplexity = 1.90, 6.686

	verdict, err := report.Gate(report.Scored{Report: measured}, report.Scored{Report: baseline}, report.DefaultLimits)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range verdict.Failures() {
		fmt.Println(f)
	}
	// Output: g=2 calibrated: loss: got 1.9500, want at most 1.9095 (baseline 1.9000)
}
