package target

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// tensors writes a result in a family's storage format: safetensors files and config.json.
type tensors struct {
	Result
	layout   Layout
	params   []configs.Param        // the place of each of Weights in layout.Arch
	computed map[string][]int       // the tensors that are not copied, and the weights in them
	config   func(c map[string]any) // changes the keys of config.json
}

// newTensors lays r out for a, which is r.Arch or r.Arch with repeated KV heads.
func newTensors(r Result, a *configs.Arch) (*tensors, error) {
	t := &tensors{Result: r, layout: Layout{Arch: a, SideFiles: true}}
	var err error
	if t.params, err = r.params(a); err != nil {
		return nil, err
	}
	t.findComputed()
	if err := t.addSpecs(); err != nil {
		return nil, err
	}
	t.layout.Computed, t.layout.Work = len(t.computed), bytesOf(t.layout.Specs)
	return t, nil
}

// params returns the place of each of the weights in a, which is r.Arch or r.Arch with repeated KV heads.
func (r Result) params(a *configs.Arch) ([]configs.Param, error) {
	if a != r.Arch {
		return a.Params()
	}
	params := make([]configs.Param, len(r.Weights)) // the lists of rows, which may be long, are shared
	for i, w := range r.Weights {
		params[i] = w.Param
	}
	return params, nil
}

// findComputed finds the tensors that contain a weight whose values or place change. If KV heads and layout are
// unchanged, there are none.
func (t *tensors) findComputed() {
	touched := map[string]bool{}
	for i, to := range t.params {
		w := t.Weights[i]
		if w.Changed() || to.KVHeads != w.From.KVHeads || !slices.Equal(to.Rows, w.From.Rows) {
			touched[to.Tensor] = true
		}
	}
	t.computed = map[string][]int{}
	for i, to := range t.params {
		if !touched[to.Tensor] {
			continue
		}
		for _, name := range to.Tensors() {
			t.computed[name] = append(t.computed[name], i)
		}
	}
}

// addSpecs lists the tensors: those of the source in their order, without those of removed heads, and then those that the
// source lacks.
func (t *tensors) addSpecs() error {
	shapes, names, err := shapesOf(t.layout.Arch)
	if err != nil {
		return err
	}
	if err := t.addSourceSpecs(shapes); err != nil {
		return err
	}
	for _, name := range names {
		if _, there := t.Source.Tensor(name); there {
			continue
		}
		if err := t.addSpec(name, t.Weights[t.computed[name][0]].From.Tensor, shapes[name]); err != nil {
			return err
		}
	}
	return nil
}

// addSourceSpecs lists the tensors that the source has too. shapes are the result's shapes.
func (t *tensors) addSourceSpecs(shapes map[string][]int) error {
	known, _, err := shapesOf(t.Source.Arch)
	if err != nil {
		return err
	}
	for _, name := range t.Source.Names() {
		if known[name] != nil && shapes[name] == nil {
			continue
		}
		if err := t.addSpec(name, name, shapes[name]); err != nil {
			return err
		}
	}
	return nil
}

// shapesOf returns the shapes of the tensors of a, and their names in order.
func shapesOf(a *configs.Arch) (shapes map[string][]int, names []string, err error) {
	all, err := a.Tensors()
	shapes = make(map[string][]int, len(all))
	for _, x := range all {
		shapes[x.Name], names = x.Shape, append(names, x.Name)
	}
	return shapes, names, err
}

// addSpec adds a tensor with the dtype of one of the source's. A tensor without a shape is copied unchanged.
func (t *tensors) addSpec(name, source string, shape []int) error {
	x, _ := t.Source.Tensor(source)
	spec := checkpoints.Spec{Name: name, DType: x.DType, Shape: shape}
	switch {
	case shape == nil:
		spec.Shape = x.Shape
	case t.DType != 0 && spec.DType.IsFloat():
		spec.DType = t.DType
	}
	if _, ok := t.computed[name]; ok && !spec.DType.IsFloat() {
		return fmt.Errorf("%s: tensor %s is %s: only float tensors (F64, F32, F16, BF16) can be pooled; convert the unquantised checkpoint",
			x.File, source, spec.DType)
	}
	t.layout.Specs = append(t.layout.Specs, spec)
	return nil
}

// Layout describes the files.
func (t *tensors) Layout() *Layout { return &t.layout }

// Write writes the weights and config.json.
func (t *tensors) Write(ctx context.Context, dir string, r Reader, progress func(bytes int64)) error {
	var whole sync.Mutex
	write := func(ctx context.Context, s checkpoints.Spec, w io.Writer) error {
		return t.writeTensor(ctx, r, &whole, s, w)
	}
	if err := checkpoints.Write(dir, t.layout.Specs, t.writeOptions(), reporting(ctx, progress, write)); err != nil {
		return err
	}
	return t.writeConfig(dir)
}

