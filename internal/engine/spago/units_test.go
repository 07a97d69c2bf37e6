package spago

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/comm"
	"gqa/internal/comm/commtest"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
	"gqa/internal/engine"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// deepConfig is a model whose layers are each a small part of it.
const deepConfig = `{"model_type": "llama", "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 12, "num_attention_heads": 4,
	"num_key_value_heads": 2, "intermediate_size": 160, "max_position_embeddings": 96, "tie_word_embeddings": false}`

// latentConfig is a model with latent attention.
const latentConfig = `{"model_type": "deepseek_v3", "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
	"intermediate_size": 96, "max_position_embeddings": 96, "kv_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 20,
	"q_lora_rank": 18, "attention_bias": true, "first_k_dense_replace": 2}`

// counted is a device on which memory that is used after it was freed is full of NaN, and which counts what is gathered.
type counted struct {
	*devicetest.Scarce
	whole      map[*float32]int
	live, most int // numbers of gathered buffers
}

func newCounted() *counted {
	return &counted{Scarce: devicetest.NewScarce(), whole: map[*float32]int{}}
}

func (d *counted) Free(b device.Buffer) {
	if x := b.F32(); len(x) > 0 {
		d.live -= d.whole[&x[0]]
		delete(d.whole, &x[0])
	}
	d.Scarce.Free(b)
}

// counting is a group that tells a device what is gathered.
type counting struct {
	comm.Comm
	device *counted
	ops    *int  // number of operators so far
	at     []int // their number when buffers began to be gathered
}

func (c *counting) AllGather(x device.Buffer) comm.Op {
	d := c.device
	d.whole[&x.F32()[0]] = x.Len()
	d.live += x.Len()
	d.most = max(d.most, d.live)
	if c.ops != nil {
		c.at = append(c.at, *c.ops)
	}
	return c.Comm.AllGather(x)
}

// divided returns a trainer with a part of the weights.
func divided(t *testing.T, config string, how ops.Recompute, group *counting) *pass {
	t.Helper()
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewSharing(group.device, scarceRecipe(), engine.Economy{Recompute: how, MicroBatches: 1}, Sharing{Group: group, Parameters: true}, arch, random(arch))
	if err != nil {
		t.Fatal(err)
	}
	return newPassOf(arch, tr)
}

// Each rank keeps its part of the weights and of the optimizer's state, and two layers at most are whole at a time, even while the model is
// loaded. Numbers of another unit are not read after it was freed, so losses are those of one process.
func TestPartOfWeights(t *testing.T) {
	const ranks = 4
	for _, how := range []ops.Recompute{ops.RecomputeNone, ops.RecomputeAttention, ops.RecomputeLayer} {
		for name, config := range map[string]string{"llama": deepConfig, "gpt2": gptConfig, "t5": t5Config, "latent": latentConfig} {
			one := newPass(t, devicetest.NewScarce(), config, how)
			want := one.losses(t)
			var all sync.WaitGroup
			for _, group := range commtest.Local(ranks) {
				all.Go(func() {
					d := newCounted()
					p := divided(t, config, how, &counting{Comm: group, device: d})
					loaded := d.Most
					for i, loss := range p.losses(t) {
						if !(loss-want[i] <= 1e-5 && want[i]-loss <= 1e-5) {
							t.Errorf("%s, recompute %d: loss %d is %v, want %v", name, how, i, loss, want[i])
						}
					}
					p.trainer.engine.Close()
					if len(d.Misused) > 0 {
						t.Errorf("%s: %v", name, d.Misused)
					}
					if name == "llama" {
						checkMemory(t, p, d, loaded, ranks)
					}
				})
			}
			all.Wait()
		}
	}
}

