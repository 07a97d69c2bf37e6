package target

import (
	"context"
	"fmt"
	"io"
	"sync"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// recast computes the tensors of a checkpoint in another family's form: the same function, in a class that supports its
// KV heads.
type recast struct {
	src   *weights.Source
	to    *configs.Arch
	from  map[string]configs.Param   // the source's weights by name
	parts map[string][]configs.Param // the result's, by the tensor that contains them
	whole sync.Mutex                 // locked while a tensor is entirely in memory, so only one is at a time
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

// writeTensor writes one tensor of the result, row by row or from memory.
func (r *recast) writeTensor(ctx context.Context, s checkpoints.Spec, w io.Writer) error {
	parts, err := r.byRows(ctx, s)
	if err != nil {
		return err
	}
	if parts != nil {
		return writeRows(ctx, parts, s.DType, w)
	}
	r.whole.Lock()
	defer r.whole.Unlock()
	stored, err := r.tensor(ctx, s)
	if err != nil {
		return err
	}
	return weights.WriteFloats(w, stored, s.DType)
}

// byRows returns the weights that make up a tensor of the result, in order, or nil if it cannot be computed by rows.
func (r *recast) byRows(ctx context.Context, s checkpoints.Spec) (parts []rowPart, err error) {
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
		p, err := r.rowPart(ctx, from, to)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// rowPart returns a weight of the result by rows of the source.
func (r *recast) rowPart(ctx context.Context, from, to configs.Param) (p rowPart, err error) {
	p.from, _ = r.src.Tensor(from.Tensor)
	p.spans = r.spans(from, to)
	if norm, folds := folding[to.Role]; folds && r.src.Arch.Folds(r.to) {
		p.gain, err = r.gain(ctx, norm, to.Layer)
	}
	return p, err
}

// spans returns the rows of the source's weight that make up the result's.
func (r *recast) spans(from, to configs.Param) []span {
	order := r.order(to)
	if from.Rows == nil && order == nil {
		return []span{{n: to.Size(), from: []int{r.skipped(to)}}}
	}
	rows := make([][]int, to.Shape[0])
	for i := range rows {
		row := i
		if order != nil {
			row = order[i]
		}
		rows[i] = []int{storedRow(from, row)}
	}
	return join(rows, to.Size()/to.Shape[0])
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
		return withoutEffect(p), nil
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
		err = r.fold(ctx, p, values)
	}
	if order := r.order(p); order != nil {
		values = reorder(values, order)
	}
	return values, err
}

// withoutEffect returns the weight of a norm (ones) or its bias (zeros) that does not change the norm's output.
func withoutEffect(p configs.Param) []float32 {
	values := make([]float32, p.Size())
	if !p.Bias {
		shift(values, 1)
	}
	return values
}

// skipped returns the number of elements at the start of the source's weight that the result lacks: positions that no
// token has.
func (r *recast) skipped(p configs.Param) int {
	if p.Role != configs.Positions {
		return 0
	}
	return r.src.Arch.SkippedPositions(r.to) * r.to.Dim
}

// normOffset returns the number that is added to a norm's weight, as returned by read, to get its gain.
func (r *recast) normOffset(name string) float64 {
	if _, ok := r.from[name]; !ok {
		return 1
	}
	return r.src.Arch.NormOffset
}

// read returns a weight of the source; a missing bias is zero.
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
