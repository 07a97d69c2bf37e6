package estimate

import (
	"gqa/configs"
	"gqa/configs/recipe"
)

// Plan is a setting with its memory.
type Plan struct {
	Setting
	Memory Memory
	Fits   bool
}

// Recomputes lists the values of a recipe's recompute, from the fastest to the one that takes least memory.
var Recomputes = []string{"none", "attention", "layer"}

// How much longer a step takes, for ordering settings: recomputing a layer adds its forward pass, a third of a step's arithmetic, and
// attention with its projections is about a quarter of that.
var (
	recomputeCost = map[string]float64{"none": 1, "attention": 1.08, "layer": 4. / 3}
	shardingCost  = map[Sharding]float64{ShardNone: 1, ShardOptimizer: 1.001, ShardGradients: 1.01, ShardParameters: 1.05}
	halvingCost   = 1.02 // fewer windows at once: smaller products
)

// Choose returns the fastest setting, like base but for Recompute, Windows and Sharding, whose memory on each GPU is at most room, and
// otherwise the one that takes least. What the recipe says about recomputing and sharding is kept. On base.GPUs GPUs each has its part of the batch.
func Choose(a *configs.Arch, r *recipe.Recipe, base Setting, room float64) (Plan, error) {
	share := *r
	gpus := max(1, base.GPUs)
	share.Batch, share.Accumulate = (r.Batch*r.Accumulate+gpus-1)/gpus, 1
	var best, least Plan
	cheapest := 0.0
	for _, sharding := range Shardings {
		if (gpus == 1) != (sharding == ShardNone) { // several always divide the optimizer's state
			continue
		}
		if gpus > 1 && r.Sharding != "" && sharding != Sharding(r.Sharding) {
			continue
		}
		for _, recompute := range Recomputes {
			if r.Recompute != "" && r.Recompute != recompute {
				continue
			}
			cost := recomputeCost[recompute] * shardingCost[sharding]
			for windows := min(share.Batch, r.Batch); ; windows = (windows + 1) / 2 {
				s := base
				s.Recompute, s.Windows, s.Sharding = recompute, windows, sharding
				m, err := Of(a, &share, s)
				if err != nil {
					return Plan{}, err
				}
				p := Plan{s, m, m.All() <= room}
				if p.Fits && (!best.Fits || cost < cheapest) {
					best, cheapest = p, cost
				}
				if least.Windows == 0 || m.All() < least.Memory.All() {
					least = p
				}
				if cost *= halvingCost; windows == 1 {
					break
				}
			}
		}
	}
	if best.Fits {
		return best, nil
	}
	return least, nil
}
