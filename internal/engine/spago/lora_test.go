package spago

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
	"gqa/internal/engine"
	"gqa/internal/model"
	"gqa/internal/ops"
)

var partOptimizer = recipe.Optimizer{Name: recipe.AdamW, LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, AttentionRate: 1}

// partRecipe trains a part of a model.
func partRecipe(train recipe.Train, projections string) *recipe.Recipe {
	return &recipe.Recipe{Train: train, LoRA: recipe.LoRA{Rank: 3, Alpha: 12, Projections: projections}, Optimizer: partOptimizer, Seed: 5}
}

// partPass is a pass that trains a part of a model.
func partPass(t *testing.T, d device.Device, arch *configs.Arch, r *recipe.Recipe, how ops.Recompute, weights model.Weights) *pass {
	t.Helper()
	trainer, err := NewTrainer(d, r, engine.Economy{Recompute: how, MicroBatches: 1}, arch, weights)
	if err != nil {
		t.Fatal(err)
	}
	return newPassOf(arch, trainer)
}

// named returns the gradients of a pass by name.
func (p *pass) named(t *testing.T) (float64, map[string][]float32) {
	t.Helper()
	loss, grads := p.gradients(t)
	all := map[string][]float32{}
	for i, s := range p.trainer.optimizer.slots {
		all[s.name] = grads[i]
	}
	return loss, all
}

// The gradients of what is trained are those of the whole model's: those of its projections, and of the factors A and B of a change,
// scale·Bᵀ·dW and scale·dW·Aᵀ, at the weights with the change. It holds however memory is saved, in every kind of model.
func TestTrainedParts(t *testing.T) {
	for name, config := range map[string]string{"llama": llamaConfig, "gpt2": gptConfig, "t5": t5Config} {
		for _, how := range allRecomputes {
			t.Run(fmt.Sprintf("%s, %v", name, how), func(t *testing.T) {
				arch, err := configs.Resolve([]byte(config), "")
				if err != nil {
					t.Fatal(err)
				}
				_, whole := partPass(t, cpu.New(), arch, partRecipe(recipe.TrainAll, "q"), how, random(arch)).named(t)
				_, some := partPass(t, cpu.New(), arch, partRecipe(recipe.TrainAttention, "q"), how, random(arch)).named(t)
				for name, g := range some {
					if !strings.Contains(name, ".q.") && !strings.Contains(name, ".k.") && !strings.Contains(name, ".v.") && !strings.Contains(name, ".o.") && !strings.Contains(name, "cross_") {
						t.Errorf("%s is trained", name)
					}
					close32(t, name, g, whole[name])
				}
				_, joined := joinedPass(t, arch, partRecipe(recipe.TrainAttention, "q"), how).named(t)
				for name, g := range joined {
					close32(t, name+", in a joint", g, whole[name])
				}
				if len(joined) != len(some) {
					t.Errorf("%d weights in joints have a gradient, want %d", len(joined), len(some))
				}
				checkChange(t, arch, how)
			})
		}
	}
}

// joinedPass is partPass with joint weights.
func joinedPass(t *testing.T, arch *configs.Arch, r *recipe.Recipe, how ops.Recompute) *pass {
	t.Helper()
	d := cpu.New()
	shapes, err := arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	params, err := loadParams(d, arch, random(arch), loading{joined: joints(d, shapes), recipe: r})
	if err != nil {
		t.Fatal(err)
	}
	o, err := newOptimizer(d, r.Optimizer, Sharing{}, arch, params)
	if err != nil {
		t.Fatal(err)
	}
	return newPassOf(arch, &Trainer{engine: New(d), params: params, model: params.Model(arch), optimizer: o, recompute: how})
}

// A frozen weight in bfloat16 is stored once if its numbers are exact in it, otherwise in two parts, and always has the same bits.
func TestFreeze(t *testing.T) {
	d := cpu.New()
	exact, other := []float32{1, -0.5, 3, 0}, []float32{1, 1.001, -3, 1e-30}
	v := newValue(d, d.Put(slices.Clone(exact)), 2, 2)
	v.compute = d.New(device.BF16, 4)
	v.updateCompute()
	v.freeze(exact)
	d.Copy(d.New(device.F32, 4), d.Put(other)) // memory that was freed is used again
	if !v.data.None() || !v.rest.None() || !slices.Equal(v.host(), exact) {
		t.Errorf("%v is stored as %v", exact, v.host())
	}
	v.set(other)
	if !v.data.None() || v.rest.None() || !slices.Equal(v.host(), other) {
		t.Errorf("%v is stored as %v", other, v.host())
	}
	v.set(exact)
	if !v.data.None() || !v.rest.None() || !slices.Equal(v.host(), exact) {
		t.Errorf("%v is stored as %v", exact, v.host())
	}
}

