//go:build cuda && linux

package cuda

import (
	"errors"
	"fmt"
	"slices"
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
		errDNN = fmt.Errorf("%s is cuDNN %s: want 9.6 or newer (%s)", dnnLib.path, threeParts(dnnGetVersion()), dnnLib.Wheel)
	}
	return errDNN
}

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
	kindEngine    = 2
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

var kindNames = map[int32]string{
	kindPointwise: "pointwise", kindEngine: "engine", kindEngineCfg: "engine configuration", kindHeuristic: "heuristic", kindPlan: "plan",
	kindPointOp: "pointwise operation", kindGraph: "graph", kindPack: "variant pack", kindTensor: "tensor", kindMatmul: "matmul",
	kindMatmulOp: "matmul operation", kindReduction: "reduction", kindReduceOp: "reduction operation", kindReshapeOp: "reshape operation",
}

// Types of cuDNN's attributes.
const (
	typeHandle     = 0
	typeData       = 1
	typeBool       = 2
	typeInt64      = 3
	typeFloat      = 4
	typePointer    = 6
	typeHeuristic  = 8
	typeNote       = 11
	typePointMode  = 14
	typeDescriptor = 15
	typeReduction  = 18
)

// Attributes that are also read.
const (
	attrConfigs   = 202 // of a heuristic
	attrEngine    = 300 // of an engine's configuration
	attrWorkspace = 402 // of a plan
	attrNotes     = 1303
)

// noteNondeterministic is the numerical note of engines that may give different bits each time.
const noteNondeterministic = 4

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
	pointGT     = 302 // x > b
	pointNotLT  = 303 // x >= b
	pointLT     = 304
	pointAnd    = 400
	pointIndex  = 501 // the index along an axis
	pointSelect = 601 // x where t is true, b elsewhere
	reduceAdd   = 0
	reduceMax   = 3
)

// attribute is an attribute of a descriptor, with values of a type.
type attribute struct {
	number, kind int32
	n            int64
	values       unsafe.Pointer
}

func attr[T any](number, kind int32, values ...T) attribute {
	return attribute{number, kind, int64(len(values)), unsafe.Pointer(unsafe.SliceData(values))}
}

// ref is an attribute that refers to other descriptors.
func ref(number int32, descriptors ...uintptr) attribute {
	return attr(number, typeDescriptor, descriptors...)
}

// graph is a graph of cuDNN operations under construction. After the first error nothing more is added.
type graph struct {
	made   []uintptr // all descriptors
	ops    []uintptr
	memory []inMemory
	values []byValue
	uids   int64
	err    error
}

// inMemory is a tensor in the GPU's memory, which is an operand of attention.
type inMemory struct {
	uid  int64
	slot slot
}

// byValue is a tensor of one number of 32 bits in the host's memory.
type byValue struct {
	uid  int64
	bits uint32
}

// tensor is a tensor of a graph.
type tensor struct {
	desc uintptr
	uid  int64
	dims [4]int64
}

func (g *graph) check(code int32, call string, what any) {
	if g.err == nil && code != 0 {
		g.err = dnnError(code, fmt.Sprintf("%s of %v", call, what))
	}
}

// create adds a descriptor that is not final.
func (g *graph) create(kind int32) (d uintptr) {
	if g.err == nil {
		g.check(dnnCreateDescriptor(kind, &d), "cudnnBackendCreateDescriptor", kindNames[kind])
	}
	if g.err == nil {
		g.made = append(g.made, d)
	}
	return d
}

// descriptor adds a descriptor with attributes.
func (g *graph) descriptor(kind int32, attributes ...attribute) uintptr {
	d := g.create(kind)
	for _, a := range attributes {
		if g.err == nil {
			g.check(dnnSetAttribute(d, a.number, a.kind, a.n, a.values), fmt.Sprintf("cudnnBackendSetAttribute %d", a.number), kindNames[kind])
		}
	}
	if g.err == nil {
		g.check(dnnFinalize(d), "cudnnBackendFinalize", kindNames[kind])
	}
	return d
}

