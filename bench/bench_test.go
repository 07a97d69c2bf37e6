// Package bench measures the toolkit as a whole, beside its peers. docs/performance.md has the commands and what to expect, bench/results all figures.
package bench

import (
	"fmt"
	"testing"

	"gqa/checkpoints"
	"gqa/eval"
	"gqa/internal/cpu/pool"
)

// BenchmarkDecode is a whole decode step of a llama with dim 1024, 8 layers, 16 heads, ffn 2816 and vocabulary 8192, and the
// roofline's: the larger of bytes / bandwidth and operations / peak, as measured just before. One round (-benchtime=1x)
// is the median of many steps.
func BenchmarkDecode(b *testing.B) {
	formats := map[string]eval.ModelOptions{"f32": {}, "bf16": {Weights: checkpoints.BF16, Cache: eval.KVCache{DType: "bf16"}}}
	for _, threads := range []int{1, 2} {
		pool.SetThreads(threads)
		for _, cell := range []struct{ batch, context int }{{8, 8192}, {1, 8192}, {8, 2048}, {1, 2048}, {8, 128}, {1, 128}} {
			for _, kv := range []int{16, 8, 4, 2, 1} {
				for _, name := range []string{"f32", "bf16"} {
					b.Run(fmt.Sprintf("dtype=%s/kv=%d/batch=%d/context=%d/threads=%d", name, kv, cell.batch, cell.context, threads), func(b *testing.B) {
						step(b, formats[name], kv, cell.batch, cell.context)
					})
				}
			}
		}
	}
	pool.SetThreads(0)
}

func step(b *testing.B, o eval.ModelOptions, kv, batch, context int) {
	shape, err := eval.ShapeByName(fmt.Sprintf("layers=8,heads=16,kv_heads=%d,dim=1024,head_dim=64,ffn=2816,vocab=8192,context=8192,gated=true", kv))
	if err != nil {
		b.Fatal(err)
	}
	m, err := eval.RandomModel(b.Context(), shape, 0, o)
	if err != nil {
		b.Fatal(err)
	}
	machine := eval.MeasureMachine(b.Context()) // its memory is faster and slower by the minute
	var l *eval.Latency
	for range b.N {
		if l, err = eval.MeasureLatency(b.Context(), m, machine, eval.LatencyOptions{Batch: batch, Context: context}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(l.DecodeMSPerStep, "ms/step")
	b.ReportMetric(l.RooflineMS, "roofline-ms")
	b.ReportMetric(100*l.RooflineShare, "%roofline")
	b.ReportMetric(0, "ns/op")
}
