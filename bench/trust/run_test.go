package trust

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// uptraining is a run of the tiny golden model, and the folder of the same run without disturbance.
type uptraining struct {
	args []string // of gqa-train, but for the output
	dir  string
	last string // its last checkpoint
}

// uptrain makes a run of the given number of steps, with a checkpoint after every few of them.
func uptrain(t *testing.T, steps, saveEvery int) uptraining {
	t.Helper()
	tiny, err := filepath.Abs("../../train/testdata/llama-g2")
	if err != nil {
		t.Fatal(err)
	}
	ids := filepath.Join(tiny, "golden.safetensors")
	u := uptraining{dir: filepath.Join(t.TempDir(), "whole"), last: fmt.Sprint("step-", steps), args: []string{
		"run", "--model", tiny, "--data", ids, "--valid", ids, "--steps", fmt.Sprint(steps), "--seq-len", "12", "--batch", "2",
		"--warmup", "2", "--save-every", fmt.Sprint(saveEvery), "--keep", "3", "--valid-every", "4", "--average", "0.5",
	}}
	if r := run(t, ".", "gqa-train", append(u.args, "-o", u.dir)...); r.status != 0 {
		t.Fatal(r.errOut)
	}
	return u
}

// crashed returns a copy of the run in the state after a crash before its last checkpoint.
func (u uptraining) crashed(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	if err := os.CopyFS(dir, os.DirFS(u.dir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model", filepath.Join("checkpoints", u.last)} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// same compares a run with the undisturbed one, bit by bit: metrics, last checkpoint and result.
func (u uptraining) same(t *testing.T, what, dir string) {
	t.Helper()
	if got, want := figures(t, dir), figures(t, u.dir); got != want {
		t.Errorf("%s: metrics.jsonl differs:\n%s\n%s", what, got, want)
	}
	checkpoint := filepath.Join("checkpoints", u.last)
	for _, name := range []string{
		filepath.Join(checkpoint, "model.safetensors"), filepath.Join(checkpoint, "optimizer.safetensors"), filepath.Join("model", "model.safetensors"),
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if want := content(t, filepath.Join(u.dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %s differs (%v)", what, name, err)
		}
	}
}

// figures returns the content of metrics.jsonl without values that depend on time.
func figures(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(string(content(t, filepath.Join(dir, "metrics.jsonl")))) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("%s: %q: %v", dir, line, err)
		}
		delete(m, "tokens_per_s")
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(text, '\n'))
	}
	return all.String()
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// tree returns every file below dir with its content, and every folder and link.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.Type().IsRegular():
			all[name] = string(content(t, path))
		case d.Type()&fs.ModeSymlink != 0:
			all[name], err = os.Readlink(path)
		default:
			all[name] = d.Type().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
