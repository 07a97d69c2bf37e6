//go:build cuda && linux

package cuda

import (
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

// record is what a library was told about a descriptor.
type record struct {
	kind  string
	attrs map[int32]string // type=values
	refs  map[int32][]uintptr
}

// fakeDNN stands for cuDNN: it records descriptors, and returns what a test sets.
type fakeDNN struct {
	all       map[uintptr]*record
	live      map[uintptr]bool
	next      uintptr
	calls     []string // but of destruction
	failing   int      // the first call that fails; -1 for none
	notes     [][]int32
	workspace []int64
	engines   map[uintptr]int // of engines, engine configurations and plans
}

// newFake replaces cuDNN until the test ends. Each engine has a list of notes.
func newFake(t *testing.T, notes ...[]int32) *fakeDNN {
	f := &fakeDNN{all: map[uintptr]*record{}, live: map[uintptr]bool{}, failing: -1, notes: notes, workspace: make([]int64, len(notes)), engines: map[uintptr]int{}}
	last, create, destroy, finalize, set, get, execute := dnnLastError, dnnCreateDescriptor, dnnDestroyDescriptor, dnnFinalize, dnnSetAttribute, dnnGetAttribute, dnnExecute
	t.Cleanup(func() {
		dnnLastError, dnnCreateDescriptor, dnnDestroyDescriptor, dnnFinalize, dnnSetAttribute, dnnGetAttribute, dnnExecute = last, create, destroy, finalize, set, get, execute
	})
	dnnLastError = func(text unsafe.Pointer, _ uint64) { copy(unsafe.Slice((*byte)(text), 8), "no luck\x00") }
	dnnCreateDescriptor = func(kind int32, d *uintptr) int32 {
		f.next++
		*d = f.next
		if code := f.call("cudnnBackendCreateDescriptor"); code != 0 {
			return code
		}
		f.all[*d], f.live[*d] = &record{kindNames[kind], map[int32]string{}, map[int32][]uintptr{}}, true
		return 0
	}
	dnnDestroyDescriptor = func(d uintptr) int32 {
		if !f.live[d] {
			t.Errorf("descriptor %d is destroyed, but is not alive", d)
		}
		delete(f.live, d)
		return 0
	}
	dnnFinalize = func(uintptr) int32 { return f.call("cudnnBackendFinalize") }
	dnnSetAttribute = func(d uintptr, attr, kind int32, n int64, values unsafe.Pointer) int32 {
		r := f.all[d]
		if kind == typeDescriptor {
			r.refs[attr] = slices.Clone(unsafe.Slice((*uintptr)(values), n))
			for _, to := range r.refs[attr] {
				if !f.live[to] {
					t.Errorf("attribute %d refers to descriptor %d, which is not alive", attr, to)
				}
			}
			if attr == 401 {
				f.engines[d] = f.engines[r.refs[attr][0]]
			}
		} else {
			r.attrs[attr] = fmt.Sprintf("%d=%s", kind, texts(kind, n, values))
		}
		return f.call(fmt.Sprintf("cudnnBackendSetAttribute %d", attr))
	}
	dnnGetAttribute = func(d uintptr, attr, _ int32, n int64, got *int64, values unsafe.Pointer) int32 {
		*got = 1
		switch attr {
		case attrConfigs:
			*got = min(n, int64(len(f.notes)))
			for i, c := range unsafe.Slice((*uintptr)(values), *got) {
				f.engines[c] = i
			}
		case attrEngine:
			f.engines[*(*uintptr)(values)] = f.engines[d]
		case attrNotes:
			*got = int64(copy(unsafe.Slice((*int32)(values), n), f.notes[f.engines[d]]))
		case attrWorkspace:
			*(*int64)(values) = f.workspace[f.engines[d]]
		}
		return f.call("cudnnBackendGetAttribute")
	}
	dnnExecute = func(_, _, _ uintptr) int32 { return f.call("cudnnBackendExecute") }
	return f
}

func (f *fakeDNN) call(name string) int32 {
	f.calls = append(f.calls, name)
	if f.failing >= 0 && len(f.calls) > f.failing {
		return 3000
	}
	return 0
}

// texts formats values of a type.
func texts(kind int32, n int64, values unsafe.Pointer) string {
	all := make([]string, n)
	for i := range all {
		switch kind {
		case typeInt64, typeHandle, typePointer:
			all[i] = fmt.Sprint(unsafe.Slice((*int64)(values), n)[i])
		case typeFloat:
			all[i] = fmt.Sprint(unsafe.Slice((*float32)(values), n)[i])
		case typeBool:
			all[i] = fmt.Sprint(unsafe.Slice((*byte)(values), n)[i])
		default:
			all[i] = fmt.Sprint(unsafe.Slice((*int32)(values), n)[i])
		}
	}
	return strings.Join(all, ",")
}

// parts returns the tensors and operations that were recorded.
func (f *fakeDNN) parts() map[uintptr]*record {
	all := map[uintptr]*record{}
	for d, r := range f.all {
		switch r.kind {
		case "graph", "heuristic", "plan", "engine", "engine configuration", "variant pack":
		default:
			all[d] = r
		}
	}
	return all
}

// modes counts operations: pointwise ones by mode, others by kind.
func (f *fakeDNN) modes() map[string]int {
	n := map[string]int{}
	for _, r := range f.all {
		switch {
		case r.kind == "pointwise":
			n[strings.TrimPrefix(r.attrs[0], "14=")]++
		case strings.HasSuffix(r.kind, "operation"):
			n[r.kind]++
		}
	}
	return n
}

// readRecords reads a recorded graph.
func readRecords(t *testing.T, path string) map[uintptr]*record {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[uintptr]*record{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, attributes, _ := strings.Cut(strings.TrimSpace(line), "; ")
		number, kind, _ := strings.Cut(name, " ")
		r := &record{kind, map[int32]string{}, map[int32][]uintptr{}}
		for a := range strings.FieldsSeq(attributes) {
			var attr int32
			left, value, _ := strings.Cut(a, ":")
			fmt.Sscan(left, &attr)
			if to, ok := strings.CutPrefix(value, "15="); ok {
				n, _ := strconv.Atoi(to)
				r.refs[attr] = []uintptr{uintptr(n)}
			} else {
				r.attrs[attr] = value
			}
		}
		n, _ := strconv.Atoi(number)
		all[uintptr(n)] = r
	}
	return all
}

// describe describes descriptors by their attributes and by the descriptors that they refer to and that refer to them,
// directly or not, so equal graphs have equal descriptions whatever the order of calls.
func describe(all map[uintptr]*record) (sorted []string) {
	own, colour := map[uintptr]string{}, map[uintptr]uint64{}
	hash := func(parts ...string) uint64 {
		slices.Sort(parts)
		h := fnv.New64a()
		h.Write([]byte(strings.Join(parts, "\n")))
		return h.Sum64()
	}
	for d, r := range all {
		var parts []string
		for a, v := range r.attrs {
			if a != 906 && a != 1602 { // the tensor's number, and whether a reduction is deterministic, which is not set here: no
				parts = append(parts, fmt.Sprintf("%d:%s", a, v))
			}
		}
		slices.Sort(parts)
		own[d] = r.kind + " " + strings.Join(parts, " ")
		colour[d] = hash(own[d])
	}
	for range all { // as many rounds as the longest path may have edges
		edges := map[uintptr][]string{}
		for d, r := range all {
			for a, to := range r.refs {
				for _, e := range to {
					edges[d] = append(edges[d], fmt.Sprintf("to %d %x", a, colour[e]))
					edges[e] = append(edges[e], fmt.Sprintf("from %d %x", a, colour[d]))
				}
			}
		}
		next := map[uintptr]uint64{}
		for d := range all {
			next[d] = hash(append(edges[d], fmt.Sprintf("own %x", colour[d]))...)
		}
		colour = next
	}
	for d := range all {
		sorted = append(sorted, fmt.Sprintf("%s #%x", own[d], colour[d]))
	}
	slices.Sort(sorted)
	return sorted
}

// rows is a view of rows of n heads of dim numbers.
func rows(tokens, n, dim int64) HeadView {
	return HeadView{Seq: tokens * n * dim, Head: dim, Row: n * dim}
}

func operandsOf(a Attention) Operands {
	q, k := rows(a.Queries, a.Heads, a.HeadDim), rows(a.Keys, a.KVHeads, a.HeadDim)
	return Operands{Q: q, K: k, V: k, Out: q, DOut: q, DQ: q, DK: k, DV: k}
}

// planned returns the fake library and the plan of an attention for cuDNN 9.19 on a Hopper GPU.
func planned(t *testing.T, a Attention, notes ...[]int32) (*fakeDNN, *attentionPlan, error) {
	f := newFake(t, notes...)
	p, err := (&dnnState{version: 91900}).plan(a, operandsOf(a), 90, 1<<30)
	return f, p, err
}

var causal = Attention{Batch: 4, Queries: 2048, Keys: 2048, Heads: 32, KVHeads: 8, HeadDim: 64, Scale: 0.125, Causal: true}

// with returns causal after a change.
func with(change func(a *Attention)) Attention {
	a := causal
	change(&a)
	return a
}

// The graphs are those that PyTorch builds.
func TestAttentionGraphs(t *testing.T) {
	for name, a := range map[string]Attention{"forward": causal, "backward": with(func(a *Attention) { a.Backward = true })} {
		f, _, err := planned(t, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		recorded := readRecords(t, "testdata/attention_"+name+".txt")
		got, want := describe(f.parts()), describe(recorded)
		if slices.Equal(got, want) {
			continue
		}
		t.Errorf("%s: the graph differs from the recorded one", name)
		only := func(who string, all, others []string) {
			for _, d := range all {
				d, _, _ := strings.Cut(d, " #")
				count := func(all []string) (n int) {
					for _, o := range all {
						if strings.HasPrefix(o, d+" #") {
							n++
						}
					}
					return n
				}
				if m, n := count(all), count(others); m != n {
					t.Logf("%s: %d times, not %d: %s", who, m, n, d)
				}
			}
		}
		only("built", got, want)
		only("recorded", want, got)
	}
	// The comparison sees a single edge: here dq's, without the sum in memory.
	f, _, _ := planned(t, with(func(a *Attention) { a.Backward, a.Deterministic = true, true }), nil)
	if slices.Equal(describe(f.parts()), describe(readRecords(t, "testdata/attention_backward.txt"))) {
		t.Error("the deterministic graph is like the other one")
	}
}

// Each kind of score adds its operations.
func TestAttentionGraphOfScores(t *testing.T) {
	const index, selected, less, greater, and, sub = "501", "601", "304", "302", "400", "9"
	for name, c := range map[string]struct {
		a     Attention
		added map[string]int // beside those of causal, or of its gradient
	}{
		"window":           {with(func(a *Attention) { a.Window = 100 }), map[string]int{index: 2, "0": 1, greater: 1, selected: 1}},
		"padding":          {with(func(a *Attention) { a.Padded = true }), map[string]int{index: 2, less: 2, and: 1, selected: 1, "0": 1, sub: 1}},
		"all, padding":     {with(func(a *Attention) { a.Causal, a.Padded = false, true }), map[string]int{less: 2, and: 1, "303": -1}},
		"more keys":        {with(func(a *Attention) { a.Keys = 3000 }), map[string]int{"0": 1, sub: 1}},
		"window, padding":  {with(func(a *Attention) { a.Window, a.Padded = 9, true }), map[string]int{index: 4, less: 2, and: 1, greater: 1, selected: 2, "0": 3, sub: 2}},
		"ALiBi":            {with(func(a *Attention) { a.ALiBi = true }), map[string]int{index: 2, sub: 1, "1": 1, "0": 1}},
		"bias":             {with(func(a *Attention) { a.Bias = BiasBF16 }), map[string]int{"0": 1}},
		"deterministic":    {with(func(a *Attention) { a.Backward, a.Deterministic = true, true }), map[string]int{"21": -1}},
		"bias's gradient":  {with(func(a *Attention) { a.Backward, a.Bias, a.BiasGradient = true, BiasF32, true }), map[string]int{"0": 1, "21": -1, "reduction operation": 1}},
		"as many KV heads": {with(func(a *Attention) { a.Backward, a.KVHeads = true, 32 }), map[string]int{"reduction operation": -2}},
	} {
		base, _, err := planned(t, with(func(a *Attention) { a.Backward = c.a.Backward }), nil)
		f, p, err2 := planned(t, c.a, nil)
		if err != nil || err2 != nil {
			t.Errorf("%s: %v, %v", name, err, err2)
			continue
		}
		got, before := f.modes(), base.modes()
		for _, mode := range []string{
			index, selected, less, greater, and, sub, "0", "1", "6", "13", "15", "21", "303", "reduction operation", "matmul operation", "reshape operation",
		} {
			if got[mode]-before[mode] != c.added[mode] {
				t.Errorf("%s: %d operations of mode %s more than without it, want %d", name, got[mode]-before[mode], mode, c.added[mode])
			}
		}
		slots := map[slot]bool{}
		for _, m := range p.memory {
			slots[m.slot] = true
		}
		for s, want := range map[slot]bool{
			slotKeyLens: c.a.Padded, slotQueryLens: c.a.Padded, slotSlopes: c.a.ALiBi, slotBias: c.a.Bias != NoBias, slotDBias: c.a.BiasGradient,
			slotSum: c.a.NeedsSum(), slotDelta: c.a.Backward, slotDV: c.a.Backward,
		} {
			if slots[s] != want {
				t.Errorf("%s: has operand %d: %v", name, s, slots[s])
			}
		}
	}
}

// Views keep their strides, here those of columns of one matrix.
func TestAttentionStrides(t *testing.T) {
	a := with(func(a *Attention) { a.Backward = true })
	const row = (32 + 2*8) * 64
	o := operandsOf(a)
	for _, v := range []*HeadView{&o.Q, &o.K, &o.V, &o.DQ, &o.DK, &o.DV} {
		*v = HeadView{Seq: 2048 * row, Head: 64, Row: row}
	}
	f := newFake(t, nil)
	if _, err := (&dnnState{version: 91900}).plan(a, o, 90, 0); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, r := range f.all {
		n[r.attrs[903]]++
	}
	if by, across := n["3=6291456,64,3072,1"], n["3=6291456,64,1,3072"]; by != 5 || across != 2 { // q, dq, dk, dv and k by rows; k and v
		t.Errorf("%d tensors by rows and %d by columns: %v", by, across, n)
	}
}

// Up to 9.15, the gradient of an incomplete tile of keys needs a padding mask with the full lengths.
func TestAttentionOldVersions(t *testing.T) {
	for _, c := range []struct {
		version  uint64
		keys     int64
		backward bool
		padding  int // masks
	}{{91400, 77, true, 1}, {91400, 256, true, 0}, {91400, 77, false, 0}, {91600, 77, true, 0}, {90700, 77, true, 2}} {
		a := Attention{Batch: 3, Queries: 77, Keys: c.keys, Heads: 4, KVHeads: 4, HeadDim: 80, Backward: c.backward}
		f := newFake(t, nil)
		p, err := (&dnnState{version: c.version}).plan(a, operandsOf(a), 90, 0)
		if n := f.modes()["601"]; err != nil || n != c.padding {
			t.Errorf("%+v: %d masks, %v", c, n, err)
		}
		least := math.Float32bits(float32(math.Inf(-1)))
		if c.version < 91000 {
			least = math.Float32bits(-math.MaxFloat32)
		}
		if n := len(slices.DeleteFunc(slices.Clone(p.values), func(v byValue) bool { return v.bits != least })); n != c.padding {
			t.Errorf("%+v: %d times -infinity", c, n)
		}
	}
}

func TestAttentionRefused(t *testing.T) {
	for _, c := range []struct {
		a       Attention
		version uint64
		arch    int
		want    string // empty if it is not refused
	}{
		{causal, 91400, 90, ""},
		{causal, 91001, 90, "known errors"},
		{with(func(a *Attention) { a.HeadDim = 256 }), 91400, 90, ""},
		{with(func(a *Attention) { a.HeadDim = 84 }), 91400, 90, "multiple of 8"},
		{with(func(a *Attention) { a.Queries = 4096 }), 91400, 90, "more queries"},
		{with(func(a *Attention) { a.Causal, a.Queries = false, 4096 }), 91400, 90, ""},
		{with(func(a *Attention) { a.Causal, a.Window = false, 9 }), 91400, 90, "must be causal"},
		{with(func(a *Attention) { a.ALiBi, a.Keys = true, 4096 }), 91400, 90, "ALiBi"},
		{with(func(a *Attention) { a.Bias, a.Padded = BiasBF16, true }), 91400, 90, "a bias needs"},
		{with(func(a *Attention) { a.Causal, a.Bias, a.Padded = false, BiasBF16, true }), 91400, 90, ""},
		{with(func(a *Attention) { a.Backward, a.Deterministic = true, true }), 91900, 100, "deterministic"},
		{with(func(a *Attention) { a.Backward, a.Deterministic = true, true }), 91900, 90, ""},
	} {
		err := c.a.refused(c.version, c.arch)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v with %d on %d: %v, want %q", c.a, c.version, c.arch, err, c.want)
		}
	}
}

// The first engine that satisfies the request is chosen, and only it and its plan stay.
func TestAttentionEngine(t *testing.T) {
	a := with(func(a *Attention) { a.Backward = true })
	for _, c := range []struct {
		deterministic bool
		notes         [][]int32
		workspace     []int64
		want          int // engine; -1 for none
		why           string
	}{
		{false, [][]int32{{0, 4}, {0}}, nil, 0, ""},
		{true, [][]int32{{0, 4}, {0}}, nil, 1, ""},
		{true, [][]int32{{0, 4}, {4}}, nil, -1, "not deterministic"},
		{false, [][]int32{{0}, {0}}, []int64{2 << 30, 1 << 20}, 1, ""},
		{false, [][]int32{{0}}, []int64{2 << 30}, -1, "needs 2147483648 bytes"},
		{false, nil, nil, -1, "no engine"},
	} {
		a.Deterministic = c.deterministic
		f := newFake(t, c.notes...)
		copy(f.workspace, c.workspace)
		p, err := (&dnnState{version: 91900}).plan(a, operandsOf(a), 90, 1<<30)
		switch {
		case c.want < 0:
			if err == nil || !strings.Contains(err.Error(), c.why) || len(f.live) != 0 {
				t.Errorf("%+v: %v, %d descriptors are left", c, err, len(f.live))
			}
		case err != nil || f.engines[p.plan] != c.want || len(f.live) != 2:
			t.Errorf("%+v: engine %d, %v, %d descriptors are left", c, f.engines[p.plan], err, len(f.live))
		}
	}
}

// An error of any call is returned with the call's name, and no descriptor is left.
func TestAttentionErrors(t *testing.T) {
	a := with(func(a *Attention) {
		a.Backward, a.Bias, a.BiasGradient, a.Causal, a.Padded, a.Deterministic = true, BiasBF16, true, false, true, true
	})
	all, _, err := planned(t, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	configs := slices.Index(all.calls, "cudnnBackendGetAttribute")
	for i, name := range all.calls {
		f := newFake(t, nil)
		f.failing = i
		_, err := (&dnnState{version: 91900}).plan(a, operandsOf(a), 90, 0)
		if i > configs && i <= configs+3 { // an engine's notes may be unknown, but then its plan fails
			name = "cudnnBackendCreateDescriptor of plan"
		}
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "status 3000: no luck") || len(f.live) != 0 {
			t.Fatalf("call %d, %s: %v, %d descriptors are left", i, name, err, len(f.live))
		}
	}
	f := newFake(t)
	dnnExecute = func(_, _, _ uintptr) int32 { return 3000 }
	if err := (dnnPlan{}).execute(1, []int64{1}, []uintptr{1}, 1); err == nil || !strings.Contains(err.Error(), "cudnnBackendExecute") || len(f.live) != 0 {
		t.Errorf("execution: %v, %d descriptors are left", err, len(f.live))
	}
}

// A plan is executed with the operands' addresses and with numbers, among them the lengths that it needs itself.
func TestAttentionRun(t *testing.T) {
	a := Attention{Batch: 3, Queries: 77, Keys: 77, Heads: 4, KVHeads: 2, HeadDim: 80, Backward: true, Deterministic: true, Scale: 0.5}
	f := newFake(t, nil)
	s := &dnnState{version: 91400}
	p, err := s.plan(a, operandsOf(a), 90, 0)
	if err != nil {
		t.Fatal(err)
	}
	alloc, send := cuMemAlloc, cuMemcpyHtoDAsync
	defer func() { cuMemAlloc, cuMemcpyHtoDAsync = alloc, send }()
	var sent []int32
	cuMemAlloc = func(at *uintptr, _ uint64) int32 { *at = 1024; return 0 }
	cuMemcpyHtoDAsync = func(_ uintptr, x unsafe.Pointer, n uint64, _ uintptr) int32 {
		sent = slices.Clone(unsafe.Slice((*int32)(x), n/4))
		return 0
	}
	if err := p.sendLens(a, 0); err != nil || !slices.Equal(sent, []int32{77, 77, 77, 0, 77, 77, 77, 0}) {
		t.Errorf("lengths %v, %v", sent, err)
	}
	var o Operands
	for i, v := range []*HeadView{&o.Q, &o.K, &o.V, &o.Out, &o.DOut, &o.DQ, &o.DK, &o.DV} {
		v.At = uintptr(16 * (i + 1))
	}
	o.LSE, o.Delta, o.Workspace = 256, 272, 4096
	dnnExecute = func(_, _, pack uintptr) int32 {
		r := f.all[pack]
		if r.attrs[1003] != "6=4096" {
			t.Errorf("workspace %s", r.attrs[1003])
		}
		at := map[string]bool{}
		for x := range strings.SplitSeq(strings.TrimPrefix(r.attrs[1001], "6="), ",") {
			at[x] = true
		}
		for _, want := range []uintptr{16, 32, 48, 64, 80, 96, 112, 128, 256, 272, 1024, 1040, uintptr(unsafe.Pointer(&s.values[0]))} {
			if !at[fmt.Sprint(want)] {
				t.Errorf("no operand at %d: %s", want, r.attrs[1001])
			}
		}
		return 0
	}
	a.Scale = 0.25
	if err := s.run(p, a, o); err != nil || math.Float32frombits(s.values[0]) != 0.25 || len(f.live) != 2 {
		t.Errorf("%v, scale %g, %d descriptors are left", err, math.Float32frombits(s.values[0]), len(f.live))
	}
}

// A plan is built once for each way in which operands lie. If there is none, the GPU continues to work.
func TestPrepareAttention(t *testing.T) {
	f := newFake(t, []int32{4})
	g := &GPU{Arch: 90, Memory: 1 << 40, work: make(chan func(), 1), dnn: &dnnState{version: 91900}}
	defer close(g.work)
	go func() {
		for call := range g.work {
			call()
		}
	}()
	o, moved, apart := operandsOf(causal), operandsOf(causal), operandsOf(causal)
	moved.Q.At, apart.Q.Row = 16, 4096
	for i, c := range []struct {
		a     Attention
		o     Operands
		built bool
		want  string // of the error
	}{
		{causal, o, true, ""},
		{with(func(a *Attention) { a.Scale = 7 }), moved, false, ""},
		{causal, apart, true, ""},
		{with(func(a *Attention) { a.Deterministic = true }), o, true, "not deterministic"},
		{with(func(a *Attention) { a.Deterministic = true }), moved, false, "not deterministic"},
		{with(func(a *Attention) { a.HeadDim = 20 }), o, false, "multiple of 8"},
	} {
		calls := len(f.calls)
		_, err := g.PrepareAttention(c.a, c.o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || g.Err() != nil {
			t.Errorf("%d: %v, the GPU's error is %v", i, err, g.Err())
		}
		if built := len(f.calls) > calls; built != c.built {
			t.Errorf("%d: built: %v", i, built)
		}
	}
}

// A plan needs a workspace of the size that cuDNN says. One that there was no memory for is built again.
func TestPreparedMemory(t *testing.T) {
	f := newFake(t, nil)
	f.workspace = []int64{1 << 20}
	alloc, send, text := cuMemAlloc, cuMemcpyHtoDAsync, cuGetErrorString
	defer func() { cuMemAlloc, cuMemcpyHtoDAsync, cuGetErrorString = alloc, send, text }()
	code := int32(2)
	cuGetErrorString = func(int32, *uintptr) int32 { return 1 }
	cuMemAlloc = func(at *uintptr, _ uint64) int32 { *at = 1024; return code }
	cuMemcpyHtoDAsync = func(uintptr, unsafe.Pointer, uint64, uintptr) int32 { return 0 }
	g := &GPU{Arch: 90, Memory: 1 << 40, work: make(chan func(), 1), dnn: &dnnState{version: 91900}}
	defer close(g.work)
	go func() {
		for call := range g.work {
			call()
		}
	}()
	padded := with(func(a *Attention) { a.Padded = true })
	for _, lacking := range []bool{true, false, false} {
		if code = 0; lacking {
			code = 2
		}
		size, err := g.PrepareAttention(padded, operandsOf(padded))
		if (err != nil) != lacking || err == nil && size != 1<<20 || g.Err() != nil {
			t.Errorf("memory is lacking: %v: %d bytes of workspace, %v; the GPU's error is %v", lacking, size, err, g.Err())
		}
	}
}

func TestUnaligned(t *testing.T) {
	o := operandsOf(causal)
	if err := o.unaligned(); err != nil {
		t.Error(err)
	}
	at, row := o, o
	at.K.At, row.DV.Row = 1000, 2052
	if at.unaligned() == nil || row.unaligned() == nil {
		t.Error("operands that are not aligned are accepted")
	}
}
