package spago

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/device/devicetest"
	"gqa/internal/engine"
	"gqa/internal/model"
	"gqa/internal/ops"
)

const t5Config = `{"model_type": "t5", "vocab_size": 300, "d_model": 96, "num_layers": 2, "num_heads": 6, "d_kv": 16, "d_ff": 144,
	"feed_forward_proj": "gated-gelu", "tie_word_embeddings": false}`

// pass is a micro-batch of a model in training.
type pass struct {
	arch    *configs.Arch
	trainer *Trainer
	batch   ops.Batch
	targets []int32
}

// newPass returns a micro-batch on d.
func newPass(t *testing.T, d device.Device, config string, how ops.Recompute) *pass {
	t.Helper()
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	o := recipe.Optimizer{Name: recipe.AdamW, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, AttentionRate: 1}
	trainer, err := NewTrainer(d, &recipe.Recipe{Optimizer: o}, engine.Economy{Recompute: how, MicroBatches: 1}, arch, random(arch))
	if err != nil {
		t.Fatal(err)
	}
	return newPassOf(arch, trainer)
}

// newJointPass is newPass with joint weights.
func newJointPass(t *testing.T, d device.Device, config string, how ops.Recompute) *pass {
	t.Helper()
	p := newPass(t, d, config, how)
	shapes, err := p.arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	params, err := loadParams(d, p.arch, random(p.arch), loading{joined: joints(d, shapes)})
	if err != nil {
		t.Fatal(err)
	}
	o, err := newOptimizer(d, p.trainer.optimizer.spec, Sharing{}, p.arch, params)
	if err != nil {
		t.Fatal(err)
	}
	return newPassOf(p.arch, &Trainer{engine: New(d), params: params, model: params.Model(p.arch), optimizer: o, recompute: how})
}

func newPassOf(arch *configs.Arch, trainer *Trainer) *pass {
	p := &pass{arch: arch, trainer: trainer, batch: ops.NewBatch([]int32{3, 1, 4, 1, 5, 9, 2, 6, 5}, []int32{2, 7, 1, 8, 2, 8, 1, 8, 2})}
	if arch.EncoderLayers > 0 {
		source := ops.NewBatch([]int32{1, 6, 1, 8, 0, 3}, []int32{1, 4, 1, 4, 2, 1})
		p.batch.Source = &source
	}
	p.targets = append(slices.Clone(p.batch.IDs[1:]), -1)
	return p
}

// gradients runs the micro-batch and returns the loss and all gradients.
func (p *pass) gradients(t *testing.T) (loss float64, all [][]float32) {
	t.Helper()
	var l engine.Loss
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		l, err = p.trainer.Accumulate(p.batch, p.targets, nil, 1)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the backward pass does not end")
	}
	if err != nil {
		t.Fatal(err)
	}
	loss, _, _ = l.Read()
	for _, s := range p.trainer.optimizer.slots {
		if g := Grad(s.param); !g.None() {
			all = append(all, p.trainer.engine.device.Host(g))
		}
	}
	return loss, all
}

var allRecomputes = []ops.Recompute{ops.RecomputeNone, ops.RecomputeAttention, ops.RecomputeLayer}

// Whichever buffer there is no memory for, the pass ends, and once it is abandoned it can be run again, with the same bits and
// no more memory.
func TestScarce(t *testing.T) {
	if testing.Short() {
		t.Skip("it would take minutes under the race detector, and other tests start the same goroutines")
	}
	for name, config := range map[string]string{"llama": llamaConfig, "gpt2": gptConfig, "t5": t5Config} {
		for i := range 2 * len(allRecomputes) {
			d, how := devicetest.NewScarce(), allRecomputes[i/2]
			p := newPass(t, d, config, how)
			if i%2 == 1 {
				p = newJointPass(t, d, config, how)
			}
			loss, want := p.gradients(t)
			p.trainer.Abandon()
			held, calls := d.InUse, d.Calls
			p.gradients(t)
			p.trainer.Abandon()
			again := d.Calls - calls // in a pass that has the gradients' memory
			if math.IsNaN(loss) || d.InUse != held || again < 20 {
				t.Fatalf("%s: loss %v, %d allocations, %d bytes in use after the first pass, %d after the second", name, loss, again, held, d.InUse)
			}
			for n := range again {
				d.FailAt = d.Calls + n + 1
				p.gradients(t)
				if !errors.As(d.Err(), new(*device.MemoryError)) {
					t.Fatalf("%s: without buffer %d the pass goes on: %v", name, n, d.Err())
				}
				p.trainer.Abandon()
				d.Recover()
				if d.InUse > held { // it may be less, if there was no memory for a gradient
					t.Fatalf("%s: %d bytes in use after a failure at buffer %d, want %d", name, d.InUse, n, held)
				}
			}
			d.FailAt = 0
			other, got := p.gradients(t)
			if other != loss || !slices.EqualFunc(got, want, slices.Equal[[]float32]) {
				t.Errorf("%s: after failures the loss is %v, want %v, with the same gradients", name, other, loss)
			}
			if p.trainer.Abandon(); d.InUse != held || d.Misused != nil {
				t.Errorf("%s: %d bytes in use in the end, want %d; %v", name, d.InUse, held, d.Misused)
			}
		}
	}
}

// random returns random weights, made as they are asked for.
func random(arch *configs.Arch) model.Weights {
	return func(yield func(p configs.Param, data []float32) error) error {
		params, err := arch.Params()
		if err != nil {
			return err
		}
		r, some := rand.New(rand.NewPCG(1, 2)), make([]float32, 1<<20+7) // repeated, as there may be billions of weights
		for i := range some {
			some[i] = float32(r.NormFloat64()) * 0.02
		}
		for _, p := range params {
			data := make([]float32, p.Size())
			for i := 0; i < len(data) && !p.IsNorm(); i += copy(data[i:], some) {
			}
			for i := 0; i < len(data) && p.IsNorm() && !p.Bias; i++ {
				data[i] = 1
			}
			if err := yield(p, data); err != nil {
				return err
			}
		}
		return nil
	}
}
