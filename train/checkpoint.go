package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gqa/checkpoints"
	"gqa/internal/engine"
	"gqa/internal/weights"
)

const (
	checkpointsDir = "checkpoints"
	stateFile      = "state.json"
	momentsFile    = "optimizer.safetensors"
)

// state is what a checkpoint says beside its tensors. It is a sealed file; earlier versions wrote the first four keys only.
type state struct {
	Step        int          `json:"step"`           // done
	Tokens      int64        `json:"tokens"`         // read
	Data        *fingerprint `json:"data,omitempty"` // of the token stream, now a part of Identity
	SourceDType string       `json:"source_dtype"`   // of the model that the run began with

	Identity *identity                     `json:"identity,omitempty"`
	Files    map[string]checkpoints.Digest `json:"files,omitempty"` // all of the checkpoint but this one
}

func checkpointDir(run string, step int) string {
	return filepath.Join(run, checkpointsDir, "step-"+strconv.Itoa(step))
}

// savedSteps lists the steps that a run has folders of checkpoints of, in order, whatever these hold.
func savedSteps(run string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(run, checkpointsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var steps []int
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "step-")
		if step, err := strconv.Atoi(number); ok && err == nil && strconv.Itoa(step) == number {
			steps = append(steps, step)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// newestWhole is the newest step whose checkpoint seems whole: it says what step it is of, and its files have their sizes. It is 0
// where there is none.
func newestWhole(run string) (int, error) {
	steps, err := savedSteps(run)
	for _, step := range slices.Backward(steps) {
		s, readErr := readState(run, step)
		if readErr == nil && checkpoints.VerifySizes(checkpointDir(run, step), s.Files) == nil {
			return step, nil
		}
	}
	return 0, err
}

// readState reads what the checkpoint of a step says. That an earlier version wrote it, without checksums, is not an error: then
// it has no Files.
func readState(run string, step int) (state, error) {
	var s state
	err := readSealed(filepath.Join(checkpointDir(run, step), stateFile), &s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, errors.New(stateFile + " is missing")
	case errors.Is(err, errUnsealed) && s.Files == nil && s.Data != nil:
		err = nil
	case err == nil && (s.Files == nil || s.Identity == nil):
		err = errors.New(stateFile + " does not say what the checkpoint holds")
	}
	if err == nil && s.Step != step {
		err = fmt.Errorf("it is the checkpoint of step %d", s.Step)
	}
	return s, err
}

// verify reads all of a checkpoint and compares it with what was written. One of an earlier version cannot be verified.
func (s state) verify(ctx context.Context, run string) error {
	if s.Files == nil {
		return nil
	}
	return checkpoints.Verify(ctx, checkpointDir(run, s.Step), s.Files)
}

// wrote checks that the run wrote the files that an origin was read from.
func (s state) wrote(o *origin) error {
	for _, name := range o.read {
		if _, ok := s.Files[name]; !ok && s.Files != nil {
			return fmt.Errorf("%s is not of this checkpoint", name)
		}
	}
	return nil
}

// saveCheckpoint writes a checkpoint of the run as it is: whole, or on an error not at all. Once begun it is not given up.
func (r *run) saveCheckpoint() (err error) {
	if err := r.journal.sync(); err != nil {
		return err
	}
	out, err := checkpoints.NewOutput(checkpointDir(r.dir, r.state.Step), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Abort()) }()
	if err := r.origin.write(out.Dir(), checkpoints.F32, r.trainer.Result); err != nil {
		return err
	}
	if err := r.trainer.writeState(out.Dir()); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out.Dir(), metricsFile), r.journal.written, 0o666); err != nil {
		return err
	}
	s := r.state
	s.Identity = &r.identity
	if s.Files, err = checkpoints.Digests(context.Background(), out.Dir()); err != nil {
		return err
	}
	if err := writeSealed(filepath.Join(out.Dir(), stateFile), s); err != nil {
		return err
	}
	return out.Commit()
}

// writeState stores what the next step needs beside the result.
func (t *trainer) writeState(dir string) error {
	byName := map[string]engine.State{}
	var specs []checkpoints.Spec
	for _, s := range t.State() {
		byName[s.Name] = s
		specs = append(specs, checkpoints.Spec{Name: s.Name, DType: checkpoints.F32, Shape: s.Shape})
	}
	sub := filepath.Join(dir, "optimizer") // a folder of its own, as the writer chooses the file's name
	err := checkpoints.Write(sub, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, w io.Writer) error {
		return weights.WriteFloats(w, byName[s.Name].Get(), s.DType)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(sub, "model.safetensors"), filepath.Join(dir, momentsFile)); err != nil {
		return err
	}
	return os.Remove(sub)
}

// readState takes over what a checkpoint holds beside the result.
func (t *trainer) readState(path string) error {
	ckpt, err := checkpoints.Open(path)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	for _, s := range t.State() {
		stored, ok := ckpt.Tensor(s.Name)
		if !ok || !slices.Equal(stored.Shape, s.Shape) {
			return fmt.Errorf("%s: want %s as F32 %v; the checkpoint is another model's", path, s.Name, s.Shape)
		}
		values, err := stored.Float32(nil)
		if err != nil {
			return err
		}
		s.Set(values)
	}
	return nil
}

// prune removes all but the newest keep checkpoints; 0 keeps all.
func prune(run string, keep int) error {
	steps, err := savedSteps(run)
	if err != nil || keep == 0 || len(steps) <= keep {
		return err
	}
	for _, step := range steps[:len(steps)-keep] {
		if err := removeWhole(checkpointDir(run, step)); err != nil {
			return err
		}
	}
	return nil
}

// putAside renames a damaged file or folder to damaged-NAME, a name that is free, and returns that. Where there is nothing it does
// nothing.
func putAside(path string) (aside string, err error) {
	for n := 0; ; n++ {
		aside = "damaged-" + filepath.Base(path)
		if n > 0 {
			aside += "-" + strconv.Itoa(n)
		}
		to := filepath.Join(filepath.Dir(path), aside)
		if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Rename(path, to); !errors.Is(err, fs.ErrNotExist) {
			return aside, err
		}
		return aside, nil
	}
}

// removeWhole removes a folder, if it is there, such that half of it is never seen under its name.
func removeWhole(dir string) error {
	hidden := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".old")
	if err := os.RemoveAll(hidden); err != nil {
		return err
	}
	if err := os.Rename(dir, hidden); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(hidden)
}

// sweep removes what a killed process left: folders half written or half removed.
func sweep(run string) (err error) {
	for _, pattern := range []string{checkpointsDir + "/.step-*", "." + modelDir + ".*", ".*.tmp-*"} {
		left, globErr := filepath.Glob(filepath.Join(escapeGlob(run), pattern))
		err = errors.Join(err, globErr)
		for _, dir := range left {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// escapeGlob makes a path stand for itself in a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}
