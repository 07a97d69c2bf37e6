package train

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"

	"gqa/checkpoints"
	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/estimate"
	"gqa/internal/units"
	"gqa/internal/weights"
)

// divides returns what the processes divide.
func (t *team) divides(r *recipe.Recipe) recipe.Sharding {
	return cmp.Or(r.Sharding, t.chosen, recipe.ShardOptimizer)
}

// divide decides what the processes divide if the recipe does not say so: on devices with memory of their own, what makes a step fastest
// of all that is expected to fit where the least is free. model is the folder that weights are read from. A run may be resumed with another
// choice.
func (t *team) divide(r *recipe.Recipe, model string) error {
	if t.alone() || r.Sharding != "" {
		return nil
	}
	if err := t.agree(t.open(r)); err != nil {
		return err
	}
	roomy, own := t.device.(device.Roomy)
	if !own {
		return nil
	}
	room, err := t.least(float64(roomy.Room()))
	if err != nil {
		return err
	}
	number := []float64{0}
	if t.first() {
		p, err := t.plan(r, model, room)
		if err != nil { // which reading the model will explain
			p.Sharding = estimate.ShardOptimizer
		}
		number[0] = float64(slices.Index(estimate.Shardings, p.Sharding))
	}
	if err := t.Sum(number); err != nil {
		return err
	}
	t.chosen = recipe.Sharding(estimate.Shardings[int(number[0])])
	if t.chosen != recipe.ShardOptimizer && t.first() {
		slog.Info(fmt.Sprintf("with %s free on each of %d devices, sharding is %s", units.Bytes(int64(room)), t.Size(), t.chosen))
	}
	return nil
}

// plan chooses how a run computes.
func (t *team) plan(r *recipe.Recipe, model string, room float64) (estimate.Plan, error) {
	src, err := weights.Open(model, weights.Options{})
	if err != nil {
		return estimate.Plan{}, err
	}
	defer src.Close()
	dtype, err := embeddingDType(src)
	if err != nil {
		return estimate.Plan{}, err
	}
	return estimate.Choose(src.Arch, r, t.setting(dtype), room)
}

// setting describes the processes' devices, for a model whose weights have a dtype.
func (t *team) setting(dtype checkpoints.DType) estimate.Setting {
	_, own := t.device.(device.Namer)
	return estimate.Setting{
		GPUs: t.Size(), BF16: t.device.Activations() == device.BF16, OwnMemory: own,
		Exact: dtype == checkpoints.BF16, Logits: t.device.LogitsAtOnce(),
	}
}
