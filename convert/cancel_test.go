package convert

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"gqa/convert/calibrate"
)

// TestRunStops soon after its context is canceled, at any stage, and leaves no files. Without cancellation each would
// take minutes.
func TestRunStops(t *testing.T) {
	const config = `{"model_type": "llama", "vocab_size": 512, "hidden_size": 1024, "intermediate_size": 1024, "num_hidden_layers": %d,
		"num_attention_heads": 64, "max_position_embeddings": 512}`
	text := &calibrate.Data{IDs: make([]int32, 1<<20), Tokens: 1 << 20}
	for i := range text.IDs {
		text.IDs[i] = int32(i * i % 512)
	}
	dir := model{config: fmt.Sprintf(config, 4)}.write(t)
	for name, o := range map[string]Options{
		"grouping":        {Goal: Groups(4), Method: Calibrated, Grouping: Similar},
		"calibration":     {Goal: Groups(4), Method: Align, Calibration: text},
		"refine by layer": {Goal: Groups(4), Method: First, Calibration: text, Refine: 1000, RefineBy: ByLayer},
		"refine":          {Goal: Groups(4), Method: First, Calibration: &calibrate.Data{IDs: text.IDs, Tokens: 4096}, Refine: 1000, RefineBy: ByModel},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.AfterFunc(700*time.Millisecond, cancel)
			parent := t.TempDir()
			began := time.Now()
			_, err := newPlan(t, dir, o).Run(ctx, filepath.Join(parent, "out"), RunOptions{})
			if took := time.Since(began); !errors.Is(err, context.Canceled) || took > 6*time.Second {
				t.Errorf("error %v after %v", err, took)
			}
			wantEmpty(t, parent)
		})
	}
}
