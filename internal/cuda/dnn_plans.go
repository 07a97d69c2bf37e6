//go:build cuda && linux

package cuda

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"
)

// dnnState is the cuDNN state of a GPU's thread.
type dnnState struct {
	handle  uintptr
	version uint64
	values  [16]uint32 // numbers passed by value in the current call. Their memory is pinned.
	pinned  runtime.Pinner
}

func (g *GPU) startDNN() error {
	if g.dnn != nil {
		return nil
	}
	if err := loadDNN(); err != nil {
		return err
	}
	s := &dnnState{version: dnnGetVersion()}
	if err := dnnError(dnnCreate(&s.handle), "cudnnCreate"); err != nil {
		return err
	}
	if err := dnnError(dnnSetStream(s.handle, g.stream), "cudnnSetStream"); err != nil {
		return err
	}
	s.pinned.Pin(s) // last, because collecting a pinner that still pins something panics
	g.dnn = s
	return nil
}

// attentionKey identifies the attentions that share a plan: everything but addresses and the scale, which is passed by
// value.
type attentionKey struct {
	Attention
	views [8]HeadView
}

func keyOf(a Attention, o Operands) attentionKey {
	k := attentionKey{a, o.views()}
	k.Scale = 0
	for i := range k.views {
		k.views[i].At = 0
	}
	return k
}

// attentionPlan is a plan with its tensors, or the reason why there is none.
type attentionPlan struct {
	dnnPlan
	memory []inMemory
	values []byValue // the first is the scale
	lens   uintptr   // of a padded plan: the numbers of queries of all sequences, and from keys on the full numbers of keys
	keys   uintptr
	err    error
}

// PrepareAttention returns an error if cuDNN cannot compute the attention for operands that lie like these; their addresses may
// differ later, and those that are not views may be missing. Otherwise it returns the size of Operands.Workspace in bytes. The
// plan is built by the first call and kept, as is an error. An error does not make the GPU fail.
func (g *GPU) PrepareAttention(a Attention, o Operands) (workspace int64, err error) {
	if err := o.unaligned(); err != nil {
		return 0, err
	}
	key := keyOf(a, o)
	if p, ok := g.plans.Load(key); ok {
		p := p.(*attentionPlan)
		return p.workspace, p.err
	}
	var p *attentionPlan
	err = g.Wait(func() error { p = g.plan(key, a, o); return nil })
	if p == nil {
		return 0, err
	}
	return p.workspace, p.err
}

// Attend computes attention or its gradient. PrepareAttention should have returned no error.
func (g *GPU) Attend(a Attention, o Operands) {
	name := "attention"
	if a.Backward {
		name = "gradient of attention"
	}
	g.do(name, func() error {
		p := g.plan(keyOf(a, o), a, o)
		err := p.err
		if err == nil {
			err = g.dnn.run(p, a, o)
		}
		if err != nil {
			return fmt.Errorf("attention %+v: %w", a, err)
		}
		return nil
	})
}

// plan returns the plan for a key, which it builds if there is none. It runs on the GPU's thread.
func (g *GPU) plan(key attentionKey, a Attention, o Operands) *attentionPlan {
	if p, ok := g.plans.Load(key); ok {
		return p.(*attentionPlan)
	}
	p, err := new(attentionPlan), g.startDNN()
	if err == nil {
		// The gradients of all scores may need a lot. A limit that does not depend on what is free makes the choice repeatable.
		limit := int64(g.Memory / 8)
		p, err = g.dnn.plan(a, o, g.Arch, limit)
	}
	p.err = err
	if err == nil {
		if p.err = p.sendLens(a, g.stream); p.err != nil {
			return p // not kept: there may be memory the next time
		}
	}
	g.plans.Store(key, p)
	return p
}

// plan builds a plan that needs at most limit bytes of workspace.
func (s *dnnState) plan(a Attention, o Operands, arch int, limit int64) (*attentionPlan, error) {
	p := new(attentionPlan)
	if err := a.refused(s.version, arch); err != nil {
		return p, err
	}
	g := newAttentionGraph(a, o, s.version)
	p.memory, p.values = g.memory, g.values
	var err error
	p.dnnPlan, err = g.build(s.handle, choice{a.Deterministic, limit})
	return p, err
}

// sendLens allocates and sets a padded plan's constants.
func (p *attentionPlan) sendLens(a Attention, stream uintptr) error {
	padded := false
	for _, m := range p.memory {
		padded = padded || m.slot == slotQueryLens
	}
	if !padded {
		return nil
	}
	n := (a.Batch + 3) / 4 * 4 // aligns the second half
	lens := make([]int32, 2*n)
	for i := range a.Batch {
		lens[i], lens[n+i] = int32(a.Queries), int32(a.Keys)
	}
	bytes := uint64(4 * len(lens))
	if err := driverError(cuMemAlloc(&p.lens, bytes), "cuMemAlloc of sequences' lengths"); err != nil {
		return err
	}
	p.keys = p.lens + uintptr(4*n)
	// The driver has read pageable memory when the call returns.
	return driverError(cuMemcpyHtoDAsync(p.lens, unsafe.Pointer(&lens[0]), bytes, stream), "cuMemcpyHtoDAsync of sequences' lengths")
}

// run executes a plan on the operands' memory.
func (s *dnnState) run(p *attentionPlan, a Attention, o Operands) error {
	at := o.addresses()
	at[slotQueryLens] = p.lens
	if !a.Padded {
		at[slotKeyLens] = p.keys
	}
	n := len(p.memory) + len(p.values)
	uids, pointers := make([]int64, 0, n), make([]uintptr, 0, n)
	for _, m := range p.memory {
		uids, pointers = append(uids, m.uid), append(pointers, at[m.slot])
	}
	for i, v := range p.values {
		s.values[i] = v.bits
		uids, pointers = append(uids, v.uid), append(pointers, uintptr(unsafe.Pointer(&s.values[i])))
	}
	s.values[0] = math.Float32bits(a.Scale)
	return p.execute(s.handle, uids, pointers, o.Workspace)
}
