package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// All errors are reported before anything is written.
func TestRunChecks(t *testing.T) {
	foreign := t.TempDir() // a model of 128 ids with a tokenizer of 2048
	for _, name := range []string{"config.json", "model.safetensors"} {
		put(t, foreign, name, read(t, "testdata/llama-g2", name))
	}
	tokenizer, err := sample.File("tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	put(t, foreign, "tokenizer.json", string(tokenizer))
	text := put(t, t.TempDir(), "corpus.txt", strings.Repeat("func main() {}\n", 100))
	short, wide := writeIDs(t, golden.Windows(1, 1, 5, 128)), writeIDs(t, [][]int32{{1, 2, 3, 200}})
	learned := tinyFolder(t, "gpt2")
	for sets, want := range map[string]string{
		"steps=0":                            "steps is 0: give steps",
		"batch=0":                            "batch is 0, want 1 to 65536",
		"batch=-2":                           "batch is -2, want 1 to 65536",
		"seq_len=1":                          "seq_len is 1, want 2 to",
		"optimizer.lr=-1":                    "optimizer.lr is -1",
		"model=nowhere":                      "nowhere",
		"data=nowhere.txt":                   "nowhere.txt",
		"data=" + short:                      "corpus has 5 tokens, shorter than one window of 12",
		"valid=" + short:                     "valid: " + short + ": corpus has 5 tokens",
		"data=" + wide:                       "id 200 at 3 is outside the model's vocabulary of 128",
		"data=" + text:                       "tokenizer",
		"model=" + foreign + " data=" + text: "but the model's vocabulary has 128 rows; the tokenizer belongs to another model",
		"data=sample:half":                   `no split "half"; want train or val`,
		"model=" + learned + " seq_len=17":   "seq_len is 17, but the model has only 16 positions",
	} {
		recipe, o := smallRun(t)
		for _, set := range strings.Fields(sets) {
			if err := recipe.Set(set); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Run(t.Context(), recipe, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", sets, err, want)
		}
		if _, err := os.Stat(o.Dir); err == nil {
			t.Errorf("%s: the run folder was made", sets)
		}
	}
}

func put(t *testing.T, dir, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// tinyFolder writes one of golden.Tiny as its family stores it.
func tinyFolder(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	arch, all := golden.TinyModel(t, golden.Tiny[name])
	if err := weights.Write(dir, arch, checkpoints.F32, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "config.json", golden.Tiny[name])
	return dir
}

func TestRunFolder(t *testing.T) {
	recipe, o := smallRun(t, "steps=1", "valid=")
	mustRun(t, recipe, o)
	other := recipe
	other.Optimizer.LR = 5e-4
	if _, err := Run(t.Context(), other, o); !errors.Is(err, ErrSettings) || !errors.As(err, &checkpoints.FolderError{}) {
		t.Errorf("another recipe in the same folder: %v, want ErrSettings of a folder", err)
	}
	release, err := lock(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	o.Force = true
	for what, f := range map[string]func() error{
		"run":    func() error { _, err := Run(t.Context(), other, o); return err },
		"resume": func() error { _, err := Resume(t.Context(), o, nil); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "another process is training") {
			t.Errorf("%s of a run under way: %v", what, err)
		}
	}
	if s, err := ReadStatus(o.Dir); err != nil || s.State != Running || s.ETA == nil {
		t.Errorf("under way: %+v, %v", s, err)
	}
	release()
	if s := mustRun(t, other, o); s.State != Finished || !strings.Contains(read(t, o.Dir, recipeFile), "lr: 0.0005") {
		t.Errorf("forced: %+v", s)
	}
	inside := other
	inside.Data = filepath.Join(o.Dir, "data.safetensors")
	if err := os.WriteFile(inside.Data, []byte(read(t, other.Data)), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), inside, o); err == nil || !strings.Contains(err.Error(), "data of the new run is "+inside.Data) {
		t.Errorf("data in the folder that is replaced: %v", err)
	}
	o.Force, o.Dir = false, t.TempDir()
	put(t, o.Dir, "thesis.txt", "mine")
	for _, o.Force = range []bool{false, true} {
		if _, err := Run(t.Context(), other, o); err == nil || read(t, o.Dir, "thesis.txt") != "mine" {
			t.Errorf("a folder that is not a run, force %v: %v", o.Force, err)
		}
	}
	o.Dir = ""
	other.Name = "../x"
	if _, err := Run(t.Context(), other, o); err == nil || !strings.Contains(err.Error(), "plain folder name") {
		t.Errorf("a name that leads elsewhere: %v", err)
	}
}

// A lock that is not a regular file is refused, because opening a pipe would block forever.
func TestLockIsFile(t *testing.T) {
	recipe, o := smallRun(t, "steps=1", "valid=")
	mustRun(t, recipe, o)
	path := filepath.Join(o.Dir, lockFile)
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(t.Context(), o, []string{"steps=2"}); err == nil || !strings.Contains(err.Error(), ".lock: is not a regular file") {
		t.Errorf("resume: %v", err)
	}
	if _, err := ReadStatus(o.Dir); err == nil || !strings.Contains(err.Error(), ".lock: is not a regular file") {
		t.Errorf("status: %v", err)
	}
}

func TestResumeChecks(t *testing.T) {
	recipe, o := smallRun(t, "steps=2")
	mustRun(t, recipe, o)
	for set, want := range map[string]string{
		"batch=3":               "batch cannot change within a run, from 2 to 3",
		"seed=1":                "seed cannot change",
		"seq_len=9":             "seq_len cannot change",
		"log_every=0":           "log_every is 0",
		"optimizer.name=muon":   "optimizer.name cannot change within a run, from adamw to muon",
		"optimizer.average=0.9": "optimizer.average cannot change within a run, from 0 to 0.9",
		"nothing=1":             `unknown key "nothing"`,
		"steps=1":               "checkpoint of step 2",
		"data=" + writeIDs(t, golden.Windows(9, 14, 12, 128)): "has changed since the run began; put back what was there",
	} {
		if _, err := Resume(t.Context(), o, []string{"steps=4", set}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", set, err, want)
		}
	}
	if s, err := ReadStatus(o.Dir); err != nil || s.State != Finished || s.Steps != 2 {
		t.Errorf("refused changes left %+v, %v", s, err)
	}
	for _, f := range []func() error{
		func() error { _, err := Resume(t.Context(), Options{Dir: t.TempDir()}, nil); return err },
		func() error { _, err := ReadStatus(t.TempDir()); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "is not a run: it has no recipe.yaml") {
			t.Errorf("a folder without a run: %v", err)
		}
	}
}

// If the disk cannot take a checkpoint, the error says which step was saved last, and no partial checkpoint remains.
func TestSaveFails(t *testing.T) {
	recipe, o := smallRun(t, "save_every=4")
	o.Observe = func(p Progress) {
		if p.Step == 4 {
			put(t, o.Dir, checkpointsDir, "in the way")
		}
	}
	_, err := Run(t.Context(), recipe, o)
	if err == nil || !strings.Contains(err.Error(), "checkpoint of step 4") || stopOf(t, err).Saved != 0 {
		t.Fatalf("error %v", err)
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "events.") {
			names = append(names, e.Name())
		}
	}
	if want := []string{".lock", checkpointsDir, identityFile, metricsFile, recipeFile}; !slices.Equal(names, want) {
		t.Errorf("the run holds %v, want %v", names, want)
	}
}

func TestCancelledBeforeItBegins(t *testing.T) {
	recipe, o := smallRun(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	recipe.Model, recipe.Data = sampleModel(t), "sample:val"
	if _, err := Run(ctx, recipe, o); err == nil {
		t.Error("want an error")
	}
	if _, err := os.Stat(o.Dir); err == nil {
		t.Error("the run folder was made")
	}
}

func sampleModel(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestText trains the sample model on text; its loss on the sample corpus is known from transformers: 1.73 over the first
// 100 windows of 512 tokens, a little more over short ones.
func TestText(t *testing.T) {
	recipe, o := smallRun(t, "model="+sampleModel(t), "data=sample:val", "valid=sample:val", "valid_windows=4", "seq_len=128",
		"steps=1", "optimizer.lr=1e-9", "export_dtype=keep")
	s := mustRun(t, recipe, o)
	if s.ValidLoss == nil || *s.ValidLoss < 1 || *s.ValidLoss > 3 {
		t.Errorf("status %+v, want a validation loss near 2", s)
	}
	if read(t, s.Model, "config.json") != read(t, recipe.Model, "config.json") {
		t.Error("config.json is not as it was")
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "generation_config.json"} {
		if read(t, s.Model, name) != read(t, recipe.Model, name) {
			t.Errorf("%s is not as it was", name)
		}
	}
}

func TestNewest(t *testing.T) {
	runs := t.TempDir()
	if _, err := Newest(runs); err == nil {
		t.Error("no run: want an error")
	}
	now := time.Now()
	for name, age := range map[string]time.Duration{"a": 3 * time.Hour, "b": time.Hour, "c": 2 * time.Hour, "not": 0} {
		dir := filepath.Join(runs, name)
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if name == "not" {
			continue
		}
		for _, file := range []string{recipeFile, metricsFile} {
			path := put(t, dir, file, "")
			at := now.Add(-age)
			if file == recipeFile {
				at = now.Add(-24 * time.Hour)
			}
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if dir, err := Newest(runs); err != nil || filepath.Base(dir) != "b" {
		t.Errorf("newest is %q, %v; want b", dir, err)
	}
}