// get reads an attribute into values, and returns how many were read.
func (g *graph) get(d uintptr, a attribute) (n int64) {
	if g.err == nil {
		g.check(dnnGetAttribute(d, a.number, a.kind, a.n, &n, a.values), "cudnnBackendGetAttribute", a.number)
	}
	return min(n, a.n)
}

// destroy destroys all descriptors.
func (g *graph) destroy() {
	for _, d := range slices.Backward(g.made) {
		dnnDestroyDescriptor(d)
	}
	g.made = nil
}

// Attributes of tensors that are not simply in memory.
var (
	virtual = attr(907, typeBool, true)
	onHost  = attr(908, typeBool, true)
)

func (g *graph) tensor(data int32, dims, strides [4]int64, storage ...attribute) *tensor {
	t := &tensor{uid: g.uids, dims: dims}
	g.uids++
	const alignment = 16 // bytes
	t.desc = g.descriptor(kindTensor, append([]attribute{
		attr(901, typeData, data), attr(902, typeInt64, dims[:]...), attr(903, typeInt64, strides[:]...), attr(906, typeInt64, t.uid),
		attr(900, typeInt64, int64(alignment)),
	}, storage...)...)
	return t
}

// operand adds a tensor in the GPU's memory.
func (g *graph) operand(s slot, data int32, dims, strides [4]int64) *tensor {
	t := g.tensor(data, dims, strides)
	g.memory = append(g.memory, inMemory{t.uid, s})
	return t
}

// between adds a virtual tensor, row-major and contiguous.
func (g *graph) between(data int32, dims [4]int64) *tensor {
	return g.tensor(data, dims, rowMajor(dims), virtual)
}

func rowMajor(dims [4]int64) [4]int64 {
	return [4]int64{dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1}
}

// number adds a number that is passed by value.
func (g *graph) number(data int32, bits uint32) *tensor {
	ones := [4]int64{1, 1, 1, 1}
	t := g.tensor(data, ones, ones, onHost)
	g.values = append(g.values, byValue{t.uid, bits})
	return t
}

// add adds an operation.
func (g *graph) add(kind int32, attributes ...attribute) {
	g.ops = append(g.ops, g.descriptor(kind, attributes...))
}

// pointwise is a kind of pointwise operation.
type pointwise struct {
	mode    int32
	compute int32 // a data type
	axis    int64 // of an index
}

// point adds a pointwise operation y of in: x, b and the predicate t, as many as the operation has.
func (g *graph) point(p pointwise, y *tensor, in ...*tensor) *tensor {
	settings := []attribute{attr(0, typePointMode, p.mode), attr(1, typeData, p.compute)}
	if p.mode == pointIndex {
		settings = append(settings, attr(9, typeInt64, p.axis))
	}
	operands := []attribute{ref(750, g.descriptor(kindPointwise, settings...)), ref(753, y.desc), attr(754, typeFloat, float32(1)), attr(755, typeFloat, float32(1))}
	for i, t := range in {
		operands = append(operands, ref([]int32{751, 752, 758}[i], t.desc))
	}
	g.add(kindPointOp, operands...)
	return y
}

// float adds a pointwise operation on f32 numbers.
func (g *graph) float(mode int32, y *tensor, in ...*tensor) *tensor {
	return g.point(pointwise{mode: mode}, y, in...)
}

func (g *graph) reduce(mode int32, x, y *tensor) *tensor {
	d := g.descriptor(kindReduction, attr(1601, typeData, int32(dnnFloat)), attr(1600, typeReduction, mode))
	g.add(kindReduceOp, ref(1612, d), ref(1610, x.desc), ref(1611, y.desc))
	return y
}

// lengths are tensors with the numbers of rows, columns and summands of a product for each sequence; nil if they are
// those of the operands.
type lengths struct{ m, n, k *tensor }

