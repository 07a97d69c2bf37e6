package convert

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"gqa/convert/calibrate"
	"gqa/internal/golden"
)

// Numbers go to the layer where one more reduces the relative error behind the layer most.
func TestDivide(t *testing.T) {
	even := func(behind, lost, each float64, n int) layerEnergy {
		return layerEnergy{slices.Repeat([]float64{each}, n), behind, lost}
	}
	for _, c := range []struct {
		name   string
		equal  int
		layers []layerEnergy
		want   string
	}{
		{"the larger error", 8, []layerEnergy{even(0.1, 1, 1, 99), even(0.2, 1, 1, 99)}, "[2 14]"},
		{"larger energies of a layer say nothing", 8, []layerEnergy{even(0.2, 1, 1, 99), even(0.1, 100, 100, 99)}, "[14 2]"},
		{"what falls", 4, []layerEnergy{{[]float64{9, 5, 3, 1, 1, 1}, 1, 1}, {[]float64{9, 4, 2, 0.5, 0.5, 0.5}, 1, 1}}, "[5 3]"},
		{"nothing lost", 4, []layerEnergy{even(0, 0, 1, 9), even(0.1, 1, 1, 9)}, "[1 7]"},
		{"no more than there is", 4, []layerEnergy{even(0.9, 1, 1, 5), even(0.1, 1, 1, 9)}, "[5 3]"},
		{"less than there is room for", 8, []layerEnergy{even(0.9, 1, 1, 5), even(0.1, 1, 1, 6)}, "[5 6]"},
	} {
		if got := fmt.Sprint(divide(c.equal, c.layers)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Within the bytes of a goal, each layer gets a rank of its own, and the cache has the size of equal ones. What asks for equal ranks gets
// them.
func TestLatentRanks(t *testing.T) {
	c := golden.Named(t, "llama")
	src := golden.Open(t, c.Dir)
	ids := make([]int32, 400)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range ids {
		ids[i] = int32(random.IntN(src.Arch.Vocab))
	}
	text := &calibrate.Data{Name: "text", IDs: ids, Tokens: 400, Window: 20}
	half := src.Arch.WithKVHeads(4).KVBytesPerToken(2)
	for _, test := range []struct {
		name    string
		goal    LatentGoal
		text    *calibrate.Data
		target  Target
		byLayer bool
	}{
		{"bytes", LatentGoal{Bytes: half}, text, MLA, true},
		{"equal", LatentGoal{Bytes: half, Equal: true}, text, MLA, false},
		{"no text", LatentGoal{Bytes: half}, nil, MLA, false},
		{"a given rank", LatentGoal{Rank: 48, RopeDim: 16}, text, MLA, false},
		{"fewer numbers than a head", LatentGoal{Bytes: 2 * 2 * 8}, text, MLA, false},
	} {
		plan, err := NewPlan(src, Options{Goal: LatentAttention(test.goal), Target: test.target, Calibration: test.text})
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		steps, dir := 0, filepath.Join(t.TempDir(), "out")
		s, err := plan.Run(t.Context(), dir, RunOptions{OnMerge: func(n int64) { steps += int(n) }})
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if steps != plan.MergeWork() {
			t.Errorf("%s: %d steps, want %d", test.name, steps, plan.MergeWork())
		}
		to := golden.Open(t, dir).Arch
		if to.KVBytesPerToken(2) != plan.Arch.KVBytesPerToken(2) || s.KVBytesPerToken != plan.Arch.KVBytesPerToken(2) {
			t.Errorf("%s: %d bytes, and %d in the record; want %d", test.name, to.KVBytesPerToken(2), s.KVBytesPerToken, plan.Arch.KVBytesPerToken(2))
		}
		var ranks []int
		for i := range to.Layers {
			ranks = append(ranks, to.At(i).Latent.Rank)
		}
		if differ := ranks[0] != ranks[1]; differ != test.byLayer || differ != slices.Equal(s.Latent.RankPerLayer, ranks) {
			t.Errorf("%s: ranks %v, in the record %v", test.name, ranks, s.Latent.RankPerLayer)
		}
	}
}
