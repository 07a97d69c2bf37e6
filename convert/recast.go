package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// recast writes a checkpoint as another family's: the same function, in a class that can hold its KV heads.
type recast struct {
	src   *weights.Source
	to    *configs.Arch
	from  map[string]configs.Param   // the source's weights by name
	parts map[string][]configs.Param // the result's, by the tensor that holds them
	whole sync.Mutex                 // held while a tensor is in memory whole: one at a time
}

// viaNeighbour is a conversion by way of the family's own tensors, in f32, into those of a neighbour.
type viaNeighbour struct {
	stage  *Plan
	to     *configs.Arch
	config []byte
}

// planViaNeighbour looks for a neighbour where no class of the family's own holds the result.
func (p *Plan) planViaNeighbour() (err error) {
	if p.Target != Native || p.Arch.LayerKVHeads != nil || p.Arch.Family.Grouping(p.Groups).Class != "" || p.Arch.KVHeads == p.Arch.Heads {
		return nil
	}
	to, config, _ := neighbour(p.Arch, p.Source.Config)
	if to == nil {
		return nil
	}
	dtype := p.DType
	if dtype == 0 {
		if dtype, err = keyDType(p.Source); err != nil {
			return err
		}
	}
	o := p.Options
	o.Target, o.DType = Own, checkpoints.F32
	stage, err := NewPlan(p.Source, o)
	if err != nil {
		return err
	}
	stage.flaws.refused = true // the recast computes with what the stage copies
	tensors, err := to.Tensors()
	p.via, p.Arch, p.Specs = &viaNeighbour{stage, to, config}, to, nil
	for _, t := range tensors {
		p.Specs = append(p.Specs, checkpoints.Spec{Name: t.Name, DType: dtype, Shape: t.Shape})
	}
	return err
}

// write writes weights and config.json into dir. What it makes on the way is gone when it returns.
func (d *viaNeighbour) write(ctx context.Context, dir string, specs []checkpoints.Spec, o checkpoints.WriteOptions, progress func(bytes int64)) (err error) {
	half := filepath.Join(dir, "."+string(Own))
	defer func() { err = errors.Join(err, os.RemoveAll(half)) }()
	if err := os.Mkdir(half, 0o777); err != nil {
		return err
	}
	if err := d.stage.writeModel(ctx, half, progress); err != nil {
		return err
	}
	src, err := weights.Open(half, weights.Options{})
	if err != nil {
		return err
	}
	defer src.Close()
	r, err := newRecast(src, d.to)
	if err != nil {
		return err
	}
	if err := r.write(ctx, dir, specs, o, progress); err != nil {
		return err
	}
	config, err := weights.RewriteConfig(d.config, func(keys map[string]any) { weights.SetDType(keys, specs[0].DType) })
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666)
}

// neighbour is the first of the family's neighbours that holds the architecture a, which is that of source's config.json or
// one with fewer KV heads; nil, with the reasons, if none does.
func neighbour(a *configs.Arch, source []byte) (to *configs.Arch, config []byte, why []error) {
	families, err := configs.Families()
	if err != nil {
		return nil, nil, []error{err}
	}
	for _, name := range a.Family.Neighbours {
		to, config, err := a.Recast(families[name], source)
		if err == nil {
			return to, config, nil
		}
		why = append(why, err)
	}
	return nil, nil, why
}

func newRecast(src *weights.Source, to *configs.Arch) (*recast, error) {
	r := &recast{src: src, to: to, from: map[string]configs.Param{}, parts: map[string][]configs.Param{}}
	from, err := src.Arch.Params()
	if err != nil {
		return nil, err
	}
	for _, p := range from {
		r.from[p.Name] = p
	}
	parts, err := to.Params()
	for _, p := range parts {
		r.parts[p.Tensor] = append(r.parts[p.Tensor], p)
	}
	return r, err
}

// write writes the weights into dir.
func (r *recast) write(ctx context.Context, dir string, specs []checkpoints.Spec, o checkpoints.WriteOptions, progress func(bytes int64)) error {
	return checkpoints.Write(dir, specs, o, reporting(ctx, progress, r.writeTensor))
}

