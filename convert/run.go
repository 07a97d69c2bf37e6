package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/file"
	"gqa/internal/weights"
)

// Check is the error that Run would return for what can be known before: the folder target cannot be written, a file cannot be
// read, the calibration text is too short. It leaves nothing behind.
func (p *Plan) Check(target string, force bool) error {
	if err := p.refuseOverlap(target); err != nil {
		return err
	}
	for _, name := range p.Files {
		f, err := file.Open(filepath.Join(p.Source.Dir, name))
		if err != nil {
			return err
		}
		f.Close()
	}
	if p.Calibration != nil && len(p.modules()) > 0 {
		if err := p.Calibration.Check(p.Source.Arch); err != nil {
			return err
		}
	}
	if err := p.checkSpace(target); err != nil {
		return err
	}
	return checkpoints.CheckOutput(target, force, p.recognize)
}

// Run streams the plan into the folder target, which appears whole or not at all. With force it may replace another conversion.
// progress is told of the bytes of tensor data as they are written.
func (p *Plan) Run(ctx context.Context, target string, force bool, progress func(bytes int64)) (*Summary, error) {
	if err := p.refuseOverlap(target); err != nil {
		return nil, err
	}
	if err := p.checkSpace(target); err != nil {
		return nil, err
	}
	out, err := checkpoints.NewOutput(target, force, p.recognize)
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	err = p.merge(ctx, target)
	defer p.merged.Close()
	if err != nil {
		return nil, err
	}
	if err := p.fill(ctx, out.Dir(), progress); err != nil {
		return nil, nameTarget(err, out.Dir(), target)
	}
	p.flaws.tell()
	summary, err := p.Summary()
	if err != nil {
		return nil, err
	}
	if err := summary.write(out.Dir()); err != nil {
		return nil, nameTarget(err, out.Dir(), target)
	}
	summary.Output = target
	return summary, out.Commit()
}

// fill writes weights, config.json and what lies beside them.
func (p *Plan) fill(ctx context.Context, dir string, progress func(bytes int64)) error {
	if p.gguf != nil {
		return p.writeGGUF(ctx, dir, progress)
	}
	if err := p.writeModel(ctx, dir, progress); err != nil {
		return err
	}
	for _, name := range p.Files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(dir, name), filepath.Join(p.Source.Dir, name)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// writeModel writes weights and config.json.
func (p *Plan) writeModel(ctx context.Context, dir string, progress func(bytes int64)) error {
	if p.via != nil {
		p.via.stage.merged = p.merged
		return p.via.write(ctx, dir, p.Specs, p.writeOptions(), progress)
	}
	if err := p.writeWeights(ctx, dir, progress); err != nil {
		return err
	}
	return p.writeConfig(dir)
}

// nameTarget says where a file could not be written: not in the temporary folder dir, which is gone, but on the way to target.
func nameTarget(err error, dir, target string) error {
	var failed *fs.PathError
	if !errors.As(err, &failed) {
		return err
	}
	name, relErr := filepath.Rel(dir, failed.Path)
	if relErr != nil || !filepath.IsLocal(name) {
		return err
	}
	return fmt.Errorf("%s: cannot write %s: %w; nothing of it is left", target, name, failed.Err)
}

// refuseOverlap keeps a forced output from replacing what it is made from.
func (p *Plan) refuseOverlap(target string) error {
	if checkpoints.Within(p.Source.Dir, target) {
		return fmt.Errorf("the output %s is the input's folder, or holds it; choose another with -o", target)
	}
	return nil
}

// workers is how many tensors are computed and written at a time: each holds a few megabytes, and a disk feeds few.
func workers() int { return min(runtime.GOMAXPROCS(0), 8) }

func (p *Plan) writeOptions() checkpoints.WriteOptions {
	o := checkpoints.WriteOptions{ShardSize: p.ShardSize, Metadata: p.Source.Metadata, Workers: workers()}
	if len(o.Metadata) == 0 {
		o.Metadata = nil
	}
	return o
}

func (p *Plan) writeWeights(ctx context.Context, dir string, progress func(bytes int64)) error {
	return checkpoints.Write(dir, p.Specs, p.writeOptions(), reporting(ctx, progress, p.writeTensor))
}

// reporting is write with a context, which ends it, and with progress, which hears of what is written.
func reporting(
	ctx context.Context, progress func(bytes int64), write func(context.Context, checkpoints.Spec, io.Writer) error,
) func(checkpoints.Spec, io.Writer) error {
	var one sync.Mutex
	return func(s checkpoints.Spec, w io.Writer) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := write(ctx, s, w); err != nil {
			return err
		}
		one.Lock()
		defer one.Unlock()
		progress(s.Bytes())
		return nil
	}
}

