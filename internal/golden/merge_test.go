package golden_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/internal/data"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/engine/spago"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// gaugeTolerance is the largest difference of a logit where maps of heads were found and undone in f32.
const gaugeTolerance = 1e-3

// TestMergeKeepsFunction makes the heads of each group one head, seen through maps that attention does not notice, for every
// family. Methods that look for such maps must lose nothing.
func TestMergeKeepsFunction(t *testing.T) {
	for _, c := range mergeCases(t) {
		t.Run(c.name, func(t *testing.T) {
			src, all := golden.Load(t, c.dir)
			if src.Arch.KVHeads == 1 || src.Arch.IsLatent() {
				t.Skip("has no heads to merge")
			}
			for _, groups := range []int{1, min(2, src.Arch.KVHeads)} {
				r := rand.New(rand.NewPCG(uint64(groups), 7))
				disguised := maps.Clone(all)
				disguiseAll(r, src.Arch, groups, disguised)
				dir := write(t, src, disguised)
				want := logits(t, c, dir)
				if groups > 1 {
					mean := convertTo(t, dir, convert.Options{Goal: convert.Groups(groups), Method: convert.Mean, Sites: convert.AllSites})
					if lost := apart(logits(t, c, mean), want); lost < 100*gaugeTolerance {
						t.Errorf("the mean, which knows no maps, loses only %g", lost)
					}
				}
				for _, o := range []convert.Options{
					{Method: convert.Align},
					{Method: convert.Calibrated},
					{Method: convert.Calibrated, Target: convert.Expanded},
					{Method: convert.Align, Calibration: c.data(src.Arch)},
					{Method: convert.Calibrated, Calibration: c.data(src.Arch)},
					{Method: convert.Calibrated, Calibration: c.data(src.Arch), Refine: 2},
				} {
					if groups == 1 && (o.Calibration != nil || o.Target == convert.Expanded) {
						continue
					}
					o.Goal, o.Sites = convert.Groups(groups), convert.AllSites
					if src.Arch.Position != configs.PositionALiBi {
						o.Grouping = convert.Similar
					}
					got := convertTo(t, dir, o)
					near(t, fmt.Sprintf("%d groups by %s, %s, calibrated %v, refined %v", groups, o.Method, o.Target, o.Calibration != nil, o.Refine > 0), logits(t, c, got), want)
					if o.Method == convert.Calibrated {
						near(t, "the same by spago", spagoLogits(t, c, got), want)
					}
				}
			}
		})
	}
}

// TestAllHeads: with as many groups as heads every method is the identity, bit for bit, for every family.
func TestAllHeads(t *testing.T) {
	for _, c := range mergeCases(t) {
		src, want := golden.Load(t, c.dir)
		for _, m := range convert.Methods {
			o := convert.Options{Goal: convert.Groups(src.Arch.KVHeads), Method: convert.Method(m), Sites: convert.AllSites, Target: convert.Own}
			if o.Method == convert.Align || o.Method == convert.Calibrated {
				o.Calibration, o.Refine = c.data(src.Arch), 3
				if src.Arch.Position != configs.PositionALiBi {
					o.Grouping = convert.Similar
				}
			}
			_, got := golden.Load(t, convertTo(t, c.dir, o))
			for name, values := range want {
				if !slices.Equal(got[name], values) {
					t.Errorf("%s: %s changes %s", c.name, m, name)
				}
			}
		}
	}
}

// mergeCase is a checkpoint with what it reads.
type mergeCase struct {
	name, dir string
	batch     ops.Batch
}

// mergeCases returns the golden cases, and encoders not covered by them.
func mergeCases(t *testing.T) (all []mergeCase) {
	for _, c := range golden.Cases(t) {
		all = append(all, mergeCase{c.Name, c.Dir, c.Batch()})
	}
	for name, config := range encoderConfigs {
		all = append(all, mergeCase{name, golden.Random(t, config), padded(resolve(t, config))})
	}
	return all
}

// data returns the case's own text.
func (c mergeCase) data(a *configs.Arch) *calibrate.Data {
	d := &calibrate.Data{Name: "ids", IDs: c.batch.IDs, Seed: 1}
	if a.EncoderLayers > 0 {
		d.IDs = slices.Concat(c.batch.Source.IDs, c.batch.IDs)
		d.Objective = data.Spans{Sentinels: []int32{4, 5, 6}, End: 1, Start: int32(a.StartToken), Pad: int32(a.PadToken)}
	}
	d.Tokens = len(d.IDs)
	return d
}

// disguiseAll applies disguise to every attention module. The heads that are alike differ between layers if their order is
// free.
func disguiseAll(r *rand.Rand, a *configs.Arch, groups int, all map[string][]float32) {
	disguiseStack(r, a, groups, "", all)
	if a.EncoderLayers > 0 {
		disguiseStack(r, a.Encoder(), groups, configs.EncoderPrefix, all)
	}
}

func disguiseStack(r *rand.Rand, a *configs.Arch, groups int, prefix string, all map[string][]float32) {
	alike := parts(r, a, groups)
	_, own := a.Family.Layer[configs.Distances]
	for layer := range a.Layers {
		if a.Position != configs.PositionT5 || own {
			alike = parts(r, a, groups)
		}
		disguise(r, a, layer, alike, [2]configs.Role{configs.K, configs.V}, prefix, all)
		if a.EncoderLayers > 0 {
			disguise(r, a, layer, parts(r, a, groups), [2]configs.Role{configs.CrossK, configs.CrossV}, prefix, all)
		}
	}
}

