// Package convert turns a multi-head-attention checkpoint into one with fewer KV heads: a plan says, tensor by tensor, what
// is copied and what is pooled; running it streams the plan into a new folder, one tensor in memory at a time.
//
// The method is that of Ainslie et al. 2023 (arXiv 2305.13245): the key and value projection heads of each group become one.
package convert

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert/merge"
	"gqa/convert/spill"
	"gqa/internal/weights"
)

// Target is the form in which a conversion is written.
type Target string

// The targets.
const (
	Native   Target = "native"   // fewer KV heads, in the family's class, else in a neighbour's, else as Own
	Own      Target = "own"      // fewer KV heads in the family's own tensors, whatever loads them
	Expanded Target = "expanded" // pooled heads repeated in place: loads wherever the original does, saves no cache
)

// Targets lists the targets.
var Targets = []string{string(Native), string(Own), string(Expanded)}

// Options say what to convert to.
type Options struct {
	Groups    int // KV heads of the result; must divide those of the source
	Method    Method
	Grouping  Grouping          // empty: Contiguous
	Seed      uint64            // of Method Random and of a search for groups
	Target    Target            // empty: Native
	DType     checkpoints.DType // of the float tensors; 0 keeps each tensor's own
	ShardSize int64             // most bytes of tensor data per file; 0: one file, or as many as the source's largest asks for
}

// Plan is a conversion that has been checked and not yet begun.
type Plan struct {
	Source *weights.Source
	Arch   *configs.Arch // of the result
	Options
	Specs []checkpoints.Spec // what will be written
	Files []string           // what will be copied beside the weights, base names
	// OnSite, if not nil, is told of each attention module as it is merged: Sites in all, before anything is written.
	OnSite func(n int64)

	pooled map[string]pooledTensor // what is computed, by tensor name
	way    *detour                 // into a neighbour's class; nil: none
	why    []error                 // why there is none, where one was looked for
	whole  sync.Mutex              // held while a tensor is in memory whole: one at a time
	merged *spill.Store            // weights that are computed a layer at a time, by the names of Arch.Params
	layers []Layer
}

// pooledTensor is a tensor of the result that is computed: the weights it is made of in the source (one, or a fused
// tensor's query, key and value), and, in the same order, where they go in the result.
type pooledTensor struct {
	from, to []configs.Param
	size     int // elements of the result
}

// NewPlan checks a conversion of src against o and lays it out. Nothing is read but headers, nothing written.
func NewPlan(src *weights.Source, o Options) (*Plan, error) {
	o.Target, o.Grouping = cmp.Or(o.Target, Native), cmp.Or(o.Grouping, Contiguous)
	if err := checkGroups(src.Arch, o.Groups); err != nil {
		return nil, err
	}
	if err := o.check(src.Arch); err != nil {
		return nil, err
	}
	p := &Plan{Source: src, Options: o, Arch: src.Arch.WithKVHeads(o.Groups)}
	if o.Target == Expanded {
		p.Arch = src.Arch.WithKVHeads(src.Arch.KVHeads)
	}
	if o.ShardSize == 0 {
		p.ShardSize = sourceShardSize(src)
	}
	if err := p.planTensors(); err != nil {
		return nil, err
	}
	if err := p.planDetour(); err != nil {
		return nil, err
	}
	var err error
	p.Files, err = sideFiles(src)
	return p, err
}

// ErrGroups is wrapped by the error about a group count that the checkpoint cannot have.
var ErrGroups = errors.New("groups")

func checkGroups(a *configs.Arch, groups int) error {
	if groups >= 1 && groups <= a.KVHeads && a.KVHeads%groups == 0 {
		return nil
	}
	if a.KVHeads == 1 {
		return fmt.Errorf("%w is %d, but the checkpoint's %d heads share one KV head already (multi-query): there is nothing to merge",
			ErrGroups, groups, a.Heads)
	}
	return fmt.Errorf("%w is %d, want a divisor of the checkpoint's %d KV heads (%d heads): one of %v",
		ErrGroups, groups, a.KVHeads, a.Heads, a.LegalGroups())
}

