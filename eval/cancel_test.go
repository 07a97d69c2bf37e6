package eval

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"gqa/internal/data"
)

// soon is long enough for what cannot be interrupted on a machine with much else to do.
const soon = 30 * time.Second

// TestWorkStops soon after its context is canceled, even within a pass. Without cancellation most would take minutes.
func TestWorkStops(t *testing.T) {
	shape := Shape{Name: "wide", Vocab: 4096, Dim: 512, Layers: 8, Heads: 8, KVHeads: 8, HeadDim: 64, FFN: 1024, Gated: true, Context: 1 << 20}
	m, err := RandomModel(t.Context(), shape, 0, ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ids := someIDs(1, 1<<17, shape.Vocab)
	wide := make([]int64, 1<<14)
	file := writeIDs(t, wide, []int{1, len(wide)}, "input_ids")
	for name, work := range map[string]func(ctx context.Context) error{
		"load": func(ctx context.Context) error {
			large := shape
			large.Layers = 256
			_, err := RandomModel(ctx, large, 0, ModelOptions{})
			return err
		},
		"quality": func(ctx context.Context) error {
			_, err := MeasureQuality(ctx, m, nextToken(&data.Tokens{Name: "ids", IDs: ids}, 1<<14), QualityOptions{})
			return err
		},
		"its teacher": func(ctx context.Context) error {
			_, err := MeasureQuality(ctx, m, nextToken(&data.Tokens{Name: "ids", IDs: ids}, 512), QualityOptions{Teacher: m})
			return err
		},
		"cache": func(ctx context.Context) error {
			_, err := MeasureLatency(ctx, m, Machine{}, LatencyOptions{Batch: 1, Context: 1 << 14})
			return err
		},
		"prefill": func(ctx context.Context) error {
			_, err := MeasureLatency(ctx, m, Machine{}, LatencyOptions{Batch: 1, Context: 1, PromptLen: 1 << 14})
			return err
		},
		"generate": func(ctx context.Context) error {
			return Generate(ctx, m, ids[:1<<15], GenerateOptions{MaxTokens: 1000, Stop: -1}, func(int32) error { return nil })
		},
		"logits": func(ctx context.Context) error {
			return WriteLogits(ctx, m, file, filepath.Join(t.TempDir(), "logits.safetensors"), false)
		},
		"logits, stepwise": func(ctx context.Context) error {
			return WriteLogits(ctx, m, file, filepath.Join(t.TempDir(), "logits.safetensors"), true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := work(ctx)
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > soon {
				t.Errorf("error %v after %v", err, took)
			}
		})
	}
}