// writeTensor streams one tensor of the result, or computes it in memory, one at a time.
func (r *recast) writeTensor(ctx context.Context, s checkpoints.Spec, w io.Writer) error {
	flows, err := r.streamed(ctx, s)
	if err != nil {
		return err
	}
	if flows != nil {
		held := pooledBuffers.Get().(*buffers)
		defer pooledBuffers.Put(held)
		for _, f := range flows {
			if err := (&stream{ctx: ctx, src: f.from, dtype: s.DType, w: w, gain: f.gain, buffers: held}).write(f.spans); err != nil {
				return err
			}
		}
		return nil
	}
	r.whole.Lock()
	defer r.whole.Unlock()
	stored, err := r.tensor(ctx, s)
	if err != nil {
		return err
	}
	return weights.WriteFloats(w, stored, s.DType)
}

// flow is a weight of the result by the source's rows: which tensor's, which they are, and what each of their elements is
// multiplied with.
type flow struct {
	from  *checkpoints.Tensor
	spans []span
	gain  []float32
}

// streamed are the weights that make up a tensor of the result, one behind the other; nil where rows are not enough to go by.
func (r *recast) streamed(ctx context.Context, s checkpoints.Spec) (flows []flow, err error) {
	row := 0
	for _, to := range r.parts[s.Name] {
		from, ok := r.from[to.Name]
		if !ok || to.Bias || to.Role.IsNorm() || from.Parts != nil || from.Transposed || to.Transposed || storedRow(to, 0) != row {
			return nil, nil
		}
		row += to.Shape[0]
		if storedRow(to, to.Shape[0]-1) != row-1 {
			return nil, nil
		}
		f, err := r.flow(ctx, from, to)
		if err != nil {
			return nil, err
		}
		flows = append(flows, f)
	}
	return flows, nil
}

func (r *recast) flow(ctx context.Context, from, to configs.Param) (f flow, err error) {
	f.from, _ = r.src.Tensor(from.Tensor)
	norm, folds := folding[to.Role]
	if folds && r.src.Arch.Folds(r.to) {
		f.gain, err = r.gain(ctx, norm, to.Layer)
	}
	order := r.order(to)
	if from.Rows == nil && order == nil {
		f.spans = []span{{n: to.Size(), from: []int{r.skipped(to)}}}
		return f, err
	}
	rows := make([][]int, to.Shape[0])
	for i := range rows {
		row := i
		if order != nil {
			row = order[i]
		}
		rows[i] = []int{storedRow(from, row)}
	}
	f.spans = join(rows, to.Size()/to.Shape[0])
	return f, err
}

// tensor computes one tensor of the result.
func (r *recast) tensor(ctx context.Context, s checkpoints.Spec) ([]float32, error) {
	stored := make([]float32, s.Elements())
	for _, p := range r.parts[s.Name] {
		values, err := r.weight(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", s.Name, err)
		}
		p.Put(stored, values)
	}
	return stored, nil
}

// weight computes one weight or bias of the result.
func (r *recast) weight(ctx context.Context, p configs.Param) ([]float32, error) {
	folded := r.src.Arch.Folds(r.to)
	if p.Role == configs.AttnNorm && folded {
		values := make([]float32, p.Size())
		if !p.Bias {
			shift(values, 1)
		}
		return values, nil
	}
	values, err := r.read(ctx, p.Name, p.Size())
	if err != nil {
		return nil, err
	}
	values = values[r.skipped(p):]
	switch {
	case p.Role.IsNorm() && !p.Bias:
		shift(values, float32(r.normOffset(p.Name)-r.to.NormOffset))
	case folded:
		if values, err = r.fold(ctx, p, values); err != nil {
			return nil, err
		}
	}
	if order := r.order(p); order != nil {
		values = reorder(values, order)
	}
	return values, nil
}

// skipped is how many elements of the source's weight lie before those that the result has: positions that no token has.
func (r *recast) skipped(p configs.Param) int {
	if p.Role != configs.Positions {
		return 0
	}
	return r.src.Arch.SkippedPositions(r.to) * r.to.Dim
}

// normOffset is what makes the gain of a norm's weight, zeros if it has none, as read.
func (r *recast) normOffset(name string) float64 {
	if _, ok := r.from[name]; !ok {
		return 1
	}
	return r.src.Arch.NormOffset
}

// read is a weight of the source; a bias that is not there is zero.
func (r *recast) read(ctx context.Context, name string, size int) ([]float32, error) {
	if p, ok := r.from[name]; ok {
		return r.src.Read(ctx, p)
	}
	return make([]float32, size), nil
}

func shift(values []float32, by float32) {
	for i := range values {
		values[i] += by
	}
}
