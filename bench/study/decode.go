package main

import (
	"context"
	"log"
	"maps"
	"path/filepath"
	"slices"

	"gqa/checkpoints"
	"gqa/eval"
)

// Names of a conversion's figures.
const (
	kvBytes  = "kv_bytes"  // what a token of a sequence takes in a cache of bfloat16
	decodeMS = "decode_ms" // time of a decode step, in milliseconds
)

// timeDecodes times a decode step of every conversion that has no time yet, and keeps the results again with their times. Those of one
// model are timed in turn.
func (r *runner) timeDecodes(ctx context.Context) error {
	results, err := readResults(filepath.Join(r.dir, resultsFile))
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(r.study.Models)) {
		m := r.study.Models[name]
		if m.Decode == (Decode{}) {
			continue
		}
		var untimed []Result
		for _, result := range of(results, name) {
			if _, timed := result.Figures[decodeMS]; result.Alpha == 0 && !timed {
				untimed = append(untimed, result)
			}
		}
		if err := r.timeInTurn(ctx, m, untimed); err != nil {
			return err
		}
	}
	return nil
}

// timeInTurn times and keeps conversions of a model.
func (r *runner) timeInTurn(ctx context.Context, of Model, results []Result) error {
	var cells []eval.Cell
	for _, result := range results {
		dir := filepath.Join(r.dir, "models", r.study.conversion(result.Cell).name())
		bf16 := eval.KVCache{DType: "bf16"}
		m, err := eval.LoadModel(ctx, dir, eval.ModelOptions{Weights: checkpoints.BF16, Cache: bf16, Device: of.Device})
		if err != nil {
			return err
		}
		defer m.Close()
		o := eval.LatencyOptions{Batch: of.Decode.Batch, Context: of.Decode.Context}
		cells = append(cells, eval.Cell{Name: result.name(), Model: m, KV: bf16, LatencyOptions: o})
	}
	if len(cells) == 0 {
		return nil
	}
	latencies, err := eval.MeasureLatencies(ctx, cells, eval.Machine{}, eval.Timing{})
	if err != nil {
		return err
	}
	for i, l := range latencies.Cells {
		result := results[i]
		if result.Figures == nil {
			result.Figures = map[string]float64{}
		}
		result.Figures[kvBytes], result.Figures[decodeMS] = float64(l.KVBytesPerToken), l.DecodeMSPerStep
		log.Printf("%s: a decode step takes %.3f ms", result.name(), l.DecodeMSPerStep)
		if err := r.keep(result); err != nil {
			return err
		}
	}
	return nil
}
