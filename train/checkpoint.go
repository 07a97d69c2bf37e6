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

// state is what a checkpoint records besides its tensors. It is a sealed file; earlier versions wrote only the first four
// keys.
type state struct {
	Step        int          `json:"step"`           // completed
	Tokens      int64        `json:"tokens"`         // read
	Data        *fingerprint `json:"data,omitempty"` // of the token stream; now part of Identity
	SourceDType string       `json:"source_dtype"`   // of the model that the run started with
	// Others are the dtypes of the tensors of that model with another dtype, by name.
	Others  map[string]string `json:"source_dtypes,omitempty"`
	Economy *economy          `json:"economy,omitempty"` // nil: as the recipe says

	Identity *identity                     `json:"identity,omitempty"`
	Files    map[string]checkpoints.Digest `json:"files,omitempty"` // all files of the checkpoint except this one
}

func checkpointDir(run string, step int) string {
	return filepath.Join(run, checkpointsDir, "step-"+strconv.Itoa(step))
}

// savedSteps returns in increasing order the steps for which the run has checkpoint folders, whatever these contain.
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

// newestWhole returns the newest step whose checkpoint seems complete, or 0 if there is none.
func newestWhole(run string) (int, error) {
	steps, err := savedSteps(run)
	for _, step := range slices.Backward(steps) {
		if seemsWhole(run, step) {
			return step, nil
		}
	}
	return 0, err
}

// seemsWhole reports whether the checkpoint of a step is recorded as that step's and its files have the recorded sizes.
func seemsWhole(run string, step int) bool {
	s, err := readState(run, step)
	return err == nil && checkpoints.VerifySizes(checkpointDir(run, step), s.Files) == nil
}

// readState reads the state file of a step's checkpoint. One without checksums, from an earlier version, is not an error;
// its Files is then empty.
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

// verify reads a whole checkpoint and compares it with its recorded checksums. A checkpoint of an earlier version cannot
// be verified.
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

// saveCheckpoint writes a checkpoint of the run's current state. On error no partial checkpoint remains. Once started it
// is not canceled.
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
	if err := r.origin.write(out.Dir(), checkpoints.F32, nil, r.trainer.Result); err != nil {
		return err
	}
	if err := r.trainer.writeState(out.Dir()); err != nil {
		return err
	}
	if err := r.trainer.Err(); err != nil { // what was written is not the weights
		return err
	}
	if err := os.WriteFile(filepath.Join(out.Dir(), metricsFile), r.journal.written, 0o666); err != nil {
		return err
	}
	s := r.state
	s.Identity, s.Economy = &r.identity, r.trainer.chosenEconomy()
	if s.Files, err = checkpoints.Digests(context.Background(), out.Dir(), nil); err != nil {
		return err
	}
	if err := writeSealed(filepath.Join(out.Dir(), stateFile), s); err != nil {
		return err
	}
	return out.Commit()
}

// writeState writes what the next step needs besides the result.
func (t *trainer) writeState(dir string) error {
	byName := map[string]engine.State{}
	var specs []checkpoints.Spec
	for _, s := range t.State() {
		byName[s.Name] = s
		specs = append(specs, checkpoints.Spec{Name: s.Name, DType: checkpoints.F32, Shape: s.Shape})
	}
	sub := filepath.Join(dir, "optimizer") // a separate folder, because the writer chooses the file's name
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

// readState restores what a checkpoint holds besides the result.
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

// prune removes the complete checkpoints up to the given step, except the newest keep of them, 0 keeps all, and that of the best step.
// Folders that hold no such checkpoint are not counted and not removed.
func prune(run string, step, keep, best int) error {
	steps, err := savedSteps(run)
	if err != nil || keep == 0 {
		return err
	}
	steps = slices.DeleteFunc(steps, func(saved int) bool { return saved > step || !seemsWhole(run, saved) })
	for _, old := range steps[:max(0, len(steps)-keep)] {
		if old == best {
			continue
		}
		if err := removeWhole(checkpointDir(run, old)); err != nil {
			return err
		}
	}
	return nil
}

// putAside renames a damaged file or folder to damaged-NAME, or a similar name that is free, and returns the new name. It
// returns "" if there is nothing to rename.
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

// removeWhole removes a checkpoint so that a partly removed one is never visible under its name. If the folder also holds
// a user's files, it stays with these.
func removeWhole(dir string) error {
	hidden := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".old")
	if err := checkpoints.RemoveOwned(hidden, recognizeCheckpoint); err != nil {
		return err
	}
	if err := os.Rename(dir, hidden); err != nil { // a user's file is in the way
		return checkpoints.RemoveOwned(dir, recognizeCheckpoint)
	}
	return removeHidden(hidden, dir)
}

// removeHidden removes the run's own files from a hidden folder. If other files remain, the folder gets its name dir
// back.
func removeHidden(hidden, dir string) error {
	if err := checkpoints.RemoveOwned(hidden, recognizeCheckpoint); err != nil {
		return err
	}
	if _, err := os.Lstat(hidden); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // keep both
	}
	return os.Rename(hidden, dir)
}

// hiddenModel matches the names, in this version and earlier ones, of model folders that a killed process left behind.
var hiddenModel = regexp.MustCompile(`^\.(model|step-\d+)\.(old|tmp-[0-9a-f]{8}|(?:old|tmp)-[0-9a-f.]+-[0-9a-f]{8})$`)

// sweep removes what a killed process left behind: partly written or partly removed files and folders. It restores what
// had been put aside.
func sweep(run string) (err error) {
	for _, name := range []string{recipeFile, identityFile, metricsFile, resultFile} {
		err = errors.Join(err, checkpoints.RemoveLeftovers(filepath.Join(run, name)))
	}
	return errors.Join(err, sweepModels(run, recognizeResult), sweepModels(filepath.Join(run, checkpointsDir), recognizeCheckpoint))
}

// sweepModels does the work of sweep for the model folders in dir.
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