// losses makes three steps and returns their losses, and that of an evaluation.
func (p *pass) losses(t *testing.T) (all []float64) {
	t.Helper()
	for n := 1; n <= 3; n++ {
		p.trainer.Final()
		loss, err := p.trainer.Accumulate(p.batch, p.targets, nil, 1)
		if err != nil {
			t.Error(err)
		}
		p.trainer.Step(n, 1e-3)
		value, _, _ := loss.Read()
		all = append(all, value)
	}
	return append(all, p.trainer.Evaluate(p.batch, p.targets))
}

func checkMemory(t *testing.T, p *pass, d *counted, loaded, ranks int) {
	t.Helper()
	params, units, largest := 0, map[string]int{}, 0
	for i, param := range p.trainer.params.List {
		params += param.Size()
		units[unitName(p.trainer.params.Names[i])] += param.Size()
		if v := valueOf(param); !v.data.None() || !v.compute.None() {
			t.Errorf("%s is whole after a pass", p.trainer.params.Names[i])
		}
	}
	for _, n := range units {
		largest = max(largest, n)
	}
	const padding = 1.03 // parts are of equal sizes
	part := float64(params) / float64(ranks) * padding
	if most := float64(2*largest) * padding; d.live != 0 || float64(d.most) > most || d.most < largest {
		t.Errorf("%d numbers of weights were gathered at a time, %d are left, want at most %.0f of the model's %d", d.most, d.live, most, params)
	}
	// The weights and AdamW's two averages.
	if kept := float64(d.InUse) / 4; kept > 3*part {
		t.Errorf("a rank keeps %.0f numbers, want at most %.0f", kept, 3*part)
	}
	if float64(loaded)/4 > 3*part+float64(2*largest)*padding {
		t.Errorf("loading takes %d bytes", loaded)
	}
}

// halved is the CPU, as far as it computes with activations in bfloat16: only what an optimizer and ranks do with weights.
type halved struct{ device.Device }

func (halved) Activations() device.Format { return device.BF16 }

