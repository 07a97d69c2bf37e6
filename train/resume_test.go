package train

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/golden"
)

// TestResume interrupts a run after each step and resumes it.
func TestResume(t *testing.T) {
	recipe, o := smallRun(t)
	mustRun(t, recipe, o)
	other := Options{Dir: filepath.Join(t.TempDir(), "run")}
	_, err := Run(interruptedAfter(t, &other, 1), recipe, other)
	for step := 2; step < 8; step++ {
		if !errors.Is(err, ErrInterrupted) || stopOf(t, err).Run != other.Dir || stopOf(t, err).Saved != step-1 {
			t.Fatalf("step %d: error %v, want ErrInterrupted and how to resume", step, err)
		}
		s, statusErr := ReadStatus(other.Dir)
		if statusErr != nil || s.State != Interrupted || s.Saved != step-1 {
			t.Fatalf("status %+v, %v; want interrupted at %d", s, statusErr, step-1)
		}
		_, err = Resume(interruptedAfter(t, &other, step), other, nil)
	}
	other.Observe = nil
	if s, err := Resume(t.Context(), other, nil); err != nil || s.State != Finished {
		t.Fatalf("%+v, %v", s, err)
	}
	same(t, "resumed after each step", other.Dir, o.Dir)
}

// Fused, transposed and tied weights also go through a checkpoint unchanged, and so do Muon's averages and those of the
// weights.
func TestResumeFamilies(t *testing.T) {
	for name := range golden.Tiny {
		recipe, o := smallRun(t, "model="+tinyFolder(t, name), "valid=", "data="+writeIDs(t, golden.Windows(1, 14, 12, 40)), "optimizer.name=muon",
			"optimizer.average=0.7")
		mustRun(t, recipe, o)
		other := Options{Dir: filepath.Join(t.TempDir(), "run")}
		if _, err := Run(interruptedAfter(t, &other, 3), recipe, other); !errors.Is(err, ErrInterrupted) {
			t.Fatal(err)
		}
		if _, err := Resume(t.Context(), other, nil); err != nil {
			t.Fatal(err)
		}
		same(t, name, other.Dir, o.Dir)
	}
}

// Adafactor's averages go through a checkpoint unchanged.
func TestResumeAdafactor(t *testing.T) {
	recipe, o := smallRun(t, "valid=", "optimizer.name=adafactor", "optimizer.average=0.7")
	mustRun(t, recipe, o)
	other := Options{Dir: filepath.Join(t.TempDir(), "run")}
	if _, err := Run(interruptedAfter(t, &other, 3), recipe, other); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	if _, err := Resume(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	same(t, "Adafactor", other.Dir, o.Dir)
}

// interruptedAfter is a context that ends as soon as a step is made.
func interruptedAfter(t *testing.T, o *Options, step int) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	o.Observe = func(p Progress) {
		if p.Step == step {
			cancel()
		}
	}
	return ctx
}

