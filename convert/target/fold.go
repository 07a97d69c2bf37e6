package target

import (
	"context"

	"gqa/configs"
)

// folding maps a linear layer to the norm whose output it reads.
var folding = map[configs.Role]configs.Role{
	configs.Q: configs.AttnNorm, configs.K: configs.AttnNorm, configs.V: configs.AttnNorm,
	configs.Gate: configs.MLPNorm, configs.Up: configs.MLPNorm,
}

// gain returns γ, the factors of a norm for the elements of a row.
func (r *recast) gain(ctx context.Context, norm configs.Role, layer int) ([]float32, error) {
	name := configs.ParamName(norm, layer, false)
	g, err := r.read(ctx, name, r.to.Dim)
	shift(g, float32(r.normOffset(name)))
	return g, err
}

// fold folds a norm's weight γ and bias β into the linear layer that reads its output: W(γ∘x + β) + b = (W·diag γ)x + (Wβ
// + b).
func (r *recast) fold(ctx context.Context, p configs.Param, values []float32) error {
	norm, ok := folding[p.Role]
	switch {
	case !ok:
		return nil
	case p.Bias:
		return r.foldBias(ctx, p, norm, values)
	}
	g, err := r.gain(ctx, norm, p.Layer)
	if err != nil {
		return err
	}
	for i := range values {
		values[i] *= g[i%len(g)]
	}
	return nil
}

// foldBias adds Wβ to the bias p, whose values are given.
func (r *recast) foldBias(ctx context.Context, p configs.Param, norm configs.Role, values []float32) error {
	beta, err := r.read(ctx, configs.ParamName(norm, p.Layer, true), r.to.Dim)
	if err != nil {
		return err
	}
	return r.rows(ctx, configs.ParamName(p.Role, p.Layer, false), func(i int, row []float32) {
		sum := float64(values[i])
		for j, x := range row {
			sum += float64(x) * float64(beta[j])
		}
		values[i] = float32(sum)
	})
}

// rows reads a matrix of the source row by row, if its storage allows that.
func (r *recast) rows(ctx context.Context, name string, each func(i int, row []float32)) error {
	p := r.from[name]
	width := p.Shape[1]
	if p.Transposed || p.Parts != nil {
		all, err := r.src.Read(ctx, p)
		for i := range len(all) / width {
			each(i, all[i*width:(i+1)*width])
		}
		return err
	}
	t, _ := r.src.Tensor(p.Tensor)
	row := make([]float32, width)
	for i := range p.Shape[0] {
		if err := t.Float32Range(row, storedRow(p, i)*width); err != nil {
			return err
		}
		each(i, row)
	}
	return nil
}

// order returns the source's rows of queries or keys in the order of the result's rotary planes, or nil if the order is
// the same.
func (r *recast) order(p configs.Param) []int {
	if r.src.Arch.Position != configs.PositionRope || p.Role != configs.Q && p.Role != configs.K {
		return nil
	}
	return r.src.Arch.RowsOfPlanes(r.to.Planes(), p.Shape[0])
}
