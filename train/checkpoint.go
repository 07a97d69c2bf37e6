package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
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
	dir := filepath.Join(run, checkpointsDir)
	if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("%s: is neither a folder nor a link to one; put the run's checkpoints back, or remove it to start again", dir)
		}
	}
	entries, err := os.ReadDir(dir)
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

// newestWhole is the newest step whose checkpoint seems whole; 0 where there is none.
func newestWhole(run string) (int, error) {
	steps, err := savedSteps(run)
	for _, step := range slices.Backward(steps) {
		if seemsWhole(run, step) {
			return step, nil
		}
	}
	return 0, err
}

// seemsWhole tells whether the checkpoint of a step says that it is of that step, and its files have their sizes.
func seemsWhole(run string, step int) bool {
	s, err := readState(run, step)
	return err == nil && checkpoints.VerifySizes(checkpointDir(run, step), s.Files) == nil
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
	dir := checkpointDir(r.dir, r.state.Step)
	aside, err := putAside(dir)
	if err != nil {
		return err
	}
	if aside != "" {
		slog.Warn(fmt.Sprintf("%s: not written by this run; renamed to %s", dir, aside))
	}
	out, err := checkpoints.NewOutput(dir, false)
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
	if err := r.trainer.Err(); err != nil { // then what was written is not the weights
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

// prune removes the whole checkpoints up to that of a step, but for the newest keep of them; 0 keeps all. Folders that hold no
// such checkpoint do not count, and stay.
func prune(run string, step, keep int) error {
	steps, err := savedSteps(run)
	if err != nil || keep == 0 {
		return err
	}
	steps = slices.DeleteFunc(steps, func(saved int) bool { return saved > step || !seemsWhole(run, saved) })
	for _, old := range steps[:max(0, len(steps)-keep)] {
		if err := removeWhole(checkpointDir(run, old)); err != nil {
			return err
		}
	}
	return nil
}

// putAside renames a damaged file or folder to damaged-NAME, a name that is free, and returns that; "" where there is nothing.
func putAside(path string) (aside string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	for n := 0; ; n++ {
		aside = "damaged-" + filepath.Base(path)
		if n > 0 {
			aside += "-" + strconv.Itoa(n)
		}
		to := filepath.Join(filepath.Dir(path), aside)
		switch _, err := os.Lstat(to); {
		case errors.Is(err, fs.ErrNotExist):
			return aside, os.Rename(path, to)
		case err != nil:
			return "", err
		}
	}
}

// removeWhole removes a checkpoint such that half of it is never seen under its name. A folder with files of a user stays, with
// these.
func removeWhole(dir string) error {
	hidden := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".old")
	if err := checkpoints.RemoveOwned(hidden, recognizeCheckpoint); err != nil {
		return err
	}
	if err := os.Rename(dir, hidden); err != nil { // something of a user's is in the way
		return checkpoints.RemoveOwned(dir, recognizeCheckpoint)
	}
	return removeHidden(hidden, dir)
}

// removeHidden removes what a run wrote into a hidden folder. If that leaves something it goes back to dir.
func removeHidden(hidden, dir string) error {
	if err := checkpoints.RemoveOwned(hidden, recognizeCheckpoint); err != nil {
		return err
	}
	if _, err := os.Lstat(hidden); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // both stay
	}
	return os.Rename(hidden, dir)
}

// hiddenModel matches the folders that a killed process left of a model, in the names of this version and of earlier ones.
var hiddenModel = regexp.MustCompile(`^\.(model|step-\d+)\.(old|tmp-[0-9a-f]{8}|(?:old|tmp)-[0-9a-f.]+-[0-9a-f]{8})$`)

// sweep removes what a killed process left: files and folders half written or half removed. It puts back what was put aside.
func sweep(run string) (err error) {
	for _, name := range []string{recipeFile, identityFile, metricsFile, resultFile} {
		err = errors.Join(err, checkpoints.RemoveLeftovers(filepath.Join(run, name)))
	}
	return errors.Join(err, sweepModels(run, recognizeResult), sweepModels(filepath.Join(run, checkpointsDir), recognizeCheckpoint))
}

// sweepModels is sweep for the folders of models in dir.
func sweepModels(dir string, own checkpoints.Recognizer) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		m := hiddenModel.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		target := filepath.Join(dir, m[1])
		err = errors.Join(err, checkpoints.RemoveLeftovers(target, own))
		switch path := filepath.Join(dir, e.Name()); {
		case m[2] == "old":
			err = errors.Join(err, removeHidden(path, target))
		case !strings.Contains(m[2], "."):
			err = errors.Join(err, checkpoints.RemoveOwned(path, recognizeModel))
		}
	}
	return err
}