// TestResumeAfterCrash resumes from the files that a killed process leaves: metrics beyond the last checkpoint, a
// truncated line, a partly written checkpoint and result.
func TestResumeAfterCrash(t *testing.T) {
	recipe, o := smallRun(t)
	mustRun(t, recipe, o)
	crashed := Options{Dir: filepath.Join(t.TempDir(), "run")}
	mustRun(t, recipe, crashed)
	for _, name := range []string{"model", "checkpoints/step-8"} {
		if err := os.RemoveAll(filepath.Join(crashed.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	halves := []string{"checkpoints/.step-8.tmp-0a1b2c3d", "checkpoints/.step-2.old", ".model.tmp-0a1b2c3d"}
	users := []string{"checkpoints/.step-best", ".notes.tmp-1", ".model.tmp-mine"}
	for _, name := range append(halves, users...) {
		dir := filepath.Join(crashed.Dir, name)
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		put(t, dir, "model.safetensors", "half")
	}
	log := read(t, crashed.Dir, metricsFile)
	if err := os.WriteFile(filepath.Join(crashed.Dir, metricsFile), []byte(log+`{"step":9,"lo`), 0o666); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadStatus(crashed.Dir); err != nil || s.State != Interrupted || s.Saved != 6 || s.Step != 8 {
		t.Fatalf("status %+v, %v", s, err)
	}
	var first int
	crashed.Observe = func(p Progress) {
		if first == 0 {
			first = p.Step
		}
	}
	if _, err := Resume(t.Context(), crashed, nil); err != nil {
		t.Fatal(err)
	}
	if first != 7 {
		t.Errorf("went on with step %d, want 7", first)
	}
	same(t, "after a crash", crashed.Dir, o.Dir)
	for _, name := range halves {
		if _, err := os.Stat(filepath.Join(crashed.Dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range users {
		if read(t, crashed.Dir, name, "model.safetensors") != "half" {
			t.Errorf("%s is changed", name)
		}
	}
}

// A run without a checkpoint starts again.
func TestResumeWithoutCheckpoint(t *testing.T) {
	recipe, o := smallRun(t)
	mustRun(t, recipe, o)
	fresh := Options{Dir: filepath.Join(t.TempDir(), "run")}
	mustRun(t, recipe, fresh)
	for _, name := range []string{"model", "checkpoints"} {
		if err := os.RemoveAll(filepath.Join(fresh.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, recipe, fresh) // the same recipe in the same folder is a resume
	same(t, "begun again", fresh.Dir, o.Dir)
}

// The data may move and the model may be removed: a checkpoint has everything that a run needs.
func TestResumeMoved(t *testing.T) {
	model := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		put(t, model, name, read(t, "testdata/llama-g2", name))
	}
	put(t, model, "tokenizer_config.json", "{}")
	recipe, o := smallRun(t, "model="+model, "steps=2")
	mustRun(t, recipe, o)
	moved := filepath.Join(t.TempDir(), "elsewhere.safetensors")
	if err := os.Rename(recipe.Data, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(model); err != nil {
		t.Fatal(err)
	}
	s, err := Resume(t.Context(), o, []string{"steps=3", "data=" + moved})
	if err != nil || s.State != Finished {
		t.Fatalf("%+v, %v", s, err)
	}
	if read(t, s.Model, "tokenizer_config.json") != "{}" {
		t.Error("the model's other files are lost")
	}
}

// stopped returns a run that was interrupted after six of eight steps, with checkpoints of steps 2, 4 and 6, and one that
// was not interrupted.
func stopped(t *testing.T, sets ...string) (dir string, whole Options) {
	t.Helper()
	recipe, whole := smallRun(t, append([]string{"keep=0"}, sets...)...)
	mustRun(t, recipe, whole)
	o := Options{Dir: filepath.Join(t.TempDir(), "run")}
	if _, err := Run(interruptedAfter(t, &o, 6), recipe, o); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	return o.Dir, whole
}

// copied returns a copy of a run that a test may damage.
func copied(t *testing.T, run string) Options {
	t.Helper()
	o := Options{Dir: filepath.Join(t.TempDir(), "run")}
	if err := os.CopyFS(o.Dir, os.DirFS(run)); err != nil {
		t.Fatal(err)
	}
	return o
}

// warnings returns the lines that are logged while f runs.
func warnings(t *testing.T, f func()) []string {
	t.Helper()
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	f()
	return strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
}

// spoilers damage a checkpoint's folder in the ways that the error then names.
func spoilers(t *testing.T, run string) map[string]func(dir string) {
	cut := func(name string) func(dir string) {
		return func(dir string) { put(t, dir, name, read(t, dir, name)[:len(read(t, dir, name))/2]) }
	}
	edit := func(name, old, now string) func(dir string) {
		return func(dir string) { put(t, dir, name, strings.Replace(read(t, dir, name), old, now, 1)) }
	}
	remove := func(name string) func(dir string) {
		return func(dir string) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	from := func(name string) func(dir string) {
		return func(dir string) { put(t, dir, name, read(t, checkpointDir(run, 4), name)) }
	}
	return map[string]func(dir string){
		"model.safetensors has ":            cut("model.safetensors"),
		"config.json is damaged":            edit("config.json", "8", "9"),
		"optimizer.safetensors is missing":  remove(momentsFile),
		"model.safetensors is damaged":      from("model.safetensors"),
		"optimizer.safetensors is damaged":  from(momentsFile),
		"metrics.jsonl has ":                from(metricsFile),
		"it is the checkpoint of step 4":    from(stateFile),
		"state.json is missing":             remove(stateFile),
		"state.json: is damaged: its check": edit(stateFile, `"step": 6`, `"step": 7`),
		"state.json: is damaged: it is not": edit(stateFile, `"checksum"`, `"checksuM"`),
		"generation_config.json is not of":  func(dir string) { put(t, dir, "generation_config.json", "{}") },
	}
}

// TestResumeDamaged: a run falls back to the newest good checkpoint, logs one line and ends with the same result.
func TestResumeDamaged(t *testing.T) {
	run, whole := stopped(t)
	for want, spoil := range spoilers(t, run) {
		o := copied(t, run)
		newest := checkpointDir(o.Dir, 6)
		spoil(newest)
		lines := warnings(t, func() {
			if _, err := Resume(t.Context(), o, nil); err != nil {
				t.Errorf("%s: %v", want, err)
			}
		})
		if len(lines) != 1 || !strings.Contains(lines[0], want) || !strings.Contains(lines[0], "resuming from step 4") {
			t.Errorf("%s: the log holds %q", want, lines)
		}
		same(t, want, o.Dir, whole.Dir)
		if _, err := os.Stat(filepath.Join(o.Dir, checkpointsDir, "damaged-step-6")); err != nil {
			t.Errorf("%s: the damaged checkpoint is gone: %v", want, err)
		}
	}
}

// Without a good checkpoint the run is refused and nothing is changed.
func TestResumeNoneGood(t *testing.T) {
	run, whole := stopped(t, "keep=1")
	for want, spoil := range spoilers(t, whole.Dir) { // of step 4 the other run has none
		if strings.Contains(want, "step 4") || strings.HasPrefix(want, "metrics") || strings.HasSuffix(want, "is damaged") && !strings.HasPrefix(want, "config") {
			continue
		}
		o := copied(t, run)
		spoil(checkpointDir(o.Dir, 6))
		_, err := Resume(t.Context(), o, nil)
		if err == nil || !strings.Contains(err.Error(), "none of its checkpoints is intact (step 6: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
		if steps, err := savedSteps(o.Dir); err != nil || !slices.Equal(steps, []int{6}) {
			t.Errorf("%s: checkpoints of %v are left (%v)", want, steps, err)
		}
		if err := os.RemoveAll(filepath.Join(o.Dir, checkpointsDir)); err != nil {
			t.Fatal(err)
		}
		if _, err := Resume(t.Context(), o, nil); err != nil {
			t.Errorf("%s: after the advice: %v", want, err)
		}
		same(t, want, o.Dir, whole.Dir)
	}
}

// TestResumeStray: a folder that the run did not write is not counted, and prune still removes those that it did write.
func TestResumeStray(t *testing.T) {
	run, whole := stopped(t, "keep=2")
	for what, spoil := range map[string]func(stray string) error{
		"an empty folder": func(stray string) error { return os.Mkdir(stray, 0o777) },
		"a copy":          func(stray string) error { return os.CopyFS(stray, os.DirFS(checkpointDir(run, 6))) },
	} {
		o := copied(t, run)
		if err := spoil(checkpointDir(o.Dir, 99999)); err != nil {
			t.Fatal(err)
		}
		if s, err := ReadStatus(o.Dir); err != nil || s.Saved != 6 {
			t.Errorf("%s: status %+v, %v", what, s, err)
		}
		lines := warnings(t, func() {
			if _, err := Resume(t.Context(), o, nil); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
		if len(lines) != 1 || !strings.Contains(lines[0], "step 99999") || !strings.Contains(lines[0], "resuming from step 6") {
			t.Errorf("%s: the log holds %q", what, lines)
		}
		same(t, what, o.Dir, whole.Dir)
	}
}

// Another run's checkpoint is not used.
func TestResumeAnothersCheckpoint(t *testing.T) {
	run, whole := stopped(t)
	other, _ := stopped(t, "name=other", "seed=5")
	o := copied(t, run)
	newest := checkpointDir(o.Dir, 6)
	if err := os.RemoveAll(newest); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(newest, os.DirFS(checkpointDir(other, 6))); err != nil {
		t.Fatal(err)
	}
	lines := warnings(t, func() { _, _ = Resume(t.Context(), o, nil) })
	if len(lines) != 1 || !strings.Contains(lines[0], "another run's checkpoint") {
		t.Errorf("the log holds %q", lines)
	}
	same(t, "another's", o.Dir, whole.Dir)
}

// Numbers that are not finite have a good checksum if they were saved.
func TestResumeNotFinite(t *testing.T) {
	run, whole := stopped(t)
	o := copied(t, run)
	newest := checkpointDir(o.Dir, 6)
	moments := []byte(read(t, newest, momentsFile))
	binary.LittleEndian.PutUint32(moments[len(moments)-4:], math.Float32bits(float32(math.Inf(1))))
	put(t, newest, momentsFile, string(moments))
	s, err := readState(o.Dir, 6)
	if err != nil {
		t.Fatal(err)
	}
	all, err := checkpoints.Digests(t.Context(), newest, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Files[momentsFile] = all[momentsFile]
	if err := writeSealed(filepath.Join(newest, stateFile), s); err != nil {
		t.Fatal(err)
	}
	lines := warnings(t, func() {
		if _, err := Resume(t.Context(), o, nil); err != nil {
			t.Error(err)
		}
	})
	if len(lines) != 1 || !strings.Contains(lines[0], "+Inf at [") || !strings.Contains(lines[0], "resuming from step 4") {
		t.Errorf("the log holds %q", lines)
	}
	same(t, "not finite", o.Dir, whole.Dir)
}

// TestResumeMetrics: whatever happens to metrics.jsonl, a resumed run ends with that of an uninterrupted one.
func TestResumeMetrics(t *testing.T) {
	run, whole := stopped(t)
	text := read(t, run, metricsFile)
	lines := strings.SplitAfter(text, "\n")
	for want, spoiled := range map[string]string{
		"line 7 is cut short":                          text + `{"step":7,"lo`,
		"line 3 is damaged":                            strings.Replace(text, `"step":3`, `"step":X`, 1),
		"line 4 is of step 5, but step 4 is missing":   strings.Join(slices.Delete(slices.Clone(lines), 3, 4), ""),
		"it does not hold what was saved":              strings.Replace(text, `"loss":`, `"loss":1`, 1),
		"line 6 is cut short":                          text[:len(text)-5],
		"metrics.jsonl: it does not hold what was sav": "",
	} {
		o := copied(t, run)
		put(t, o.Dir, metricsFile, spoiled)
		if s, err := ReadStatus(o.Dir); err != nil || s.Saved != 6 || read(t, o.Dir, metricsFile) != spoiled {
			t.Errorf("%s: status %+v, %v", want, s, err)
		}
		warned := warnings(t, func() {
			if _, err := Resume(t.Context(), o, nil); err != nil {
				t.Errorf("%s: %v", want, err)
			}
		})
		if len(warned) != 1 || !strings.Contains(warned[0], want) || !strings.Contains(warned[0], "cut back to step 6") {
			t.Errorf("%s: the log holds %q", want, warned)
		}
		same(t, want, o.Dir, whole.Dir)
		if aside, err := os.ReadFile(filepath.Join(o.Dir, "damaged-metrics.jsonl")); !strings.HasPrefix(spoiled, text) && (err != nil || string(aside) != spoiled) {
			t.Errorf("%s: what was there is not kept (%v)", want, err)
		}
	}
}

// A user's files in a run's model/ stay when the run is resumed.
func TestResumeKeepsUsersFiles(t *testing.T) {
	recipe, o := smallRun(t, "steps=2", "valid=")
	s := mustRun(t, recipe, o)
	put(t, s.Model, "notes.txt", "mine")
	s, err := Resume(t.Context(), o, []string{"steps=3"})
	if err != nil || s.State != Finished || read(t, s.Model, "notes.txt") != "mine" {
		t.Errorf("%+v, %v", s, err)
	}
}

// A run of an earlier version has no checksums: it is resumed, and a line says what cannot be verified.
func TestResumeEarlierVersion(t *testing.T) {
	run, whole := stopped(t)
	for _, kept := range []bool{true, false} { // with checkpoints, and before the first
		o := copied(t, run)
		if err := os.Remove(filepath.Join(o.Dir, identityFile)); err != nil {
			t.Fatal(err)
		}
		want := "whether model, teacher and data are those"
		for _, step := range []int{2, 4, 6} {
			dir := checkpointDir(o.Dir, step)
			s, err := readState(o.Dir, step)
			if err != nil {
				t.Fatal(err)
			}
			old, err := json.MarshalIndent(state{Step: s.Step, Tokens: s.Tokens, Data: s.Identity.Data, SourceDType: s.SourceDType}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir, stateFile, string(old)+"\n")
			if err := os.Remove(filepath.Join(dir, metricsFile)); err != nil {
				t.Fatal(err)
			}
		}
		if kept {
			want = "whether the checkpoint of step 6 is as it was saved, nor " + want
		} else if err := os.RemoveAll(filepath.Join(o.Dir, checkpointsDir)); err != nil {
			t.Fatal(err)
		}
		warned := warnings(t, func() {
			if _, err := Resume(t.Context(), o, nil); err != nil {
				t.Error(err)
			}
		})
		if !kept {
			if len(warned) != 2 || !strings.Contains(warned[0], "has no checkpoint: starting again from the model") {
				t.Errorf("the log holds %q", warned)
			}
			warned = warned[1:]
		}
		if len(warned) != 1 || !strings.Contains(warned[0], want) {
			t.Errorf("the log holds %q, want %q", warned, want)
		}
		same(t, want, o.Dir, whole.Dir)
	}
}

// The identity of a run's inputs is fixed before its first checkpoint.
func TestResumeIdentity(t *testing.T) {
	teacher := filepath.Join(t.TempDir(), "teacher")
	if err := os.CopyFS(teacher, os.DirFS("testdata/llama-g2")); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(model, os.DirFS("testdata/llama-g2")); err != nil {
		t.Fatal(err)
	}
	for _, saved := range []bool{true, false} {
		for _, cache := range []string{"", filepath.Join(t.TempDir(), "cache")} {
			recipe, o := smallRun(t, "model="+model, "distill.teacher="+teacher, "distill.cache="+cache, "steps=2")
			if saved {
				mustRun(t, recipe, o)
			} else if r := begun(t, recipe, o); r.trainer.teacher.Close() != nil {
				t.Fatal("the teacher's cache does not close")
			}
			for part, spoil := range map[string]func() (undo func()){
				"model":   flipBit(t, filepath.Join(model, "model.safetensors")),
				"teacher": flipBit(t, filepath.Join(teacher, "model.safetensors")),
				"data":    flipBit(t, recipe.Data),
				"valid":   flipBit(t, recipe.Valid),
			} {
				if saved && part == "model" || cache != "" && (part == "teacher" || part == "data") { // not read any more; the cache says it itself
					continue
				}
				undo := spoil()
				_, err := Resume(t.Context(), o, []string{"steps=4"})
				if err == nil || !strings.Contains(err.Error(), part+": ") || !strings.Contains(err.Error(), "has changed since the run began") {
					t.Errorf("another %s, saved %v, cache %q: %v", part, saved, cache, err)
				}
				undo()
			}
			if _, err := Resume(t.Context(), o, []string{"steps=4"}); err != nil {
				t.Error(err)
			}
		}
	}
}

// flipBit flips a bit of a file's last number; a second call restores it.
func flipBit(t *testing.T, path string) func() (undo func()) {
	flip := func() {
		text := []byte(read(t, path))
		text[len(text)-4] ^= 1
		put(t, filepath.Dir(path), filepath.Base(path), string(text))
	}
	return func() func() { flip(); return flip }
}

// A recipe.yaml that was truncated, or edited in fixed keys, is an error.
func TestResumeRecipe(t *testing.T) {
	run, whole := stopped(t)
	text := read(t, run, recipeFile)
	for want, spoiled := range map[string]string{
		"threads is missing":                   text[:strings.Index(text, "threads")],
		"seed was 0, now 3, seq_len is missin": strings.Replace(strings.Replace(text, "seed: 0", "seed: 3", 1), "seq_len: 12\n", "", 1),
		"batch was 2, now 4":                   strings.Replace(text, "batch: 2", "batch: 4", 1),
		"optimizer.name was adamw, now muon":   strings.Replace(text, "adamw", "muon", 1),
		"batch is missing":                     "",
	} {
		for _, gone := range []bool{false, true} { // then the checkpoint tells
			o := copied(t, run)
			put(t, o.Dir, recipeFile, spoiled)
			if gone && spoiled == "" {
				continue // there is nothing to open a checkpoint with
			}
			if gone {
				put(t, o.Dir, identityFile, "{")
			}
			_, err := Resume(t.Context(), o, nil)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), recipeFile) {
				t.Errorf("%s, without identity.json %v: error %v", want, gone, err)
			}
		}
	}
	o := copied(t, run)
	put(t, o.Dir, recipeFile, strings.Replace(text, "log_every: 3", "log_every: 4", 1)) // changes nothing
	if _, err := Resume(t.Context(), o, nil); err != nil {
		t.Error(err)
	}
	same(t, "an edit that does not count", o.Dir, whole.Dir)
}

// A user's files in checkpoints stay when these are pruned, and only complete checkpoints count.
func TestPrune(t *testing.T) {
	run, _ := stopped(t)
	put(t, checkpointDir(run, 2), "notes.txt", "mine")
	if err := os.Remove(filepath.Join(checkpointDir(run, 4), momentsFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(checkpointDir(run, 100), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := prune(run, 6, 1, 0); err != nil {
		t.Fatal(err)
	}
	if steps, err := savedSteps(run); err != nil || !slices.Equal(steps, []int{2, 4, 6, 100}) {
		t.Errorf("folders of %v, %v", steps, err)
	}
	if names, err := os.ReadDir(checkpointDir(run, 2)); err != nil || len(names) != 1 || names[0].Name() != "notes.txt" {
		t.Errorf("step 2 holds %v, %v; want the user's file alone", names, err)
	}
	if newest, err := newestWhole(run); err != nil || newest != 6 {
		t.Errorf("the newest is %d, %v", newest, err)
	}
}

// A recipe that was edited by hand is used, and a line lists the changes; changes by --set are not listed.
func TestResumeEdited(t *testing.T) {
	run, _ := stopped(t)
	o := copied(t, run)
	o.Observe = nil
	if _, err := Resume(interruptedAfter(t, &o, 7), o, []string{"optimizer.lr=0.5"}); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	o.Observe = nil
	edited := copied(t, o.Dir)
	for _, test := range []struct {
		o    Options
		old  string
		want string
	}{{o, "", ""}, {edited, "lr: 0.5", "optimizer.lr was 0.5, now 0.25"}} {
		put(t, test.o.Dir, recipeFile, strings.Replace(read(t, test.o.Dir, recipeFile), test.old, strings.Replace(test.old, "0.5", "0.25", 1), 1))
		warned := warnings(t, func() {
			if _, err := Resume(t.Context(), test.o, nil); err != nil {
				t.Error(err)
			}
		})
		if len(warned) != 1 || !strings.Contains(warned[0], test.want) || (warned[0] == "") != (test.want == "") {
			t.Errorf("the log holds %q, want %q", warned, test.want)
		}
	}
}

// A run needs identity.json or a checkpoint to know what it started with. Without either it does not resume.
func TestResumeIdentityDamaged(t *testing.T) {
	run, whole := stopped(t)
	for _, kept := range []bool{true, false} {
		o := copied(t, run)
		put(t, o.Dir, identityFile, read(t, o.Dir, identityFile)[1:])
		if !kept {
			if err := os.RemoveAll(filepath.Join(o.Dir, checkpointsDir)); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		warned := warnings(t, func() { _, err = Resume(t.Context(), o, nil) })
		if !kept {
			if err == nil || !strings.Contains(err.Error(), "identity.json: is damaged") || !strings.Contains(err.Error(), "there is no checkpoint") {
				t.Errorf("without a checkpoint: %v", err)
			}
			continue
		}
		if err != nil || len(warned) != 1 || !strings.Contains(warned[0], "identity.json: is damaged") {
			t.Errorf("%v; the log holds %q", err, warned)
		}
		same(t, "with a checkpoint", o.Dir, whole.Dir)
	}
}

// A run that is interrupted before its first step makes none.
func TestInterruptedBeforeStep(t *testing.T) {
	recipe, o := smallRun(t)
	r := begun(t, recipe, o)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.loop(ctx, o); !errors.Is(err, ErrInterrupted) || !strings.Contains(err.Error(), "before the first step") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, checkpointsDir)); err == nil {
		t.Error("a checkpoint was made")
	}
}

// TestStatusReadsOnly: status changes nothing, even in a folder that it cannot write to.
func TestStatusReadsOnly(t *testing.T) {
	run, _ := stopped(t)
	listing := func() (all string) {
		err := filepath.WalkDir(run, func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				var info fs.FileInfo
				if info, err = d.Info(); err == nil {
					all += fmt.Sprintln(path, info.Size(), info.ModTime(), info.Mode())
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if err := os.Remove(filepath.Join(run, lockFile)); err != nil {
		t.Fatal(err)
	}
	before := listing()
	if s, err := ReadStatus(run); err != nil || s.Saved != 6 || s.State != Interrupted {
		t.Errorf("status %+v, %v", s, err)
	}
	if after := listing(); after != before {
		t.Errorf("status changed the folder:\n%s\n%s", before, after)
	}
}

// endsAfter is a context that ends at the nth call of Err.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n > 0 {
		return nil
	}
	return context.Canceled
}

// A run that is interrupted during a step with a validation makes it when it is resumed.
func TestResumeValidates(t *testing.T) {
	recipe, whole := smallRun(t)
	mustRun(t, recipe, whole)
	recipe, o := smallRun(t)
	r := begun(t, recipe, o)
	if err := r.loop(&endsAfter{t.Context(), 9}, o); !errors.Is(err, ErrInterrupted) || r.state.Step != 4 { // twice before each step, and before the validation
		t.Fatalf("stopped after step %d: %v", r.state.Step, err)
	}
	if all := figures(t, o.Dir); all[3].ValidLoss != nil {
		t.Fatalf("step 4 has been validated: %+v", all[3])
	}
	caught := copied(t, o.Dir) // killed just after it had caught up
	r, err := solo(nil).reopen(t.Context(), caught.Dir, &recipe, identity{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.loop(&endsAfter{t.Context(), 1}, caught); !errors.Is(err, ErrInterrupted) || figures(t, caught.Dir)[3].ValidLoss == nil {
		t.Fatalf("not caught up: %v", err)
	}
	for _, o := range []Options{o, caught} {
		warned := warnings(t, func() {
			if _, err := Resume(t.Context(), o, nil); err != nil {
				t.Fatal(err)
			}
		})
		if len(warned) != 1 || warned[0] != "" {
			t.Errorf("the log holds %q", warned)
		}
		same(t, "stopped before a validation", o.Dir, whole.Dir)
	}
}
