package golden

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// Random writes a checkpoint of random weights, of a kind that no case is of, and returns its folder. It has a head of its own
// if config says so.
func Random(t testing.TB, config string) (dir string) {
	t.Helper()
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	if arch.EncoderLayers > 0 && arch.LogitScale != 1 { // T5 v1.0: tied
		bindTied(t, arch)
	}
	all := randomWeights(t, arch)
	dir = t.TempDir()
	if err := weights.Write(dir, arch, checkpoints.F32, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// randomWeights draws weights with which activations neither grow nor vanish.
func randomWeights(t testing.TB, arch *configs.Arch) map[string][]float32 {
	t.Helper()
	params, err := arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	r, all := rand.New(rand.NewPCG(5, 6)), map[string][]float32{}
	for _, p := range params {
		w := make([]float32, p.Size())
		for i := range w {
			w[i] = float32(r.NormFloat64() / math.Sqrt(float64(p.Shape[len(p.Shape)-1])))
			if p.IsNorm() && !p.Bias {
				w[i]++
			}
		}
		all[p.Name] = w
	}
	return all
}

// bindTied tells a that its checkpoint has every tensor but a head.
func bindTied(t testing.TB, a *configs.Arch) {
	t.Helper()
	tensors, err := a.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{}
	for _, x := range tensors {
		if x.Role != configs.Head {
			shapes[x.Name] = x.Shape
		}
	}
	if err := a.Bind(shapes); err != nil {
		t.Fatal(err)
	}
}