func (r Result) writeOptions() checkpoints.WriteOptions {
	o := checkpoints.WriteOptions{ShardSize: r.ShardSize, Metadata: r.Source.Metadata, Workers: workers()}
	if len(o.Metadata) == 0 {
		o.Metadata = nil
	}
	return o
}

// writeTensor writes one tensor: copied if the source contains it unchanged, otherwise through floats. whole is locked
// while a tensor is entirely in memory, so only one is at a time.
func (t *tensors) writeTensor(ctx context.Context, r Reader, whole *sync.Mutex, s checkpoints.Spec, w io.Writer) error {
	source, stored := t.Source.Tensor(s.Name) // if not, it is made of others, which are checked as they are read
	indices, computed := t.computed[s.Name]
	if stored {
		if err := r.Check(ctx, source, computed); err != nil {
			return err
		}
	}
	switch {
	case !computed:
		return writeRows(ctx, []rowPart{{from: source, spans: []span{{n: source.Elements(), from: []int{0}}}}}, s.DType, w)
	case t.needsMemory(indices):
		whole.Lock()
		defer whole.Unlock()
		values, err := t.values(ctx, r, s.Name)
		if err != nil {
			return err
		}
		return weights.WriteFloats(w, values, s.DType)
	case t.params[indices[0]].Transposed && len(s.Shape) == 2:
		return writeColumns(ctx, source, t.spans(indices, 1), s.Shape[1], s.DType, w)
	}
	return writeRows(ctx, []rowPart{{from: source, spans: t.spans(indices, source.Elements()/source.Shape[0])}}, s.DType, w)
}

// needsMemory reports whether a tensor cannot be computed from rows of the source.
func (t *tensors) needsMemory(indices []int) bool {
	return t.params[indices[0]].Parts != nil || slices.ContainsFunc(indices, func(i int) bool { return t.Weights[i].Kind == Computed })
}

// spans returns the rows of the source that make up a tensor. unit is the number of elements of a row that are adjacent:
// all of them or, in a transposed tensor, one.
func (t *tensors) spans(indices []int, unit int) []span {
	n := 0
	for _, i := range indices {
		n += t.params[i].Shape[0]
	}
	sources := make([][]int, n)
	for _, i := range indices {
		for r := range t.params[i].Shape[0] {
			sources[storedRow(t.params[i], r)] = t.Weights[i].Rows(t.sharedRow(i, r))
		}
	}
	return join(sources, unit)
}

// sharedRow returns the row of weight i that becomes row r once KV heads are repeated.
func (t *tensors) sharedRow(i, r int) int {
	w, to := t.Weights[i], t.params[i]
	if w.KVHeads == to.KVHeads {
		return r
	}
	headRows := to.Shape[0] / to.KVHeads
	return r/headRows*w.KVHeads/to.KVHeads*headRows + r%headRows
}

// values computes a tensor in its stored form.
func (t *tensors) values(ctx context.Context, r Reader, name string) ([]float32, error) {
	indices, size := t.computed[name], 0
	if t.params[indices[0]].Parts != nil {
		return t.part(ctx, r, name)
	}
	for _, i := range indices {
		size += t.params[i].Size()
	}
	stored := make([]float32, size)
	for _, i := range indices {
		values, err := t.read(ctx, r, i)
		if err != nil {
			return nil, err
		}
		t.params[i].Put(stored, values)
	}
	return stored, nil
}

// part computes a tensor that is one row of a weight.
func (t *tensors) part(ctx context.Context, r Reader, name string) ([]float32, error) {
	i := t.computed[name][0]
	to := t.params[i]
	values, err := t.read(ctx, r, i)
	if err != nil {
		return nil, err
	}
	n := len(values) / len(to.Parts)
	return values[slices.Index(to.Parts, name)*n:][:n], nil
}

// read returns weight i, with repeated KV heads if the target repeats them.
func (t *tensors) read(ctx context.Context, r Reader, i int) ([]float32, error) {
	values, err := r.Read(ctx, i)
	if err != nil {
		return nil, err
	}
	return repeat(values, t.Weights[i].KVHeads, t.params[i].KVHeads), nil
}

// writeConfig writes the result's config.json: the source's, with the settings for the number of KV heads, and the dtype
// if it changes.
func (t *tensors) writeConfig(dir string) error {
	config, err := weights.RewriteConfig(t.Source.Config, func(c map[string]any) {
		t.config(c)
		if t.DType != 0 {
			weights.SetDType(c, t.DType)
		}
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666)
}
