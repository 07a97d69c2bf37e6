//go:build cuda && linux

package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// The functions of cuDNN.
var (
	dnnGetVersion        func() uint64
	dnnCreate            func(*uintptr) int32
	dnnSetStream         func(handle, stream uintptr) int32
	dnnLastError         func(unsafe.Pointer, uint64)
	dnnCreateDescriptor  func(int32, *uintptr) int32
	dnnDestroyDescriptor func(uintptr) int32
	dnnFinalize          func(uintptr) int32
	dnnSetAttribute      func(desc uintptr, attr, kind int32, n int64, values unsafe.Pointer) int32
	dnnGetAttribute      func(desc uintptr, attr, kind int32, n int64, got *int64, values unsafe.Pointer) int32
	dnnExecute           func(handle, plan, pack uintptr) int32
)

var (
	dnnLib *lib
	errDNN error
)

// minDNN is the oldest version of cuDNN whose backward attention clears its accumulators.
const minDNN = 90600

func loadDNN() error {
	if dnnLib != nil || errDNN != nil {
		return errDNN
	}
	dnnLib, errDNN = load("libcudnn", purego.RTLD_GLOBAL, map[string]any{
		"cudnnGetVersion": &dnnGetVersion, "cudnnCreate": &dnnCreate, "cudnnSetStream": &dnnSetStream, "cudnnGetLastErrorString": &dnnLastError,
		"cudnnBackendCreateDescriptor": &dnnCreateDescriptor, "cudnnBackendDestroyDescriptor": &dnnDestroyDescriptor,
		"cudnnBackendFinalize": &dnnFinalize, "cudnnBackendSetAttribute": &dnnSetAttribute, "cudnnBackendGetAttribute": &dnnGetAttribute,
		"cudnnBackendExecute": &dnnExecute,
	})
	if errDNN == nil && dnnGetVersion() < minDNN {
		errDNN = fmt.Errorf("%s is cuDNN %s: want 9.6 or newer (%s)", dnnLib.path, dnnVersionText(dnnGetVersion()), dnnLib.Wheel)
	}
	return errDNN
}

func dnnVersionText(v uint64) string { return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100) }

func dnnError(code int32, call string) error {
	if code == 0 {
		return nil
	}
	text := make([]byte, 2048)
	dnnLastError(unsafe.Pointer(&text[0]), uint64(len(text)))
	return fmt.Errorf("%s: cuDNN status %d: %s", call, code, cString(uintptr(unsafe.Pointer(&text[0]))))
}

// Kinds of cuDNN's descriptors.
const (
	kindPointwise = 0
	kindEngineCfg = 3
	kindHeuristic = 4
	kindPlan      = 5
	kindPointOp   = 13
	kindGraph     = 15
	kindPack      = 16
	kindTensor    = 17
	kindMatmul    = 18
	kindMatmulOp  = 19
	kindReduction = 21
	kindReduceOp  = 22
	kindReshapeOp = 31
)

// Types of cuDNN's attributes.
const (
	typeHandle     = 0
	typeData       = 1
	typeBool       = 2
	typeInt64      = 3
	typeFloat      = 4
	typePointer    = 6
	typeHeuristic  = 8
	typePointMode  = 14
	typeDescriptor = 15
	typeReduction  = 18
)

// Data types by cuDNN's numbers.
const (
	dnnFloat = 0
	dnnInt32 = 4
	dnnBF16  = 9
	dnnBool  = 11
)

// Modes of pointwise operations, and reductions.
const (
	pointAdd    = 0
	pointMul    = 1
	pointDiv    = 6
	pointSub    = 9
	pointExp    = 13
	pointLog    = 15
	pointCopy   = 21
	pointNotLT  = 303 // x >= y
	pointIndex  = 501
	pointSelect = 601
	reduceAdd   = 0
	reduceMax   = 3
)

// graph is a graph of cuDNN operations under construction. After the first error nothing more is added.
type graph struct {
	ops  []uintptr
	uids int64
	err  error
}

// tensor is a tensor of a graph. A tensor without its own memory is virtual.
type tensor struct {
	desc uintptr
	uid  int64
	dims [4]int64
}

