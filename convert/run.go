package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/offload"
	"gqa/internal/file"
)

// RunOptions control how a plan is run.
type RunOptions struct {
	Force   bool              // replace an existing conversion in the folder
	OnMerge func(steps int64) // called with a number of merge steps, Plan.MergeWork in all at most, before anything is written; may be nil
	OnWrite func(bytes int64) // called with the number of bytes of tensor data as they are written, Plan.Work in all; may be nil
	OnHash  func(bytes int64) // called with the number of bytes of files as they are read again for their hashes, a little more than Plan.Bytes in all; calls may overlap; may be nil
}

// Check returns the error that Run would return as far as it can be known in advance: the folder dir cannot be written, a
// file cannot be read, the calibration text is too short. It leaves no files behind.
func (p *Plan) Check(dir string, force bool) error {
	if err := p.checkOutput(dir); err != nil {
		return err
	}
	for _, name := range p.Files {
		f, err := file.Open(filepath.Join(p.Source.Dir, name))
		if err != nil {
			return err
		}
		f.Close()
	}
	if p.Calibration != nil && len(p.modules) > 0 {
		if err := p.Calibration.Check(p.Source.Arch); err != nil {
			return err
		}
	}
	return checkpoints.CheckOutput(dir, force, p.recognize)
}

// checkOutput returns an error if a forced output must not replace the folder, or if there is not enough space on the
// disk.
func (p *Plan) checkOutput(dir string) error {
	if checkpoints.Within(p.Source.Dir, dir) {
		return OverlapError{dir}
	}
	return p.checkSpace(dir)
}

// Run writes the result into the folder dir, which appears complete or not at all, and returns a summary. The error is an
// OverlapError if dir is or contains the source's folder.
func (p *Plan) Run(ctx context.Context, dir string, o RunOptions) (*Summary, error) {
	if err := p.checkOutput(dir); err != nil {
		return nil, err
	}
	out, err := checkpoints.NewOutput(dir, o.Force, p.recognize)
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	r := newRun(p, dir, o)
	defer r.store.Close()
	err = r.merge(ctx)
	calibrate.CloseDevice(r.device)
	if err != nil {
		return nil, err
	}
	if err := r.fill(ctx, out.Dir()); err != nil {
		return nil, nameOutput(err, out.Dir(), dir)
	}
	summary, err := r.summary()
	if err != nil {
		return nil, err
	}
	if err := summary.write(ctx, out.Dir(), o.OnHash); err != nil {
		return nil, nameOutput(err, out.Dir(), dir)
	}
	summary.Output = dir
	return summary, out.Commit()
}

// heldBytes is the maximum size of merged weights in memory; the rest goes to a temporary file.
const heldBytes = 1 << 30

// run is a plan in execution. It owns everything that is computed.
type run struct {
	*Plan
	o      RunOptions
	dir    string         // for temporary files: the folder in which the output will be
	store  *offload.Store // the weights that a merge computed, by the names of Arch.Params
	layers []Layer
	joint  *LayerFit        // of all layers together; nil if there was none
	device calibrate.Device // nil until the model is run
	// orders are the chosen groups of sites whose layers must have one order of heads.
	orders map[configs.Site][][]int
}

func newRun(p *Plan, output string, o RunOptions) *run {
	dir := filepath.Dir(filepath.Clean(output))
	return &run{Plan: p, o: o, dir: dir, store: offload.New(dir, heldBytes)}
}

// summary returns the plan's Summary completed with what was computed.
func (r *run) summary() (*Summary, error) {
	s, err := r.Summary()
	if err != nil {
		return nil, err
	}
	s.Layers, s.Together = r.layers, r.joint
	return s, nil
}

// fill writes weights, config.json and the files beside them.
func (r *run) fill(ctx context.Context, dir string) error {
	values := &reader{Plan: r.Plan, store: r.store}
	progress := r.o.OnWrite
	if progress == nil {
		progress = func(int64) {}
	}
	if err := r.target.Write(ctx, dir, values, progress); err != nil {
		return err
	}
	for _, name := range r.Files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(dir, name), filepath.Join(r.Source.Dir, name)); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	values.warn()
	return nil
}

// nameOutput rewrites an error about a file in the temporary folder dir, which no longer exists, to name output instead.
func nameOutput(err error, dir, output string) error {
	var failed *fs.PathError
	if !errors.As(err, &failed) {
		return err
	}
	name, relErr := filepath.Rel(dir, failed.Path)
	if relErr != nil || !filepath.IsLocal(name) {
		return err
	}
	return fmt.Errorf("%s: cannot write %s: %w; nothing of it is left", output, name, failed.Err)
}

// copyFile copies a small file beside the weights.
func copyFile(dst, src string) (err error) {
	in, err := file.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	_, err = io.Copy(out, in)
	return err
}
