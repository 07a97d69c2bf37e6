package train

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// distilled is a small run of a tiny Llama that follows a tiny GPT-2.
func distilled(t *testing.T, sets ...string) (teacher string, r *Status, o Options) {
	t.Helper()
	teacher = tinyFolder(t, "gpt2")
	recipe, o := smallRun(t, append([]string{
		"model=" + tinyFolder(t, "llama"), "valid=", "data=" + writeIDs(t, golden.Windows(1, 14, 12, 40)), "distill.teacher=" + teacher,
	}, sets...)...)
	return teacher, mustRun(t, recipe, o), o
}

// The first step's figures are the definition's: cross-entropy and KL(teacher || model), over every prediction.
func TestDistilledLoss(t *testing.T) {
	_, _, o := distilled(t, "distill.loss=mixed", "distill.weight=0.25", "distill.temperature=2", "accumulate=1", "batch=14")
	arch, all := golden.TinyModel(t, golden.Tiny["llama"])
	other, teacher := golden.TinyModel(t, golden.Tiny["gpt2"])
	student, guide := infer.New(cpu.New(), arch, all), infer.New(cpu.New(), other, teacher)
	m := figures(t, o.Dir)[0]
	recipe, err := readRecipe(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := loadData(t.Context(), &recipe, recipe.Model, arch)
	if err != nil {
		t.Fatal(err)
	}
	var ce, kl, n float64
	for _, w := range d.sampler.Batch(0, 14) {
		z, u := logits(student, w), logits(guide, w)
		for i, target := range w[1:] {
			ce -= logSoftmax(z[i], 1)[target]
			p, q := logSoftmax(u[i], 2), logSoftmax(z[i], 2)
			for j := range p {
				kl += math.Exp(p[j]) * (p[j] - q[j])
			}
			n++
		}
	}
	ce, kl = ce/n, kl/n
	if math.Abs(*m.CE-ce) > 1e-5 || math.Abs(*m.KL-kl) > 1e-5 || math.Abs(float64(m.Loss)-(0.75*ce+0.25*4*kl)) > 1e-5 {
		t.Errorf("loss %v, ce %v, kl %v; want ce %v, kl %v", m.Loss, *m.CE, *m.KL, ce, kl)
	}
}

// Weights that are not finite are reported before anything is written, and those of the teacher as the teacher's.
func TestNotFiniteModels(t *testing.T) {
	model, teacher := tinyFolder(t, "llama"), tinyFolder(t, "gpt2")
	recipe, o := smallRun(t, "model="+model, "valid=", "data="+writeIDs(t, golden.Windows(1, 14, 12, 40)), "distill.teacher="+teacher)
	refused := func(want string) {
		t.Helper()
		_, err := Run(t.Context(), recipe, o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "learning rate") {
			t.Errorf("error %v, want %q", err, want)
		}
		if _, err := os.Stat(o.Dir); err == nil {
			t.Error("there is a run folder")
		}
	}
	golden.Poison(t, filepath.Join(teacher, "model.safetensors"), "transformer.h.0.attn.c_attn.weight", 5, float32(math.NaN()))
	refused("teacher: " + filepath.Join(teacher, "model.safetensors") + `: tensor "transformer.h.0.attn.c_attn.weight": NaN at [0, 5]`)
	golden.Poison(t, filepath.Join(model, "model.safetensors"), "model.norm.weight", 3, float32(math.Inf(1)))
	refused("model: " + filepath.Join(model, "model.safetensors") + `: tensor "model.norm.weight": +Inf at [3]`)
}

// If a teacher's predictions are too large, the error blames the teacher, not the learning rate.
func TestTeacherOverflows(t *testing.T) {
	model, teacher := tinyFolder(t, "llama"), tinyFolder(t, "gpt2")
	recipe, o := smallRun(t, "model="+model, "valid=", "data="+writeIDs(t, golden.Windows(1, 14, 12, 40)), "distill.teacher="+teacher)
	golden.Poison(t, filepath.Join(teacher, "model.safetensors"), "transformer.ln_f.bias", 1, 3e38)
	golden.Poison(t, filepath.Join(teacher, "model.safetensors"), "transformer.wte.weight", 7*32+1, 100) // a logit of 3e40
	_, err := Run(t.Context(), recipe, o)
	if err == nil || !strings.Contains(err.Error(), "step 1: the teacher's weights or activations are too large") || errors.Is(err, ErrDiverged) {
		t.Errorf("error %v, want one that blames the teacher", err)
	}
}

func logits(d *infer.Decoder, window []int32) [][]float32 {
	flat := d.Logits(ops.NewBatch(window))
	rows := make([][]float32, flat.Rows)
	for i := range rows {
		rows[i] = append(rows[i], flat.F32()[i*flat.Cols:(i+1)*flat.Cols]...)
	}
	return rows
}

func logSoftmax(x []float32, temperature float64) []float64 {
	y, sum := make([]float64, len(x)), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) / temperature)
	}
	for i, v := range x {
		y[i] = float64(v)/temperature - math.Log(sum)
	}
	return y
}