// writeTensor writes one tensor of the result: copied where it is a part of the source as it is, else through floats.
func (p *Plan) writeTensor(ctx context.Context, s checkpoints.Spec, w io.Writer) error {
	source, stored := p.Source.Tensor(s.Name) // else it is made of others, which are checked as they are read
	held := pooledBuffers.Get().(*buffers)
	defer pooledBuffers.Put(held)
	out := &stream{ctx: ctx, src: source, dtype: s.DType, w: w, buffers: held}
	t, ok := p.pooled[s.Name]
	if stored {
		if err := p.vet(ctx, source, ok); err != nil {
			return err
		}
	}
	switch {
	case !ok:
		return out.write([]span{{n: source.Elements(), from: []int{0}}})
	case p.Method == Random || p.changed[t.to[0].Name] || t.to[0].Parts != nil:
		p.whole.Lock()
		defer p.whole.Unlock()
		values, err := p.pool(ctx, source, t)
		if err != nil {
			return err
		}
		return weights.WriteFloats(w, values, s.DType)
	case t.to[0].Transposed && len(s.Shape) == 2:
		return out.columns(p.spans(t, 1), source.Shape, s.Shape[1])
	}
	return out.write(p.spans(t, source.Elements()/source.Shape[0]))
}

// pool computes one tensor of the result, as it is stored, in memory.
func (p *Plan) pool(ctx context.Context, source *checkpoints.Tensor, t pooledTensor) ([]float32, error) {
	if t.to[0].Parts != nil {
		return p.row(ctx, t)
	}
	if p.changed[t.to[0].Name] {
		return p.mergedTensor(t)
	}
	var err error
	if p.stored, err = source.Float32(p.stored); err != nil {
		return nil, err
	}
	result := make([]float32, t.size)
	for i, w := range t.to {
		values := p.stored
		if from := t.from[i]; from.Rows != nil || from.Transposed {
			values = from.Take(p.stored)
		}
		if t.groups[i] > 0 {
			values = p.poolHeads(values, w, t.from[i].KVHeads, t.groups[i])
		}
		w.Put(result, values)
	}
	return result, nil
}

// row computes a tensor that is one row of a weight.
func (p *Plan) row(ctx context.Context, t pooledTensor) (all []float32, err error) {
	w := t.to[0]
	if p.changed[w.Name] {
		all, _, err = p.merged.Get(w.Name)
	} else if all, err = p.Source.Read(ctx, t.from[0]); err == nil {
		all = p.poolHeads(all, w, t.from[0].KVHeads, t.groups[0])
	}
	if err == nil && len(all) != w.Size() {
		err = fmt.Errorf("tensor %s: there are %d values of %s, want %v", w.Parts[t.part], len(all), w.Name, w.Shape)
	}
	if err != nil {
		return nil, err
	}
	n := len(all) / len(w.Parts)
	return all[t.part*n:][:n], nil
}

// poolHeads makes groups of heads, and of these as many as the weight w of the result has.
func (p *Plan) poolHeads(values []float32, w configs.Param, heads, groups int) []float32 {
	method := p.Method
	if w.Role == configs.KNorm && method == Random {
		method = Mean // a new head is as large as those before it
	}
	pooled := pool(method, values, heads, groups, w.Bias, w.Name, p.Seed)
	return repeat(pooled, groups, w.KVHeads)
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
