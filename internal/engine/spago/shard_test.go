package spago

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/comm"
	"gqa/internal/comm/commtest"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/engine"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// Several processes that share the windows of each step get the losses' gradients, weights and optimizer's state of one process,
// within rounding, and all of them the same weights to the bit.
func TestShards(t *testing.T) {
	for _, c := range []struct {
		name, config string
		ranks        int
		sharding     recipe.Sharding
		recompute    ops.Recompute
		passes       int
		change       func(*recipe.Optimizer)
	}{
		{"zero-1", "gpt2", 2, recipe.ShardOptimizer, ops.RecomputeNone, 1, nil},
		{"zero-1, two passes", "gpt2", 3, recipe.ShardOptimizer, ops.RecomputeAttention, 2, nil},
		{"zero-2, two passes", "gpt2", 2, recipe.ShardGradients, ops.RecomputeLayer, 2, nil},
		{"tied, zero-2", "llama with biases, tied", 3, recipe.ShardGradients, ops.RecomputeLayer, 1, nil},
		{"muon", "llama", 3, recipe.ShardOptimizer, ops.RecomputeNone, 1, func(o *recipe.Optimizer) { o.Name = recipe.Muon }},
		{"muon, zero-2, two passes", "llama", 2, recipe.ShardGradients, ops.RecomputeNone, 2, func(o *recipe.Optimizer) { o.Name = recipe.Muon }},
		{"average", "llama", 2, recipe.ShardOptimizer, ops.RecomputeNone, 1, func(o *recipe.Optimizer) { o.Average = 0.5 }},
		{"joints", "joint llama", 2, recipe.ShardOptimizer, ops.RecomputeLayer, 2, nil},
		{"joints with biases", "joint llama with biases, tied", 2, recipe.ShardOptimizer, ops.RecomputeNone, 1, nil},
		{"joints, zero-2", "joint llama", 3, recipe.ShardGradients, ops.RecomputeNone, 2, nil},
		{"adafactor", "llama with biases, tied", 3, recipe.ShardOptimizer, ops.RecomputeNone, 1, adafactor},
		{"adafactor, zero-2, two passes, joints", "joint llama", 2, recipe.ShardGradients, ops.RecomputeLayer, 2, adafactor},
		{"adafactor, lora", "lora llama", 2, recipe.ShardOptimizer, ops.RecomputeNone, 2, adafactor},
		{"attention", "attention llama", 2, recipe.ShardGradients, ops.RecomputeNone, 2, nil},
		{"attention, joints", "joint attention llama with biases, tied", 3, recipe.ShardOptimizer, ops.RecomputeLayer, 1, nil},
		{"lora", "lora llama", 3, recipe.ShardGradients, ops.RecomputeNone, 1, nil},
		{"lora, joints", "joint lora llama", 2, recipe.ShardOptimizer, ops.RecomputeLayer, 2, nil},
		{"lora, muon", "lora llama", 2, recipe.ShardOptimizer, ops.RecomputeNone, 1, func(o *recipe.Optimizer) { o.Name, o.Average = recipe.Muon, 0.5 }},
		{"zero-3, adafactor, joints", "joint llama with biases, tied", 3, recipe.ShardParameters, ops.RecomputeLayer, 2, adafactor},
		{"zero-3, attention", "attention llama", 2, recipe.ShardParameters, ops.RecomputeNone, 2, nil},
		{"zero-3, attention, joints", "joint attention llama with biases, tied", 3, recipe.ShardParameters, ops.RecomputeLayer, 1, nil},
		{"zero-3, lora", "lora llama", 3, recipe.ShardParameters, ops.RecomputeNone, 1, nil},
		{"zero-3, lora, joints", "joint lora llama", 2, recipe.ShardParameters, ops.RecomputeLayer, 2, nil},
		{"zero-3, lora, muon", "lora llama", 2, recipe.ShardParameters, ops.RecomputeAttention, 1, func(o *recipe.Optimizer) { o.Name, o.Average = recipe.Muon, 0.5 }},
		{"zero-3", "gpt2", 2, recipe.ShardParameters, ops.RecomputeNone, 1, nil},
		{"zero-3, three passes", "llama", 3, recipe.ShardParameters, ops.RecomputeLayer, 3, nil},
		{"zero-3, tied", "llama with biases, tied", 2, recipe.ShardParameters, ops.RecomputeAttention, 2, nil},
		{"zero-3, average", "llama", 3, recipe.ShardParameters, ops.RecomputeNone, 1, func(o *recipe.Optimizer) { o.Average = 0.5 }},
		{"zero-3, joints", "joint llama with biases, tied", 3, recipe.ShardParameters, ops.RecomputeLayer, 2, nil},
		{"zero-3, muon", "llama", 3, recipe.ShardParameters, ops.RecomputeLayer, 2, func(o *recipe.Optimizer) { o.Name = recipe.Muon }},
		{"zero-3, muon, joints, average", "joint llama with biases, tied", 2, recipe.ShardParameters, ops.RecomputeNone, 1, func(o *recipe.Optimizer) { o.Name, o.Average = recipe.Muon, 0.5 }},
		{"zero-2, joints with biases", "joint llama with biases, tied", 3, recipe.ShardGradients, ops.RecomputeLayer, 2, nil},
		{"zero-3, one rank", "llama", 1, recipe.ShardParameters, ops.RecomputeLayer, 1, nil},
		{"one rank", "llama", 1, recipe.ShardOptimizer, ops.RecomputeNone, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			how := engine.Economy{Recompute: c.recompute, MicroBatches: c.passes}
			one := shared(t, c.config, c.change, how, Sharing{})
			windows := golden.Windows(7, c.ranks*c.passes, 9, 40)
			var all sync.WaitGroup
			ranks := make([]map[string][]float32, c.ranks)
			for rank, group := range commtest.Local(c.ranks) {
				all.Go(func() {
					tr := shared(t, c.config, c.change, how, sharing(group, c.sharding))
					norms := steps(t, tr, windows, rank*c.passes, (rank+1)*c.passes, len(windows))
					ranks[rank] = everything(t, tr)
					t.Logf("rank %d: norms %v", rank, norms)
				})
			}
			norms := steps(t, one, windows, 0, len(windows), len(windows))
			t.Logf("one process: norms %v", norms)
			want := everything(t, one)
			all.Wait()
			for name, w := range want {
				if strings.HasPrefix(name, "weight ") && c.sharding == recipe.ShardParameters {
					continue // no rank has it
				}
				for i, x := range w {
					if got := ranks[0][name][i]; math.Abs(float64(got-x)) > 2e-5*math.Max(1, math.Abs(float64(x))) {
						t.Fatalf("%s: number %d is %v, one process has %v", name, i, got, x)
					}
				}
			}
			for rank, have := range ranks[1:] {
				for name, w := range have {
					for i, x := range w {
						if x != ranks[0][name][i] {
							t.Fatalf("%s: number %d is %v on rank %d, %v on rank 0", name, i, x, rank+1, ranks[0][name][i])
						}
					}
				}
			}
		})
	}
}