// The model learns what the teacher knows: far more of it than if half of the loss is the data's, which ends at 0.39 of
// the first.
func TestDistilledLearns(t *testing.T) {
	_, _, o := distilled(t, "steps=40", "optimizer.lr=3e-3")
	all := figures(t, o.Dir)
	if first, last := *all[0].KL, *all[39].KL; last > first/10 {
		t.Errorf("the divergence goes from %v to %v, want a tenth at most", first, last)
	}
}

// The cache does not change any metric, whether it is empty, full or partly damaged, or the run was interrupted.
func TestTeacherCache(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	teacher, _, o := distilled(t, "distill.cache="+cache, "distill.top_k=5")
	recipe, err := readRecipe(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, predictionsFile)
	again := func(what string) {
		other := Options{Dir: filepath.Join(t.TempDir(), "run")}
		if _, err := Run(interruptedAfter(t, &other, 3), recipe, other); !errors.Is(err, ErrInterrupted) {
			t.Fatal(err)
		}
		other.Observe = nil
		if _, err := Resume(t.Context(), other, nil); err != nil {
			t.Fatal(err)
		}
		same(t, what, other.Dir, o.Dir)
	}
	full := []byte(read(t, path))
	again("full")
	damaged := append([]byte(nil), full[:len(full)/2]...)
	damaged[len(damaged)/3] ^= 1
	if err := os.WriteFile(path, damaged, 0o666); err != nil {
		t.Fatal(err)
	}
	again("damaged")
	if read(t, path) != string(full) {
		t.Error("the cache was not made whole")
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	again("empty")

	// Predictions without a key are computed again.
	wrong := bytes.Clone(full)
	copy(wrong, full[len(full)/2:]) // whole records, of other windows
	put(t, filepath.Dir(path), predictionsFile, string(wrong))
	if err := os.Remove(filepath.Join(filepath.Dir(path), predictionsKeyFile)); err != nil {
		t.Fatal(err)
	}
	if lines := warnings(t, func() { again("without teacher.json") }); len(lines) != 1 || !strings.Contains(lines[0], "has no teacher.json") {
		t.Errorf("the log holds %q", lines)
	}
	if read(t, path) != string(full) {
		t.Error("the cache was not made anew")
	}

	// So are those with a damaged teacher.json, and those that no teacher makes.
	put(t, filepath.Dir(path), predictionsKeyFile, "{")
	if lines := warnings(t, func() { again("a damaged teacher.json") }); len(lines) != 1 || !strings.Contains(lines[0], "has a damaged teacher.json") {
		t.Errorf("the log holds %q", lines)
	}
	record := full[:4+6*5*12]
	binary.LittleEndian.PutUint32(record[4:], 1<<20)
	binary.LittleEndian.PutUint32(record, crc32.Checksum(record[4:], castagnoli))
	put(t, filepath.Dir(path), predictionsFile, string(full))
	again("an id beyond the vocabulary")

	recipe.Seed++
	if _, err := Run(t.Context(), recipe, Options{Dir: filepath.Join(t.TempDir(), "run")}); err == nil || !strings.Contains(err.Error(), "another seed (0 there, 1 now); name another folder") {
		t.Errorf("another seed: %v", err)
	}
	recipe.Seed--
	put(t, teacher, "config.json", strings.Replace(golden.Tiny["gpt2"], "{", `{"resid_pdrop": 0.5, `, 1))
	if _, err := Run(t.Context(), recipe, Options{Dir: filepath.Join(t.TempDir(), "run")}); err == nil || !strings.Contains(err.Error(), "another teacher") {
		t.Errorf("another teacher: %v", err)
	}
}

// A run reads the cache for windows that it holds.
func TestTeacherCacheRead(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	_, _, o := distilled(t, "distill.cache="+cache, "distill.top_k=5")
	recipe, err := readRecipe(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := prepare(t.Context(), solo(nil), &recipe)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.trainer.teacher.openCache(); err != nil {
		t.Fatal(err)
	}
	held := r.trainer.teacher.cache
	soft := held.room(1)
	if ok, err := held.load(0, soft); !ok || err != nil {
		t.Fatal("the first window is not held", err)
	}
	clear(soft.LogP) // sure of five tokens at once
	if err := errors.Join(held.store(0, soft), held.Close()); err != nil {
		t.Fatal(err)
	}
	other := Options{Dir: filepath.Join(t.TempDir(), "run")}
	mustRun(t, recipe, other)
	if a, b := figures(t, o.Dir)[0], figures(t, other.Dir)[0]; *a.KL == *b.KL {
		t.Error("the cache was not read")
	}
}

// A cache of all tokens equals the teacher itself, up to the rounding of f16.
func TestTeacherCacheWhole(t *testing.T) {
	_, _, plain := distilled(t)
	_, _, cached := distilled(t, "distill.cache="+filepath.Join(t.TempDir(), "cache"), "distill.top_k=40")
	a, b := figures(t, plain.Dir), figures(t, cached.Dir)
	for i := range a {
		if math.Abs(*a[i].KL-*b[i].KL) > 2e-3 || math.Abs(float64(a[i].Loss-b[i].Loss)) > 2e-3 {
			t.Errorf("step %d: kl %v from the cache, %v from the teacher", a[i].Step, *b[i].KL, *a[i].KL)
		}
	}
}

func TestTeacherChecks(t *testing.T) {
	for sets, want := range map[string]string{
		"distill.teacher=nowhere":                                          "teacher: ",
		"distill.teacher=" + tinyFolder(t, "llama"):                        "has a vocabulary of 40, the model one of 128",
		"distill.loss=kl":                                                  "name one with distill.teacher",
		"distill.loss=both":                                                `distill.loss is "both", want one of`,
		"distill.teacher=testdata/llama-g2 distill.temperature=0":          "distill.temperature is 0",
		"distill.teacher=testdata/llama-g2 distill.cache=testdata/x/y\x00": "teacher cache",
	} {
		recipe, o := smallRun(t)
		for set := range strings.SplitSeq(sets, " ") {
			if err := recipe.Set(set); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Run(t.Context(), recipe, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", sets, err, want)
		}
	}
}

// The teacher's own validation loss is recorded beside the model's in every validation, and equals that of a run whose
// model is the teacher itself.
func TestTeacherValidation(t *testing.T) {
	held := "valid=" + writeIDs(t, golden.Windows(2, 5, 12, 40))
	_, s, o := distilled(t, held, "valid_every=1")
	var original float64
	for _, m := range figures(t, o.Dir) {
		if m.Original == nil || m.ValidLoss == nil || original != 0 && *m.Original != original {
			t.Fatalf("step %d: %v beside %v, want %v", m.Step, m.Original, m.ValidLoss, original)
		}
		original = *m.Original
	}
	if s.Original == nil || *s.Original != original || s.KL == nil || s.CE == nil {
		t.Errorf("status %+v, want %v", s, original)
	}
	recipe, alone := smallRun(t, held, "steps=1", "optimizer.lr=1e-12")
	m := figures(t, mustRun(t, recipe, alone).Run)[0]
	recipe.Distill.Teacher, recipe.Distill.Loss = recipe.Model, "kl"
	beside := Options{Dir: filepath.Join(t.TempDir(), "run")}
	if both := figures(t, mustRun(t, recipe, beside).Run)[0]; both.Original == nil || math.Abs(*both.Original-*m.ValidLoss) > 1e-5 {
		t.Errorf("the teacher's loss is %v, a model's that is the same %v", both.Original, *m.ValidLoss)
	}
	if m.Original != nil {
		t.Errorf("without a teacher: %v", *m.Original)
	}
}
