package train

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// mixedModel writes the golden model in bfloat16 with norms in float32, and returns its folder.
func mixedModel(t *testing.T) string {
	t.Helper()
	src, all := golden.Load(t, "testdata/llama-g2/model.safetensors")
	params, err := src.Arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	norms, dir := map[string]checkpoints.DType{}, t.TempDir()
	for _, p := range params {
		if p.IsNorm() {
			norms[p.Tensor] = checkpoints.F32
			all[p.Name][0] = 1.0001 // not exact in bfloat16
		}
	}
	if err := weights.WriteMixed(dir, src.Arch, checkpoints.BF16, norms, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), src.Config, 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stored returns the dtype and the bytes of every tensor of a model.
func stored(t *testing.T, dir string) map[string]string {
	t.Helper()
	ckpt, err := checkpoints.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	all := map[string]string{}
	for _, name := range ckpt.Names() {
		tensor, _ := ckpt.Tensor(name)
		var b bytes.Buffer
		if _, err := tensor.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		all[tensor.Name] = tensor.DType.String() + b.String()
	}
	return all
}

// A run that trains a part of a model leaves every other tensor as it was, dtype and bits, and is the same run after a resume.
func TestTrainParts(t *testing.T) {
	model := mixedModel(t)
	before := stored(t, model)
	for _, c := range []struct {
		changed string
		sets    []string
	}{
		{`\.(q|k|v|o)_proj\.`, []string{"train=attention"}},
		{`\.(q|v)_proj\.`, []string{"train=lora", "lora.projections=q,v", "lora.rank=2", "optimizer.lr=1e-2"}},
		{`\.(k|down)_proj\.`, []string{"train=lora", "lora.projections=down,k", "optimizer.average=0.9", "optimizer.lr=1e-2"}},
		{`\.(q|v)_proj\.`, []string{"train=lora", "lora.projections=v,q", "optimizer.name=muon"}},
	} {
		recipe, whole := smallRun(t, append(c.sets, "model="+model)...)
		mustRun(t, recipe, whole)
		among := filepath.Join(t.TempDir(), "run")
		mustAmong(t, 2, func(team *team, _ int) error {
			_, err := Run(t.Context(), recipe, Options{Dir: among, team: team})
			return err
		})
		changed := regexp.MustCompile(c.changed)
		for _, dir := range []string{whole.Dir, among} {
			for name, text := range stored(t, filepath.Join(dir, modelDir)) {
				if same := text == before[name]; same == changed.MatchString(name) {
					t.Errorf("%v: %s unchanged: %v", c.sets, name, same)
				}
			}
		}
		o := Options{Dir: filepath.Join(t.TempDir(), "run")}
		if _, err := Run(interruptedAfter(t, &o, 3), recipe, o); err == nil {
			t.Fatal("it was not interrupted")
		}
		o.Observe = nil
		if _, err := Resume(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		same(t, strings.Join(c.sets, " "), o.Dir, whole.Dir)
		for _, set := range []string{"train=all", "lora.rank=5", "lora.projections=o"} {
			if _, err := Resume(t.Context(), o, []string{set, "steps=9"}); err == nil || !strings.Contains(err.Error(), "cannot change within a run") {
				t.Errorf("%s: error %v", set, err)
			}
		}
	}
}

// A run of an earlier version, whose recipe has no such key, trained everything.
func TestTrainBefore(t *testing.T) {
	recipe, o := smallRun(t, "valid=", "steps=4")
	mustRun(t, recipe, o)
	began, damage := readIdentity(o.Dir)
	if damage != nil {
		t.Fatal(damage)
	}
	for _, key := range []string{"train", "lora.rank", "lora.alpha", "lora.projections"} {
		delete(began.Recipe, key)
	}
	if err := writeIdentity(o.Dir, began); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(t.Context(), o, []string{"steps=5"}); err != nil {
		t.Error(err)
	}
}