func adafactor(o *recipe.Optimizer) {
	o.Name, o.Adafactor = recipe.Adafactor, recipe.AdafactorSettings{DecayRate: 0.8, ClipThreshold: 1}
}

func sharing(group comm.Comm, how recipe.Sharding) Sharing {
	return Sharing{Group: group, Gradients: how == recipe.ShardGradients, Parameters: how == recipe.ShardParameters}
}

func shared(t *testing.T, config string, change func(*recipe.Optimizer), how engine.Economy, among Sharing) *Trainer {
	t.Helper()
	config, joint := strings.CutPrefix(config, "joint ")
	config, attention := strings.CutPrefix(config, "attention ")
	config, lora := strings.CutPrefix(config, "lora ")
	arch, all := golden.TinyModel(t, golden.Tiny[config])
	o := recipe.Optimizer{Name: recipe.AdamW, LR: 1e-3, AttentionRate: 1, Beta1: 0.9, Beta2: 0.95, Eps: 1e-3, WeightDecay: 0.1, Decay: recipe.DecayAll, Clip: 1}
	if change != nil {
		change(&o)
	}
	r := &recipe.Recipe{Optimizer: o, LoRA: recipe.LoRA{Rank: 2, Alpha: 4, Projections: "q,v,down"}}
	switch {
	case attention:
		r.Train = recipe.TrainAttention
	case lora:
		r.Train = recipe.TrainLoRA
	}
	if !joint {
		tr, err := NewSharing(cpu.New(), r, how, among, arch, model.FromMap(arch, all))
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	d := cpu.New()
	list, err := arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	load := loading{joined: joints(d, list), recipe: r}
	if among.Parameters {
		load.shards = newUnits(d, among)
	}
	params, err := loadParams(d, arch, model.FromMap(arch, all), load)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := newSharing(d, o, how, among, arch, params)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// steps makes three steps with the windows [lo, hi) of all.
func steps(t *testing.T, tr *Trainer, windows [][]int32, lo, hi, all int) (norms []string) {
	t.Helper()
	for n := 1; n <= 3; n++ {
		for w := lo; w < hi; w++ {
			if w == hi-1 {
				tr.Final()
			}
			b, targets := nextTokens([][]int32{windows[w]})
			if _, err := tr.Accumulate(b, targets, nil, 1/float32(all)); err != nil {
				t.Error(err)
			}
		}
		norms = append(norms, fmt.Sprint(tr.Step(n, 1e-2)()))
	}
	return norms
}

// everything returns the result and the state on rank 0, and the weights on others.
func everything(t *testing.T, tr *Trainer) map[string][]float32 {
	t.Helper()
	all := map[string][]float32{}
	for _, s := range tr.optimizer.slots {
		if !tr.Divides() {
			all["weight "+s.name] = append([]float32(nil), valueOf(s.param).host()...)
		}
	}
	err := tr.Lead(func() error {
		states := tr.State()
		for i := range states { // in another order than they are listed
			s := states[len(states)-1-i]
			all[s.Name] = append([]float32(nil), s.Get()...)
		}
		for _, name := range tr.params.Names {
			all["result "+name] = append([]float32(nil), tr.Result(name)...)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// recorder notes how many operators have run backward when a bucket's gradients are first summed.
type recorder struct {
	comm.Comm
	backward *int
	at       []int
	gathered int
}

func (r *recorder) AllGather(x device.Buffer) comm.Op {
	r.gathered++
	return r.Comm.AllGather(x)
}

func (r *recorder) ReduceScatter(dst, x device.Buffer) comm.Op {
	r.at = append(r.at, *r.backward)
	return r.Comm.ReduceScatter(dst, x)
}

// Gradients are summed layer by layer while the backward pass goes on, whether or not layers are computed again. Weights arrive while the
// next forward pass goes on.
func TestShardsOverlap(t *testing.T) {
	for _, how := range []ops.Recompute{ops.RecomputeNone, ops.RecomputeLayer} {
		backward := 0
		group := &recorder{Comm: commtest.Local(1)[0], backward: &backward}
		tr := shared(t, "llama", nil, engine.Economy{Recompute: how, MicroBatches: 1}, Sharing{Group: group})
		tr.engine.trace = func(back bool) {
			if back {
				backward++
			}
		}
		tr.Final()
		b, targets := nextTokens(golden.Windows(7, 1, 9, 40))
		if _, err := tr.Accumulate(b, targets, nil, 1); err != nil {
			t.Fatal(err)
		}
		// The head comes first and needs one operator; then the final norm, two layers and the embedding.
		if len(group.at) != 5 || group.at[0] != 1 || !slices.IsSorted(group.at) || group.at[2] > backward/2+2 || group.at[4] != backward {
			t.Errorf("recompute %v: gradients were summed after %v of %d operators", how, group.at, backward)
		}
		tr.Step(1, 1e-2)
		if group.gathered != ahead {
			t.Errorf("%d buckets of weights are on their way after a step, want %d", group.gathered, ahead)
		}
		if tr.Evaluate(b, targets); group.gathered != 5 {
			t.Errorf("%d buckets of weights have arrived after a forward pass, want 5", group.gathered)
		}
	}
}