func (g *graph) multiply(a, b, c *tensor, l lengths) *tensor {
	operands := []attribute{
		ref(1520, a.desc), ref(1521, b.desc), ref(1522, c.desc), ref(1523, g.descriptor(kindMatmul, attr(1500, typeData, int32(dnnFloat)))),
	}
	for i, t := range []*tensor{l.m, l.n, l.k} {
		if t != nil {
			operands = append(operands, ref(1525+int32(i), t.desc))
		}
	}
	g.add(kindMatmulOp, operands...)
	return c
}

// reshape adds y, which has the elements of x in its own layout.
func (g *graph) reshape(x, y *tensor) *tensor {
	g.add(kindReshapeOp, ref(2200, x.desc), ref(2201, y.desc))
	return y
}

// dnnPlan is a graph that can be executed.
type dnnPlan struct {
	plan      uintptr
	workspace int64
}

// choice is what a plan must satisfy.
type choice struct {
	deterministic bool
	workspace     int64 // bytes at most
}

// build lets cuDNN choose the execution plan for the graph, and destroys the graph.
func (g *graph) build(handle uintptr, c choice) (dnnPlan, error) {
	defer g.destroy()
	d := g.descriptor(kindGraph, ref(801, g.ops...), attr(800, typeHandle, handle))
	const modeA = 3
	h := g.descriptor(kindHeuristic, ref(201, d), attr(200, typeHeuristic, int32(modeA)))
	var configs [8]uintptr
	for i := range configs {
		configs[i] = g.create(kindEngineCfg)
	}
	n := g.get(h, attribute{attrConfigs, typeDescriptor, int64(len(configs)), unsafe.Pointer(&configs[0])})
	if g.err != nil {
		return dnnPlan{}, g.err
	}
	errs := []error{errors.New("cuDNN has no engine for this attention")}
	for _, config := range configs[:n] {
		p, err := planOf(config, handle, c)
		if err == nil {
			// The configuration stays, as in NVIDIA's own users of the API; a plan does not need the rest.
			g.made = slices.DeleteFunc(g.made, func(d uintptr) bool { return d == config })
			return p, nil
		}
		errs = append(errs, err)
	}
	return dnnPlan{}, errors.Join(errs...)
}

func planOf(config, handle uintptr, c choice) (p dnnPlan, err error) {
	if c.deterministic && nondeterministic(config) {
		return p, errors.New("an engine is not deterministic")
	}
	g := new(graph)
	p.plan = g.descriptor(kindPlan, ref(401, config), attr(400, typeHandle, handle))
	g.get(p.plan, attribute{attrWorkspace, typeInt64, 1, unsafe.Pointer(&p.workspace)})
	if g.err == nil && p.workspace > c.workspace {
		g.err = fmt.Errorf("an engine needs %d bytes of workspace, more than %d", p.workspace, c.workspace)
	}
	if g.err != nil {
		g.destroy()
	}
	return p, g.err
}

// nondeterministic reports whether the engine of a configuration is known to give different bits each time.
func nondeterministic(config uintptr) bool {
	g := new(graph)
	defer g.destroy()
	engine := g.create(kindEngine)
	g.get(config, attribute{attrEngine, typeDescriptor, 1, unsafe.Pointer(&engine)})
	var notes [16]int32
	n := g.get(engine, attribute{attrNotes, typeNote, int64(len(notes)), unsafe.Pointer(&notes[0])})
	return g.err == nil && slices.Contains(notes[:n], noteNondeterministic)
}

// execute runs a plan on memory given by the tensors' numbers.
func (p dnnPlan) execute(handle uintptr, uids []int64, pointers []uintptr, workspace uintptr) error {
	g := new(graph)
	defer g.destroy()
	pack := g.descriptor(kindPack, attr(1000, typeInt64, uids...), attr(1001, typePointer, pointers...), attr(1003, typePointer, workspace))
	if g.err == nil {
		g.check(dnnExecute(handle, p.plan, pack), "cudnnBackendExecute", "attention")
	}
	return g.err
}