func (g *graph) check(code int32, call string) {
	if g.err == nil {
		g.err = dnnError(code, call)
	}
}

func (g *graph) descriptor(kind int32) (d uintptr) {
	if g.err == nil {
		g.check(dnnCreateDescriptor(kind, &d), "cudnnBackendCreateDescriptor")
	}
	return d
}

// set sets an attribute to values of a type.
func set[T any](g *graph, d uintptr, attr, kind int32, values ...T) {
	if g.err == nil {
		g.check(dnnSetAttribute(d, attr, kind, int64(len(values)), unsafe.Pointer(&values[0])), fmt.Sprintf("cudnnBackendSetAttribute %d", attr))
	}
}

func (g *graph) finalize(d uintptr) {
	if g.err == nil {
		g.check(dnnFinalize(d), "cudnnBackendFinalize")
	}
}

// Storage of a tensor.
const (
	inMemory = iota
	virtual
	byValue // one number in the host's memory
)

func (g *graph) tensor(data int32, dims, strides [4]int64, storage int) tensor {
	t := tensor{desc: g.descriptor(kindTensor), uid: g.uids, dims: dims}
	g.uids++
	set(g, t.desc, 901, typeData, data)
	set(g, t.desc, 902, typeInt64, dims[:]...)
	set(g, t.desc, 903, typeInt64, strides[:]...)
	set(g, t.desc, 906, typeInt64, t.uid)
	set(g, t.desc, 900, typeInt64, int64(16)) // alignment in bytes
	switch storage {
	case virtual:
		set(g, t.desc, 907, typeBool, true)
	case byValue:
		set(g, t.desc, 908, typeBool, true)
	}
	g.finalize(t.desc)
	return t
}

// between adds a virtual tensor, row-major and contiguous.
func (g *graph) between(data int32, dims [4]int64) tensor {
	return g.tensor(data, dims, [4]int64{dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1}, virtual)
}

// number adds a number that is passed by value.
func (g *graph) number() tensor {
	return g.tensor(dnnFloat, [4]int64{1, 1, 1, 1}, [4]int64{1, 1, 1, 1}, byValue)
}

// pointwise adds y = x op b.
func (g *graph) pointwise(mode int32, x tensor, b *tensor, y tensor) tensor {
	return g.point(mode, x, b, nil, y, -1, dnnFloat)
}

// point adds a pointwise operation: of x, of b if not nil, and of the predicate t if not nil; axis is that of an index.
func (g *graph) point(mode int32, x tensor, b, t *tensor, y tensor, axis int64, compute int32) tensor {
	d := g.descriptor(kindPointwise)
	set(g, d, 0, typePointMode, mode)
	set(g, d, 1, typeData, compute)
	if axis >= 0 {
		set(g, d, 9, typeInt64, axis)
	}
	g.finalize(d)
	op := g.descriptor(kindPointOp)
	set(g, op, 750, typeDescriptor, d)
	set(g, op, 751, typeDescriptor, x.desc)
	set(g, op, 753, typeDescriptor, y.desc)
	if b != nil {
		set(g, op, 752, typeDescriptor, b.desc)
	}
	if t != nil {
		set(g, op, 758, typeDescriptor, t.desc)
	}
	set(g, op, 754, typeFloat, float32(1))
	set(g, op, 755, typeFloat, float32(1))
	g.add(op)
	return y
}

func (g *graph) add(op uintptr) {
	g.finalize(op)
	g.ops = append(g.ops, op)
}

func (g *graph) reduce(mode int32, x, y tensor) tensor {
	d := g.descriptor(kindReduction)
	set(g, d, 1601, typeData, int32(dnnFloat))
	set(g, d, 1600, typeReduction, mode)
	g.finalize(d)
	op := g.descriptor(kindReduceOp)
	set(g, op, 1612, typeDescriptor, d)
	set(g, op, 1610, typeDescriptor, x.desc)
	set(g, op, 1611, typeDescriptor, y.desc)
	g.add(op)
	return y
}

