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
	"gqa/convert/offload"
	"gqa/internal/file"
)

// RunOptions say how a plan is run.
type RunOptions struct {
	Force   bool              // replace another conversion in the folder
	OnMerge func(steps int64) // is told of the steps of a merge, Plan.MergeWork at most, before anything is written; may be nil
	OnWrite func(bytes int64) // is told of tensor data as it is written, Plan.Work in all; may be nil
}

// Check returns the error that Run would return for what can be known before: the folder dir cannot be written, a file cannot be
// read, the calibration text is too short. It leaves nothing behind.
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

// checkOutput refuses a folder that a forced output must not replace, or for which there is no room on the disk.
func (p *Plan) checkOutput(dir string) error {
	if checkpoints.Within(p.Source.Dir, dir) {
		return OverlapError{dir}
	}
	return p.checkSpace(dir)
}

// Run writes the result into the folder dir, which appears whole or not at all, and returns what was done. The error is an
// OverlapError if dir is the source's folder or holds it.
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
	if err := r.merge(ctx); err != nil {
		return nil, err
	}
	if err := r.fill(ctx, out.Dir()); err != nil {
		return nil, nameOutput(err, out.Dir(), dir)
	}
	summary, err := r.summary()
	if err != nil {
		return nil, err
	}
	if err := summary.write(out.Dir()); err != nil {
		return nil, nameOutput(err, out.Dir(), dir)
	}
	summary.Output = dir
	return summary, out.Commit()
}

// heldBytes is how much of the merged weights is kept in memory; more goes to a temporary file.
const heldBytes = 1 << 30

// run is a plan that is being carried out. It owns whatever is computed.
type run struct {
	*Plan
	o      RunOptions
	dir    string         // of temporary files: where the output will be
	store  *offload.Store // the weights that a merge computed, by the names of Arch.Params
	layers []Layer
	joint  *LayerFit // of all layers together; nil: there was none
	// orders are the groups of sites whose layers must have one order of heads, where groups are chosen.
	orders map[configs.Site][][]int
}

func newRun(p *Plan, output string, o RunOptions) *run {
	dir := filepath.Dir(filepath.Clean(output))
	return &run{Plan: p, o: o, dir: dir, store: offload.New(dir, heldBytes)}
}

// summary is the plan's Summary with what was computed.
func (r *run) summary() (*Summary, error) {
	s, err := r.Summary()
	if err != nil {
		return nil, err
	}
	s.Layers, s.Together = r.layers, r.joint
	return s, nil
}

// fill writes weights, config.json and what lies beside them.
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

// nameOutput says where a file could not be written: not in the temporary folder dir, which is gone, but on the way to output.
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
