package train

import (
	"encoding/json"
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
	"gqa/internal/engine/spago"
	"gqa/internal/weights"
)

const (
	checkpointsDir = "checkpoints"
	stateFile      = "state.json"
	momentsFile    = "optimizer.safetensors"
)

// state is what a checkpoint says beside its tensors.
type state struct {
	Step        int         `json:"step"`         // done
	Tokens      int64       `json:"tokens"`       // read
	Data        fingerprint `json:"data"`         // of the token stream
	SourceDType string      `json:"source_dtype"` // of the model that the run began with
}

func checkpointDir(run string, step int) string {
	return filepath.Join(run, checkpointsDir, "step-"+strconv.Itoa(step))
}

// savedSteps lists the steps that a run has checkpoints of, in order.
func savedSteps(run string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(run, checkpointsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var steps []int
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "step-")
		if step, err := strconv.Atoi(number); ok && err == nil {
			steps = append(steps, step)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// saveCheckpoint writes a checkpoint of the trainer as it is: whole, or on an error not at all.
func saveCheckpoint(run string, s state, o *origin, t *trainer) (err error) {
	out, err := checkpoints.NewOutput(checkpointDir(run, s.Step), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Abort()) }()
	if err := o.write(out.Dir(), checkpoints.F32, t.optimizer.result()); err != nil {
		return err
	}
	if err := t.optimizer.write(out.Dir()); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out.Dir(), stateFile), append(text, '\n'), 0o666); err != nil {
		return err
	}
	return out.Commit()
}

// loadState reads what a checkpoint says, and what the optimizer keeps into it.
func loadState(dir string, o *optimizer) (state, error) {
	var s state
	path := filepath.Join(dir, stateFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, o.read(filepath.Join(dir, momentsFile))
}

// result is the run's model if it ended here: the weights by name, or their averages, shared with the optimizer.
func (o *optimizer) result() map[string][]float32 {
	all := make(map[string][]float32, len(o.slots))
	for _, s := range o.slots {
		all[s.name] = spago.Data(s.param)
		if s.mean != nil {
			all[s.name] = s.mean
		}
	}
	return all
}

// moments are what the next step needs beside the result, by the names that it has in a file: averages of gradients and,
// where the result is an average, the weights themselves.
func (o *optimizer) moments() (specs []checkpoints.Spec, values map[string][]float32) {
	values = make(map[string][]float32, 2*len(o.slots))
	for _, s := range o.slots {
		all := map[string][]float32{"m." + s.name: s.m, "v." + s.name: s.v}
		if s.mean != nil {
			all["w."+s.name] = spago.Data(s.param)
		}
		for name, data := range all {
			if data != nil {
				specs = append(specs, checkpoints.Spec{Name: name, DType: checkpoints.F32, Shape: s.shape})
				values[name] = data
			}
		}
	}
	return specs, values
}

func (o *optimizer) write(dir string) error {
	specs, values := o.moments()
	sub := filepath.Join(dir, "optimizer") // a folder of its own, as the writer chooses the file's name
	err := checkpoints.Write(sub, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, w io.Writer) error {
		return weights.WriteFloats(w, values[s.Name], s.DType)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(sub, "model.safetensors"), filepath.Join(dir, momentsFile)); err != nil {
		return err
	}
	return os.Remove(sub)
}

func (o *optimizer) read(path string) error {
	ckpt, err := checkpoints.Open(path)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	specs, values := o.moments()
	for _, s := range specs {
		t, ok := ckpt.Tensor(s.Name)
		if !ok || !slices.Equal(t.Shape, s.Shape) {
			return fmt.Errorf("%s: want %s as F32 %v; the checkpoint is another model's", path, s.Name, s.Shape)
		}
		if _, err := t.Float32(values[s.Name]); err != nil {
			return err
		}
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
	for _, pattern := range []string{checkpointsDir + "/.step-*", "." + modelDir + ".*"} {
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