func (o Options) check(a *configs.Arch) error {
	switch {
	case !slices.Contains(Methods, string(o.Method)):
		return fmt.Errorf("method %q is unknown; want one of %v", o.Method, Methods)
	case !slices.Contains(Groupings, string(o.Grouping)):
		return fmt.Errorf("grouping %q is unknown; want one of %v", o.Grouping, Groupings)
	case o.Grouping == Similar && o.Method == Random:
		return errors.New("grouping similar has nothing to go by with method random, which uses no head; choose another method or leave --grouping out")
	case o.Grouping == Similar && a.Position == configs.PositionALiBi:
		return errors.New("grouping similar reorders heads, but with ALiBi a head's number decides how far it sees; leave --grouping out")
	case !slices.Contains(Targets, string(o.Target)):
		return fmt.Errorf("target %q is unknown; want one of %v", o.Target, Targets)
	case o.DType != 0 && !o.DType.IsFloat():
		return fmt.Errorf("dtype %s is not one that floats are written in; want F64, F32, F16 or BF16", o.DType)
	}
	return nil
}

// sourceShardSize keeps a sharded source sharded: no result file need be larger than the source's largest.
func sourceShardSize(src *weights.Source) int64 {
	if len(src.Files) < 2 {
		return 0
	}
	perFile := map[string]int64{}
	var largest int64
	for _, name := range src.Names() {
		t, _ := src.Tensor(name)
		perFile[t.File] += t.Bytes()
		largest = max(largest, perFile[t.File])
	}
	return largest
}

func (p *Plan) planTensors() error {
	if err := p.planPooled(); err != nil {
		return err
	}
	targets, err := p.Arch.Tensors()
	if err != nil {
		return err
	}
	stored := make(map[string][]int, len(targets))
	for _, t := range targets {
		stored[t.Name] = t.Shape
	}
	for _, name := range p.Source.Names() {
		t, _ := p.Source.Tensor(name)
		spec := t.Spec()
		if shape, ok := stored[name]; ok { // else carried along as it is
			spec.Shape = shape
			if p.DType != 0 && spec.DType.IsFloat() {
				spec.DType = p.DType
			}
		}
		if _, ok := p.pooled[name]; ok && !spec.DType.IsFloat() {
			return fmt.Errorf("%s: tensor %s is %s: only float tensors (F64, F32, F16, BF16) can be pooled; convert the unquantised checkpoint", t.File, name, spec.DType)
		}
		p.Specs = append(p.Specs, spec)
	}
	return nil
}

// planPooled finds the tensors that a change of KV heads touches. With the number unchanged there are none.
func (p *Plan) planPooled() error {
	p.pooled = map[string]pooledTensor{}
	if p.Groups == p.Source.Arch.KVHeads {
		return nil
	}
	from, err := p.Source.Arch.Params()
	if err != nil {
		return err
	}
	to, err := p.Arch.Params() // the same weights in the same order
	if err != nil {
		return err
	}
	touched, changed := map[string]bool{}, p.changed()
	for _, w := range to {
		touched[w.Tensor] = touched[w.Tensor] || w.PerKVHead || changed[w.Role]
	}
	for i, w := range to {
		if touched[w.Tensor] {
			t := p.pooled[w.Tensor]
			t.from, t.to, t.size = append(t.from, from[i]), append(t.to, w), t.size+w.Size()
			p.pooled[w.Tensor] = t
		}
	}
	return nil
}

// changed are the roles of what is computed beside what the KV heads hold.
func (p *Plan) changed() map[configs.Role]bool {
	changed := map[configs.Role]bool{}
	if p.merges() {
		for _, s := range sites(p.Source.Arch) {
			for role := range s.parts(p.Source.Arch, &merge.Attention{}) {
				changed[role] = true
			}
		}
	}
	return changed
}

// Pooled is how many of the family's tensors are computed rather than copied.
func (p *Plan) Pooled() int { return len(p.pooled) }

// Work is how many bytes of tensor data Run tells its progress of.
func (p *Plan) Work() int64 {
	if p.way != nil {
		return p.way.stage.Bytes() + p.Bytes()
	}
	return p.Bytes()
}

// Bytes is the size of the tensor data that will be written.
func (p *Plan) Bytes() int64 {
	var n int64
	for _, s := range p.Specs {
		n += s.Bytes()
	}
	return n
}