func (g *graph) multiply(a, b, c tensor) tensor {
	d := g.descriptor(kindMatmul)
	set(g, d, 1500, typeData, int32(dnnFloat))
	g.finalize(d)
	op := g.descriptor(kindMatmulOp)
	set(g, op, 1520, typeDescriptor, a.desc)
	set(g, op, 1521, typeDescriptor, b.desc)
	set(g, op, 1522, typeDescriptor, c.desc)
	set(g, op, 1523, typeDescriptor, d)
	g.add(op)
	return c
}

// reshape adds y, which has the elements of x in its own layout.
func (g *graph) reshape(x, y tensor) tensor {
	op := g.descriptor(kindReshapeOp)
	set(g, op, 2200, typeDescriptor, x.desc)
	set(g, op, 2201, typeDescriptor, y.desc)
	g.add(op)
	return y
}

// dnnPlan is a graph that can be executed.
type dnnPlan struct {
	plan      uintptr
	workspace int64
}

// build lets cuDNN choose the execution plan for the graph.
func (g *graph) build(handle uintptr) (p dnnPlan, err error) {
	d := g.descriptor(kindGraph)
	set(g, d, 801, typeDescriptor, g.ops...)
	set(g, d, 800, typeHandle, handle)
	g.finalize(d)
	h := g.descriptor(kindHeuristic)
	set(g, h, 201, typeDescriptor, d)
	const modeA = 3
	set(g, h, 200, typeHeuristic, int32(modeA))
	g.finalize(h)
	var configs [8]uintptr
	for i := range configs {
		configs[i] = g.descriptor(kindEngineCfg)
	}
	var n int64
	if g.err == nil {
		g.check(dnnGetAttribute(h, 202, typeDescriptor, int64(len(configs)), &n, unsafe.Pointer(&configs[0])), "cudnnBackendGetAttribute 202")
	}
	if g.err != nil {
		return p, g.err
	}
	for _, c := range configs[:n] {
		if p, err = planOf(c, handle); err == nil {
			return p, nil
		}
	}
	return p, errors.Join(errors.New("cuDNN has no engine for this attention"), err)
}

func planOf(config, handle uintptr) (p dnnPlan, err error) {
	var g graph
	p.plan = g.descriptor(kindPlan)
	set(&g, p.plan, 401, typeDescriptor, config)
	set(&g, p.plan, 400, typeHandle, handle)
	g.finalize(p.plan)
	var n int64
	if g.err == nil {
		g.check(dnnGetAttribute(p.plan, 402, typeInt64, 1, &n, unsafe.Pointer(&p.workspace)), "cudnnBackendGetAttribute 402")
	}
	return p, g.err
}

// execute runs a plan on memory given by the tensors' numbers.
func (p dnnPlan) execute(handle uintptr, uids []int64, pointers []uintptr, workspace uintptr) error {
	var g graph
	pack := g.descriptor(kindPack)
	set(&g, pack, 1000, typeInt64, uids...)
	set(&g, pack, 1001, typePointer, pointers...)
	set(&g, pack, 1003, typePointer, workspace)
	g.finalize(pack)
	if g.err == nil {
		g.check(dnnExecute(handle, p.plan, pack), "cudnnBackendExecute")
	}
	dnnDestroyDescriptor(pack)
	return g.err
}

// dnnState is the cuDNN state of a GPU's thread.
type dnnState struct {
	handle  uintptr
	plans   map[any]*attentionPlan
	numbers [3]float32 // scale, -infinity and one, passed by value. Their memory is pinned.
	pinned  runtime.Pinner
}

func (g *GPU) startDNN() error {
	if g.dnn != nil {
		return nil
	}
	if err := loadDNN(); err != nil {
		return err
	}
	s := &dnnState{plans: map[any]*attentionPlan{}}
	s.pinned.Pin(s)
	if err := dnnError(dnnCreate(&s.handle), "cudnnCreate"); err != nil {
		return err
	}
	if err := dnnError(dnnSetStream(s.handle, g.stream), "cudnnSetStream"); err != nil {
		return err
	}
	g.dnn = s
	return nil
}