// Weights in two parts, with a copy in bfloat16, frozen, in joints and of adapters have the same bits after a step, and the same state,
// whether one process has them or several have parts of them.
func TestPartsOfHalves(t *testing.T) {
	averaged := func(r *recipe.Recipe) { r.Optimizer.Average = 0.5 }
	lora := func(r *recipe.Recipe) { r.Train = recipe.TrainLoRA }
	for name, change := range map[string][]func(r *recipe.Recipe){
		"two parts": nil, "llama": nil, "copies": {averaged}, "lora": {lora}, "lora, averaged": {lora, averaged},
		"attention": {func(r *recipe.Recipe) { r.Train = recipe.TrainAttention }},
		"muon":      {func(r *recipe.Recipe) { r.Optimizer.Name = recipe.Muon }},
		"adafactor": {func(r *recipe.Recipe) { adafactor(&r.Optimizer) }},
		"bf16":      {func(r *recipe.Recipe) { r.Optimizer.Moments = recipe.MomentsBF16 }},
	} {
		t.Run(name, func(t *testing.T) {
			r := scarceRecipe()
			r.LoRA, r.Optimizer.Clip = recipe.LoRA{Rank: 2, Alpha: 4, Projections: "q,v,down"}, 0
			for _, f := range change {
				f(r)
			}
			one := halves(t, r, Sharing{}, nil)
			fakeStep(one, 6)
			want := everything(t, one)
			have := make([]map[string][]float32, 3)
			var all sync.WaitGroup
			for rank, group := range commtest.Local(len(have)) {
				all.Go(func() {
					part := halves(t, r, Sharing{Group: group, Parameters: true}, nil)
					fakeStep(part, float32(rank+1))
					have[rank] = everything(t, part)
					readSame(t, part, one)
					again := halves(t, r, Sharing{Group: group, Parameters: true}, have[0]) // rank 0 has answered
					for _, s := range again.State() {
						s.Set(slices.Clone(have[0][s.Name]))
					}
					readSame(t, again, one)
					restored := everything(t, again)
					for name, w := range want {
						if rank > 0 || strings.HasPrefix(name, "weight ") {
							continue
						}
						if !slices.Equal(have[0][name], w) || !slices.Equal(restored[name], w) {
							t.Errorf("%s differs", name)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// halves returns a trainer on a device with bfloat16, of random weights or of a result.
func halves(t *testing.T, r *recipe.Recipe, among Sharing, result map[string][]float32) *Trainer {
	t.Helper()
	config := gptConfig
	if strings.HasSuffix(t.Name(), "llama") {
		config = deepConfig
	}
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	weights := random(arch)
	if result != nil {
		all := map[string][]float32{}
		for name, w := range result {
			if of, ok := strings.CutPrefix(name, "result "); ok {
				all[of] = slices.Clone(w)
			}
		}
		weights = model.FromMap(arch, all)
	}
	tr, err := NewSharing(halved{cpu.New()}, r, engine.Economy{MicroBatches: 2}, among, arch, weights)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// fakeStep makes a step with gradients that are small integers, times factor.
func fakeStep(tr *Trainer, factor float32) {
	s := tr.optimizer.shards
	if s != nil {
		s.begin()
		s.final = true
	}
	for i := range tr.optimizer.slots {
		v := tr.optimizer.slots[i].param.Matrix.(*value)
		v.uses = 1
		x := make([]float32, v.Size())
		for k := range x {
			x[k] = factor * float32(k%7-3)
		}
		dst, _ := v.written()
		tr.engine.device.Write(dst, x)
		if s != nil {
			s.written(v)
		}
	}
	tr.Step(1, 1e-2)
}

// readSame checks that the products of two trainers read the same numbers.
func readSame(t *testing.T, part, one *Trainer) {
	t.Helper()
	for i, p := range part.params.List {
		a, b := use(valueOf(p)).operand(), valueOf(one.params.List[i]).operand()
		if a.Len() != b.Len() || !slices.Equal(a.U16(), b.U16()) || !slices.Equal(a.F32(), b.F32()) {
			t.Errorf("%s: products read other numbers", part.params.Names[i])
		}
	}
	part.optimizer.shards.units.end(evaluating)
}

// The weights of the next layer are on their way while a layer computes, forward and backward.
func TestAhead(t *testing.T) {
	for _, how := range []ops.Recompute{ops.RecomputeNone, ops.RecomputeLayer} {
		count := 0
		group := &counting{Comm: commtest.Local(1)[0], device: newCounted(), ops: &count}
		p := divided(t, deepConfig, how, group)
		p.trainer.engine.trace = func(bool) { count++ }
		begins := func() []int {
			count, group.at = 0, nil
			if _, err := p.trainer.Accumulate(p.batch, p.targets, nil, 1); err != nil {
				t.Fatal(err)
			}
			return group.at
		}
		first, then := begins(), begins() // the first pass does not know what is needed next
		if len(first) != len(then) || len(then) < 2*12 || !slices.IsSorted(then) {
			t.Fatalf("recompute %d: weights are gathered %d and %d times", how, len(first), len(then))
		}
		for i := 1; i < len(then); i++ {
			if then[i] >= first[i] && first[i] > first[i-1] {
				t.Errorf("recompute %d: unit %d is asked for after operator %d, and is used after %d", how, i, then[i], first[i])
			}
		}
	}
}

func TestUnitName(t *testing.T) {
	for name, want := range map[string]string{
		"embed.weight": "embed", "head.bias": "head", "layers.3.q.weight": "layers.3.", "layers.3.q.weight.lora_a": "layers.3.",
		"encoder.layers.11.up.bias": "encoder.layers.11.",
	} {
		if got := unitName(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if strings.HasSuffix(unitName("final_norm.weight"), ".weight") {
		t.Error("a norm and its bias are apart")
	}
}

func scarceRecipe() *recipe.Recipe {
	return &recipe.Recipe{Optimizer: recipe.Optimizer{Name: recipe.AdamW, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, AttentionRate: 1}}
}
