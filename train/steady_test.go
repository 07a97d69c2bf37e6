package train

import (
	"runtime"
	"slices"
	"testing"

	"gqa/internal/device"
	"gqa/internal/device/devicetest"
	"gqa/internal/golden"
)

func TestSteadyMemory(t *testing.T) {
	d := devicetest.NewScarce()
	steady(t, d, 300, func() []uint64 { return []uint64{uint64(d.InUse)} })
	if d.Misused != nil {
		t.Error(d.Misused)
	}
}

// steady makes steps of a tiny model on d, with a validation after each tenth of them, and compares what is held after the
// first of these and in the end. Go's heap may grow by a few MiB, as a run keeps its metrics.
func steady(t *testing.T, d device.Device, steps int, held func() []uint64, sets ...string) {
	t.Helper()
	const heap = 8 << 20
	model := golden.Random(t, `{"model_type": "llama", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
		"num_key_value_heads": 2, "intermediate_size": 128, "max_position_embeddings": 32}`)
	r, o := smallRun(t, append([]string{
		"model=" + model, "data=" + writeIDs(t, golden.Windows(1, 20, 32, 128)), "valid=" + writeIDs(t, golden.Windows(2, 4, 32, 128)),
		"batch=2", "accumulate=1", "seq_len=32", "save_every=0", "log_every=1000",
	}, sets...)...)
	r.Steps, r.ValidEvery = steps, steps/10
	var first, last []uint64
	var before, after runtime.MemStats
	o.Observe = func(p Progress) {
		switch p.Step {
		case steps / 10:
			runtime.GC()
			runtime.ReadMemStats(&before)
			first = held()
		case steps:
			runtime.GC()
			runtime.ReadMemStats(&after)
			last = held()
		}
	}
	if err := begunOn(t, d, r, o).loop(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Logf("held after step %d: %v, and a heap of %d bytes; after step %d: %v, %d", steps/10, first, before.HeapAlloc, steps, last, after.HeapAlloc)
	if !slices.Equal(first, last) || first == nil || int64(after.HeapAlloc)-int64(before.HeapAlloc) > heap {
		t.Error("memory is lost")
	}
}
