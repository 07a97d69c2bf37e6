//go:build cuda && linux

package spago

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/cuda"
	"gqa/internal/device"
	gpu "gqa/internal/device/cuda"
	"gqa/internal/engine"
	"gqa/internal/launch"
	"gqa/internal/ops"
)

// BenchmarkStep times optimizer steps of models with random weights on a GPU. With -v it also prints where the time goes. As one of several
// processes, started with torchrun's variables and a fixed -benchtime such as 20x, it trains with the others.
func BenchmarkStep(b *testing.B) {
	if n, err := cuda.Count(); err != nil || n == 0 {
		b.Skipf("no GPU: %d found, %v", n, err)
	}
	for _, c := range []struct {
		name, config string
		batch, len   int
		exact        bool
		recompute    ops.Recompute
	}{
		{"llama-1b", llama1B, 4, 2048, false, ops.RecomputeNone},
		{"llama-1b-deterministic", llama1B, 4, 2048, true, ops.RecomputeNone},
		{"llama-7b", `{"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
			"num_key_value_heads": 8, "intermediate_size": 11008, "max_position_embeddings": 2048}`, 8, 2048, false, ops.RecomputeLayer},
		{"llama-1b-recomputed", llama1B, 4, 2048, false, ops.RecomputeLayer},
		{"neox-1b", `{"model_type": "gpt_neox", "vocab_size": 50304, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
			"intermediate_size": 8192, "max_position_embeddings": 2048, "rotary_pct": 0.25, "use_parallel_residual": true}`, 4, 2048, false, ops.RecomputeNone},
		{"llama-98m", `{"model_type": "llama", "vocab_size": 16384, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
			"num_key_value_heads": 12, "intermediate_size": 2048, "max_position_embeddings": 1024}`, 32, 1024, false, ops.RecomputeNone},
		{"llama-4m", `{"model_type": "llama", "vocab_size": 2048, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8,
			"num_key_value_heads": 8, "intermediate_size": 704, "max_position_embeddings": 512, "tie_word_embeddings": true}`, 128, 512, false, ops.RecomputeNone},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkStep(b, c.config, c.batch, c.len, c.exact, c.recompute) })
	}
}

const llama1B = `{"model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
	"num_key_value_heads": 8, "intermediate_size": 8192, "max_position_embeddings": 2048}`

func benchmarkStep(b *testing.B, config string, batch, length int, exact bool, how ops.Recompute) {
	world, err := launch.FromEnvironment(os.Getenv)
	if err != nil {
		b.Fatal(err)
	}
	d, err := gpu.Open(world.Local, gpu.Options{Activations: device.BF16, Nondeterministic: !exact})
	if err != nil {
		b.Fatal(err)
	}
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		b.Fatal(err)
	}
	var among Sharing
	if !world.Alone() {
		if among.Group, err = launch.Join(world, d); err != nil {
			b.Fatal(err)
		}
		defer among.Group.Close()
	}
	o := recipe.Optimizer{Name: recipe.AdamW, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, AttentionRate: 1}
	t, err := NewSharing(d, &recipe.Recipe{Optimizer: o}, engine.Economy{Recompute: how, MicroBatches: 1}, among, arch, random(arch))
	if err != nil {
		b.Fatal(err)
	}
	seqs := make([][]int32, batch)
	for i := range seqs {
		seqs[i] = make([]int32, length)
		for j := range seqs[i] {
			seqs[i][j] = rand.Int32N(int32(arch.Vocab))
		}
	}
	in := ops.NewBatch(seqs...)
	targets := append(append([]int32(nil), in.IDs[1:]...), -1)
	n := 0
	var queued, waited time.Duration // on the host: until all is requested, and until the gradient's norm is known
	step := func() {
		n++
		start := time.Now()
		t.Final()
		loss, err := t.Accumulate(in, targets, nil, 1)
		if err != nil {
			b.Fatal(err)
		}
		queued += time.Since(start)
		norm := t.Step(n, 1e-4)()
		waited += time.Since(start)
		value, _, _ := loss.Read()
		if err := d.Err(); err != nil {
			b.Fatal(err)
		}
		if n < 4 {
			b.Logf("step %d: loss %.4f, gradient norm %.4f", n, value, norm)
		}
	}
	for range 3 {
		step()
	}
	d.Host(t.optimizer.slots[0].m.values.Slice(0, 1)) // waits
	queued, waited = 0, 0
	start, steps := time.Now(), 0
	for b.Loop() {
		step()
		steps++
	}
	d.Host(t.optimizer.slots[0].m.values.Slice(0, 1))
	each := time.Since(start).Seconds() / float64(steps)
	b.ReportMetric(float64(batch*length)/each, "tokens/s")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(each*1e3, "ms/step")
	b.Logf("host: requests %.2f ms, until the norm %.2f ms a step", queued.Seconds()*1e3/float64(steps), waited.Seconds()*1e3/float64(steps))
	if g, err := cuda.Open(0); err == nil {
		b.Logf("%.1f GiB of the GPU's memory in use", float64(g.Memory-g.FreeMemory())/(1<<30))
	}
	defer d.Trim()
	defer t.release()
	if !testing.Verbose() {
		return
	}
	timings, err := d.Time(step)
	if err != nil {
		b.Fatal(err)
	}
	table, total := "", time.Duration(0)
	for _, t := range timings {
		table += fmt.Sprintf("%8.3f ms %5d calls %s\n", t.Total.Seconds()*1e3, t.Calls, t.Name)
		total += t.Total
	}
	b.Logf("one step, %v:\n%s", total, table)
}

// release returns the trainer's memory to the device.
func (t *Trainer) release() {
	if s := t.optimizer.shards; s != nil {
		for _, b := range s.buckets {
			t.engine.free(b.home)
			t.engine.free(b.operand)
		}
	}
	for _, s := range t.optimizer.slots {
		v := valueOf(s.param)
		for _, b := range []device.Buffer{v.data, v.compute, v.rest, v.grad, s.m.values, s.v.values, s.m.scales, s.v.scales, s.mean} {
			t.engine.free(b)
		}
	}
}
