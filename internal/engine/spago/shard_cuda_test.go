//go:build cuda && linux

package spago

import (
	"fmt"
	"math"
	"net"
	"strings"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/comm/nccl"
	"gqa/internal/cuda"
	"gqa/internal/device"
	gpu "gqa/internal/device/cuda"
	"gqa/internal/engine"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// TestShardsOnGPU trains by the work of one rank of NCCL, in both formats of activations, and compares with training alone.
func TestShardsOnGPU(t *testing.T) {
	if n, err := cuda.Count(); err != nil || n == 0 {
		t.Skipf("no GPU: %d found, %v", n, err)
	}
	if _, err := cuda.UniqueID(); err != nil {
		t.Skip(err)
	}
	windows := golden.Windows(7, 2, 9, 40)
	for _, format := range []device.Format{device.F32, device.BF16} {
		d, err := gpu.Open(0, gpu.Options{Activations: format})
		if err != nil {
			t.Fatal(err)
		}
		for _, passes := range []int{1, 2} {
			for _, name := range []recipe.OptimizerName{recipe.AdamW, recipe.Muon} {
				t.Run(fmt.Sprintf("format %v, %d passes, %s", format, passes, name), func(t *testing.T) {
					trainer := func(among Sharing) *Trainer {
						arch, all := golden.TinyModel(t, golden.Tiny["llama"])
						o := recipe.Optimizer{Name: name, AttentionRate: 1, Beta1: 0.9, Beta2: 0.95, Eps: 1e-3, WeightDecay: 0.1, Decay: recipe.DecayAll, Clip: 1}
						tr, err := NewSharing(d, &recipe.Recipe{Optimizer: o}, engine.Economy{MicroBatches: passes}, among, arch, model.FromMap(arch, all))
						if err != nil {
							t.Fatal(err)
						}
						return tr
					}
					alone := trainer(Sharing{})
					steps(t, alone, windows, 0, passes, passes)
					for _, how := range []recipe.Sharding{recipe.ShardOptimizer, recipe.ShardGradients, recipe.ShardParameters} {
						l, err := net.Listen("tcp", "127.0.0.1:0")
						if err != nil {
							t.Fatal(err)
						}
						l.Close()
						group, err := nccl.Open(0, 1, l.Addr().String(), d.GPU())
						if err != nil {
							t.Fatal(err)
						}
						shared := trainer(sharing(group, how))
						steps(t, shared, windows, 0, passes, passes)
						have := everything(t, shared)
						for name, w := range everything(t, alone) {
							if strings.HasPrefix(name, "weight ") && how == recipe.ShardParameters {
								continue // they are not whole
							}
							for i, x := range w {
								if got := have[name][i]; !(math.Abs(float64(got-x)) <= 2e-5*math.Max(1, math.Abs(float64(x)))) {
									t.Fatalf("%s: %s: number %d is %v, alone %v", how, name, i, got, x)
								}
							}
						}
						if err := group.Close(); err != nil {
							t.Error(err)
						}
						shared.Close()
					}
					alone.Close()
					if err := d.Err(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}