// parts assigns the KV heads to groups, adjacent ones if their order matters, and returns the first head of each head's group.
func parts(r *rand.Rand, a *configs.Arch, groups int) []int {
	order, firsts, size := r.Perm(a.KVHeads), make([]int, a.KVHeads), a.KVHeads/groups
	for i, h := range order {
		if a.Position == configs.PositionALiBi {
			firsts[i] = i / size * size
			continue
		}
		firsts[h] = slices.Min(order[i/size*size:][:size])
	}
	return firsts
}

// disguise gives the KV heads of a layer's groups the first one's keys and values, each through a map of its own that
// attention does not notice: what queries and the output then read is another model, whose heads are alike.
func disguise(r *rand.Rand, a *configs.Arch, layer int, firsts []int, roles [2]configs.Role, prefix string, all map[string][]float32) {
	for i, role := range roles {
		for _, bias := range []bool{false, true} {
			name := prefix + configs.ParamName(role, layer, bias)
			if all[name] != nil {
				all[name] = slices.Clone(all[name])
			}
		}
		for h := range a.KVHeads {
			turn := valueTurn(r, a)
			if i == 0 {
				turn = keyTurn(r, a)
			}
			for _, bias := range []bool{false, true} {
				if x := all[prefix+configs.ParamName(role, layer, bias)]; x != nil {
					n := len(x) / a.KVHeads
					if first := firsts[h] * n; firsts[h] != h {
						apply(turn, a.HeadDim, x[first:first+n], x[h*n:(h+1)*n])
					}
				}
			}
		}
	}
	if name := configs.ParamName(configs.KNorm, layer, false); all[name] != nil && a.OwnNorms(configs.KNorm) {
		all[name] = slices.Clone(all[name])
		n := len(all[name]) / a.KVHeads
		for h := range a.KVHeads {
			copy(all[name][h*n:(h+1)*n], all[name][firsts[h]*n:])
		}
	}
}

// apply multiplies rows [dim, n] by a matrix [dim, dim].
func apply(m [][]float64, dim int, from, to []float32) {
	n := len(from) / dim
	for i := range dim {
		for c := range n {
			sum := 0.0
			for j := range dim {
				sum += m[i][j] * float64(from[j*n+c])
			}
			to[i*n+c] = float32(sum)
		}
	}
}

func identity(dim int) [][]float64 {
	m := make([][]float64, dim)
	for i := range m {
		m[i] = make([]float64, dim)
		m[i][i] = 1
	}
	return m
}

// rotate turns rows i and j of a matrix by an angle.
func rotate(m [][]float64, i, j int, angle float64) {
	sin, cos := math.Sincos(angle)
	for c := range m {
		m[i][c], m[j][c] = cos*m[i][c]-sin*m[j][c], sin*m[i][c]+cos*m[j][c]
	}
}

// turned returns a random rotation of the dims from lo on.
func turned(r *rand.Rand, dim, lo int) [][]float64 {
	m := identity(dim)
	for i := lo; i < dim; i++ {
		for j := i + 1; j < dim; j++ {
			rotate(m, i, j, 2*math.Pi*r.Float64())
		}
	}
	return m
}

func valueTurn(r *rand.Rand, a *configs.Arch) [][]float64 {
	if a.ClipQKV > 0 {
		m := identity(a.HeadDim)
		for i := range m {
			m[i][i] = float64(2*r.IntN(2) - 1)
		}
		return m
	}
	return turned(r, a.HeadDim, 0)
}

func keyTurn(r *rand.Rand, a *configs.Arch) [][]float64 {
	planes := 0
	if a.Position == configs.PositionRope {
		planes = len(a.Rope.InvFreq())
	}
	normed := a.Has(configs.KNorm)
	m := turned(r, a.HeadDim, 2*planes)
	if normed || a.ClipQKV > 0 {
		m = identity(a.HeadDim)
	}
	if normed && a.Norm == configs.LayerNorm {
		return m
	}
	for p := range planes {
		i, j, angle := p, p+planes, 2*math.Pi*r.Float64()
		if a.RopeInterleaved {
			i, j = 2*p, 2*p+1
		}
		if normed || a.ClipQKV > 0 {
			angle = math.Pi * float64(r.IntN(2))
		}
		rotate(m, i, j, angle)
	}
	return m
}

// write stores weights as a checkpoint like src.
func write(t *testing.T, src *weights.Source, all map[string][]float32) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := weights.Write(dir, src.Arch, checkpoints.F32, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), src.Config, 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

func logits(t *testing.T, c mergeCase, dir string) []float32 {
	t.Helper()
	src, all := golden.Load(t, dir)
	return infer.New(cpu.New(), src.Arch, all).Logits(c.batch).F32()
}

func spagoLogits(t *testing.T, c mergeCase, dir string) []float32 {
	t.Helper()
	src, all := golden.Load(t, dir)
	params, err := spago.NewParams(cpu.New(), src.Arch, model.FromMap(src.Arch, all))
	if err != nil {
		t.Fatal(err)
	}
	e, m := spago.New(cpu.New()), params.Model(src.Arch)
	return e.Values(m.Logits(e, m.Hidden(e, c.batch)))
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	if worst := apart(got, want); !(worst <= gaugeTolerance) {
		t.Errorf("%s: logits differ by up to %g", what, worst)
	}
}

// apart returns the largest difference, or NaN.
func apart(got, want []float32) float64 {
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	return worst
}