// checkChange trains changes for some steps, so that B is not zero, and compares their gradients with the merged model's.
func checkChange(t *testing.T, arch *configs.Arch, how ops.Recompute) {
	t.Helper()
	p := partPass(t, cpu.New(), arch, partRecipe(recipe.TrainLoRA, "q,v,down"), how, random(arch))
	for n := range 3 {
		p.gradients(t)
		p.trainer.Step(n+1, 1e-2)
	}
	loss, grads := p.named(t)
	merged := map[string][]float32{}
	params, err := arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range params {
		merged[w.Name] = slices.Clone(p.trainer.Result(w.Name))
	}
	wholeLoss, whole := partPass(t, cpu.New(), arch, partRecipe(recipe.TrainAll, "q"), how, model.FromMap(arch, merged)).named(t)
	if math.Abs(loss-wholeLoss) > 1e-5 {
		t.Errorf("the loss is %v, merged %v", loss, wholeLoss)
	}
	changed := 0
	for i, name := range p.trainer.params.Names {
		v := valueOf(p.trainer.params.List[i])
		l := v.adapter
		if l == nil {
			continue
		}
		changed++
		a, b, dw := valueOf(l.a).host(), valueOf(l.b).host(), whole[name]
		wantA, wantB := make([]float32, len(a)), make([]float32, len(b))
		for o := range v.rows {
			for k := range l.rank {
				for i := range v.cols {
					wantA[k*v.cols+i] += l.scale * b[o*l.rank+k] * dw[o*v.cols+i]
					wantB[o*l.rank+k] += l.scale * dw[o*v.cols+i] * a[k*v.cols+i]
				}
			}
		}
		close32(t, name+".lora_a", grads[name+".lora_a"], wantA)
		close32(t, name+".lora_b", grads[name+".lora_b"], wantB)
	}
	if len(grads) != 2*changed || changed == 0 {
		t.Errorf("%d weights are trained, want two for each of %d", len(grads), changed)
	}
}

// close32 compares numbers within a small part of the largest. What is zero but for rounding, as the gradient of a bias of keys, agrees.
func close32(t *testing.T, what string, got, want []float32) {
	t.Helper()
	most := 0.0
	for _, x := range want {
		most = max(most, math.Abs(float64(x)))
	}
	if most = max(most, 1e-4); len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	for i := range want {
		if off := math.Abs(float64(got[i]) - float64(want[i])); !(off <= 2e-5*most) {
			t.Fatalf("%s[%d] is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// What is not trained keeps its bits, with and without an average, and takes no memory for a gradient or averages.
func TestFrozenParts(t *testing.T) {
	for _, train := range []recipe.Train{recipe.TrainAttention, recipe.TrainLoRA} {
		for _, average := range []float64{0, 0.9} {
			arch, err := configs.Resolve([]byte(llamaConfig), "")
			if err != nil {
				t.Fatal(err)
			}
			before := map[string][]float32{}
			if err := random(arch)(func(p configs.Param, values []float32) error {
				before[p.Name] = slices.Clone(values)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			r, d := partRecipe(train, "q,v"), devicetest.NewScarce()
			r.Optimizer.Average = average
			p := partPass(t, d, arch, r, ops.RecomputeNone, random(arch))
			weights := 0
			for name := range before {
				weights += 4 * len(before[name])
			}
			if d.InUse > 2*weights {
				t.Errorf("%s takes %d bytes for weights of %d", train, d.InUse, weights)
			}
			for n := range 2 {
				p.gradients(t)
				p.trainer.Step(n+1, 1e-2)
			}
			for name, w := range before {
				trained := strings.Contains(name, ".q.") || strings.Contains(name, ".v.") ||
					train == recipe.TrainAttention && (strings.Contains(name, ".k.") || strings.Contains(name, ".o."))
				if same := slices.Equal(w, p.trainer.Result(name)); same == trained {
					t.Errorf("%s: %s unchanged: %v", train, name, same)
				}
			}
		}
	}
}

// A trainer restored from the result and the state of another goes on with the same bits.
func TestRestoreParts(t *testing.T) {
	for _, train := range []recipe.Train{recipe.TrainAttention, recipe.TrainLoRA} {
		for _, average := range []float64{0, 0.9} {
			arch, err := configs.Resolve([]byte(llamaConfig), "")
			if err != nil {
				t.Fatal(err)
			}
			r := partRecipe(train, "q,k,v,o,gate")
			r.Optimizer.Average = average
			first := partPass(t, cpu.New(), arch, r, ops.RecomputeNone, random(arch))
			first.gradients(t)
			first.trainer.Step(1, 1e-2)
			saved := map[string][]float32{}
			for _, name := range first.trainer.params.Names {
				saved[name] = slices.Clone(first.trainer.Result(name))
			}
			second := partPass(t, cpu.New(), arch, r, ops.RecomputeNone, model.FromMap(arch, saved))
			for i, s := range second.trainer.State() {
				from := first.trainer.State()[i]
				if from.Name != s.Name || !slices.Equal(from.Shape, s.Shape) {
					t.Fatalf("%s %v is saved, want %s %v", from.Name, from.Shape, s.Name, s.Shape)
				}
				s.Set(slices.Clone(from.Get()))
			}
			for _, p := range []*pass{first, second} {
				p.gradients(t)
				p.trainer.Step(2, 1e-2)
			}
			for _, name := range first.trainer.params.Names {
				if !slices.Equal(first.trainer.Result(name), second.trainer.Result(name)) {
					t.Errorf("%s, average %v: %s differs", train, average, name)
				}
			}
		}
	}
}

// A projection that a model does not have is named.
func TestNoSuchProjection(t *testing.T) {
	arch, err := configs.Resolve([]byte(gptConfig), "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewTrainer(cpu.New(), partRecipe(recipe.TrainLoRA, "q,gate"), engine.Economy{MicroBatches: 1}, arch, random(arch))
	if err == nil || !strings.Contains(err.Error(), "lora.projections names gate, which the model does not have") {
		t.Errorf("error %v, want one that names gate", err)
	}
}
