package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestResume interrupts a run after each step and goes on with it.
func TestResume(t *testing.T) {
	recipe, o := smallRun(t)
	mustRun(t, recipe, o)
	other := Options{Dir: filepath.Join(t.TempDir(), "run")}
	_, err := Run(interruptedAfter(t, &other, 1), recipe, other)
	for step := 2; step < 8; step++ {
		if !errors.Is(err, ErrInterrupted) || !strings.Contains(err.Error(), "gqa-train resume "+other.Dir) {
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

// Fused, transposed and tied weights go through a checkpoint to the bit as well, and so do Muon's averages and the weights'.
func TestResumeFamilies(t *testing.T) {
	for name := range tinyConfigs {
		recipe, o := smallRun(t, "model="+tinyFolder(t, name), "valid=", "data="+writeIDs(t, randomWindows(1, 14, 12, 40)), "optimizer.name=muon",
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

// TestResumeAfterCrash goes on with what a killed process leaves: figures beyond the last checkpoint, a line cut short, a
// checkpoint and a result half written.
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
	halves := []string{"checkpoints/.step-8.tmp-1", ".model.tmp-1"}
	for _, name := range halves {
		if err := os.Mkdir(filepath.Join(crashed.Dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
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
}

// A run that never saved begins again.
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

// The data may move, the model may go: a checkpoint has all that a run needs.
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

// A newest checkpoint that is damaged: the error names the folder to remove, and what is before it goes on.
func TestResumeDamaged(t *testing.T) {
	recipe, o := smallRun(t, "keep=0")
	mustRun(t, recipe, o)
	for name, c := range map[string]struct {
		content string // in place of the file; "half": of it
		want    string
	}{
		"model.safetensors":     {"half", "model.safetensors"},
		"config.json":           {"{", "config.json"},
		"optimizer.safetensors": {"half", "optimizer.safetensors"},
		"state.json":            {"", "state.json"},
		"./state.json":          {"{}", "state.json: step is 0"},
	} {
		damaged := Options{Dir: filepath.Join(t.TempDir(), "run")}
		if err := os.CopyFS(damaged.Dir, os.DirFS(o.Dir)); err != nil {
			t.Fatal(err)
		}
		for _, gone := range []string{modelDir, "checkpoints/step-8"} {
			if err := os.RemoveAll(filepath.Join(damaged.Dir, gone)); err != nil {
				t.Fatal(err)
			}
		}
		newest := checkpointDir(damaged.Dir, 6)
		if c.content == "half" {
			whole := read(t, newest, name)
			c.content = whole[:len(whole)/2]
		}
		put(t, newest, name, c.content)
		_, err := Resume(t.Context(), damaged, nil)
		advice := "to go on from step 4, remove " + newest
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s: error %v, want one with %q and %q", name, err, c.want, advice)
		}
		if err := os.RemoveAll(newest); err != nil {
			t.Fatal(err)
		}
		if _, err := Resume(t.Context(), damaged, nil); err != nil {
			t.Fatalf("%s: after the advice: %v", name, err)
		}
		same(t, name, damaged.Dir, o.Dir)
	}
}

// Where the damaged checkpoint is the only one, the way around it is from the beginning.
func TestResumeDamagedOnly(t *testing.T) {
	recipe, o := smallRun(t, "keep=1", "valid=")
	mustRun(t, recipe, o)
	only := checkpointDir(o.Dir, 8)
	if err := os.Remove(filepath.Join(only, momentsFile)); err != nil {
		t.Fatal(err)
	}
	_, err := Resume(t.Context(), o, []string{"steps=9"})
	if err == nil || !strings.Contains(err.Error(), momentsFile) || !strings.Contains(err.Error(), "to begin again, remove "+only) {
		t.Fatalf("error %v, want what to remove", err)
	}
	if err := os.RemoveAll(only); err != nil {
		t.Fatal(err)
	}
	if s, err := Resume(t.Context(), o, nil); err != nil || s.State != Finished {
		t.Errorf("after the advice: %+v, %v", s, err)
	}
}
