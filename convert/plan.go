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
	"gqa/convert/calibrate"
	"gqa/convert/merge"
	"gqa/convert/offload"
	"gqa/internal/weights"
)

// Target is the form in which a conversion is written.
type Target string

// The targets.
const (
	Native   Target = "native"   // fewer KV heads, in the family's class, else in a neighbour's, else as Own
	Own      Target = "own"      // fewer KV heads in the family's own tensors, whatever loads them
	Expanded Target = "expanded" // a KV head for each head, pooled ones repeated: loads wherever such a model does, saves no cache
	GGUF     Target = "gguf"     // fewer KV heads, as llama.cpp loads them
)

// Targets lists the targets.
var Targets = []string{string(Native), string(Own), string(Expanded), string(GGUF)}

// Sites says which kinds of attention are converted.
type Sites string

// The choices of sites.
const (
	DefaultSites Sites = "default" // all but those of an encoder beside a decoder, as in the paper
	AllSites     Sites = "all"
)

// SiteChoices lists them.
var SiteChoices = []string{string(DefaultSites), string(AllSites)}

// of are the sites of a that are meant.
func (s Sites) of(a *configs.Arch) []configs.Site {
	if s == AllSites {
		return a.Sites()
	}
	return a.DefaultSites()
}

// Options say what to convert to.
type Options struct {
	ByLayer  []int // KV heads of each layer, in place of Groups; nil: Groups in all
	Groups   int   // KV heads of the result; must divide those of the source
	Method   Method
	Grouping Grouping // empty: Contiguous
	Seed     uint64   // of Method Random and of a search for groups
	// Calibration is text to run the model on, so that heads are compared in what they do with it; nil: by their weights alone.
	Calibration *calibrate.Data
	Refine      int               // steps of fitting attention to what the original does; 0: none
	RefineBy    RefineBy          // empty: BySize
	Target      Target            // empty: Native
	Sites       Sites             // empty: DefaultSites
	DType       checkpoints.DType // of the float tensors; 0 keeps each tensor's own
	ShardSize   int64             // most bytes of tensor data per file; 0: one file, or as many as the source's largest asks for
}

// Plan is a conversion that has been checked and not yet begun.
type Plan struct {
	Source *weights.Source
	Arch   *configs.Arch // of the result
	Options
	Specs []checkpoints.Spec // what will be written
	Files []string           // what will be copied beside the weights, as paths below their folder
	Left  []string           // what else lies there, and will not
	// OnMerge, if not nil, is told of each step of a merge: MergeWork in all, before anything is written.
	OnMerge func(n int64)

	sites      []configs.Site          // what is converted
	converted  *configs.Arch           // with Groups KV heads there: Arch, unless expanded
	pooled     map[string]pooledTensor // what is computed, by tensor name
	changed    map[string]bool         // the weights that a merge computes, by the names of Arch.Params
	ungrouping map[string]any          // what an expanded result's config.json says otherwise than the source's
	via        *viaNeighbour           // into a neighbour's class; nil: none
	gguf       *llamaFile              // of Target GGUF
	whole      sync.Mutex              // held while a tensor is in memory whole: one at a time
	flaws      flaws                   // of what is copied
	stored     []float32               // that tensor, as the source has it: memory for the next
	merged     *offload.Store          // weights that are computed a layer at a time, by the names of Arch.Params
	layers     []Layer
	joint      *LayerFit // of all layers together; nil: there was none
	// orders are the groups of sites whose layers must have one order of heads, where groups are chosen.
	orders map[configs.Site][][]int
}

// pooledTensor is a tensor of the result that is computed: the weights it is made of in the source (one, or a fused
// tensor's query, key and value), and, in the same order, where they go in the result and how many KV heads each becomes.
type pooledTensor struct {
	from, to []configs.Param
	groups   []int // 0: as it is
	size     int   // elements of the result
	part     int   // which of the tensors that are its rows, if the weight has Parts
}

// NewPlan checks a conversion of src against o and lays it out. Nothing is read but headers, nothing written.
func NewPlan(src *weights.Source, o Options) (*Plan, error) {
	o.Target, o.Grouping, o.Sites = cmp.Or(o.Target, Native), cmp.Or(o.Grouping, Contiguous), cmp.Or(o.Sites, DefaultSites)
	o.RefineBy = cmp.Or(o.RefineBy, BySize)
	if err := o.check(src.Arch); err != nil {
		return nil, OptionError{err}
	}
	sites := o.Sites.of(src.Arch)
	if o.ByLayer != nil {
		if err := o.checkLayers(src.Arch); err != nil {
			return nil, err
		}
		o.Groups = slices.Max(o.ByLayer)
	} else if err := checkGroups(src.Arch, o.Groups, sites); err != nil {
		return nil, err
	}
	if err := o.checkMerge(src.Arch); err != nil {
		return nil, OptionError{err}
	}
	p := &Plan{Source: src, Options: o, sites: sites, converted: src.Arch.WithKVHeads(o.Groups, sites...)}
	if o.ByLayer != nil {
		p.converted = src.Arch.WithLayerKVHeads(o.ByLayer)
	}
	p.Arch = p.converted
	if o.Target == Expanded {
		var err error
		if p.Arch, p.ungrouping, err = src.Arch.Ungrouped(src.Config); err != nil {
			return nil, err
		}
	}
	if o.ShardSize == 0 {
		p.ShardSize = sourceShardSize(src)
	}
	if o.Target == GGUF {
		return p, p.planGGUF()
	}
	if err := p.planTensors(); err != nil {
		return nil, err
	}
	if err := p.planViaNeighbour(); err != nil {
		return nil, err
	}
	var err error
	p.Files, p.Left, err = src.SideFiles()
	return p, err
}

// OptionError says that options do not go with each other, or with this kind of checkpoint.
type OptionError struct{ Err error }

// Error is what does not go with what.
func (e OptionError) Error() string { return e.Err.Error() }

// Unwrap is Err.
func (e OptionError) Unwrap() error { return e.Err }

// ErrGroups is wrapped by the error about a group count that the checkpoint cannot have.
var ErrGroups = errors.New("groups")

func checkGroups(a *configs.Arch, groups int, sites []configs.Site) error {
	legal := a.LegalGroups(sites...)
	if slices.Contains(legal, groups) {
		return nil
	}
	if a.KVHeads == 1 && len(a.Sites()) == 1 {
		return fmt.Errorf("%w is %d, but the checkpoint's %d heads share one KV head already (multi-query): there is nothing to merge",
			ErrGroups, groups, a.Heads)
	}
	if a.LayerKVHeads != nil {
		return fmt.Errorf("%w is %d, want what divides the KV heads of every layer (%s): one of %v; --groups-per-layer %[3]s leaves them as they are",
			ErrGroups, groups, list(a.LayerKVHeads), legal)
	}
	has := fmt.Sprintf("%d KV heads", a.SiteKVHeads(sites[0]))
	for _, s := range sites[1:] {
		if kv := a.SiteKVHeads(s); kv != a.SiteKVHeads(sites[0]) {
			has += fmt.Sprintf(" and %d at %s", kv, s)
		}
	}
	return fmt.Errorf("%w is %d, want a divisor of the checkpoint's %s (%d heads): one of %v", ErrGroups, groups, has, a.Heads, legal)
}

// errLayers is ErrGroups about the KV heads of each layer.
var errLayers = fmt.Errorf("%w-per-layer", ErrGroups)

// checkLayers looks at the KV heads of each layer.
func (o Options) checkLayers(a *configs.Arch) error {
	switch {
	case len(a.Sites()) > 1:
		return fmt.Errorf("%w is for models with one kind of attention; family %s has %v", errLayers, a.Family.Name, a.Sites())
	case len(o.ByLayer) != a.Layers:
		return fmt.Errorf("%w has %d numbers, want %d, one for each layer", errLayers, len(o.ByLayer), a.Layers)
	case o.Merges():
		return fmt.Errorf("%w goes with --method mean, first or random alone; leave out %s", errLayers, o.asked())
	}
	for i, groups := range o.ByLayer {
		if legal := divisors(a.LayerKV(i)); !slices.Contains(legal, groups) {
			return fmt.Errorf("%w has %d for layer %d, want a divisor of its %d KV heads: one of %v", errLayers, groups, i, a.LayerKV(i), legal)
		}
	}
	return nil
}

func (o Options) check(a *configs.Arch) error {
	switch {
	case !slices.Contains(Methods, string(o.Method)):
		return fmt.Errorf("method %q is unknown; want one of %v", o.Method, Methods)
	case !slices.Contains(Groupings, string(o.Grouping)):
		return fmt.Errorf("grouping %q is unknown; want one of %v", o.Grouping, Groupings)
	case o.Grouping == Similar && a.Position == configs.PositionALiBi && o.Groups > 1:
		return errors.New("grouping similar reorders heads, but with ALiBi a head's number decides how far it sees; leave --grouping out")
	case !slices.Contains(RefineChoices, string(o.RefineBy)):
		return fmt.Errorf("refine-by %q is unknown; want one of %v", o.RefineBy, RefineChoices)
	case !slices.Contains(Targets, string(o.Target)):
		return fmt.Errorf("target %q is unknown; want one of %v", o.Target, Targets)
	case !slices.Contains(SiteChoices, string(o.Sites)):
		return fmt.Errorf("sites %q is unknown; want one of %v", o.Sites, SiteChoices)
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
	sources, err := p.Source.Arch.Tensors()
	if err != nil {
		return err
	}
	dropped := map[string]bool{} // of heads that are no more
	for _, t := range sources {
		dropped[t.Name] = stored[t.Name] == nil
	}
	for _, name := range p.Source.Names() {
		if dropped[name] {
			continue
		}
		if err := p.planTensor(name, name, stored[name]); err != nil {
			return err
		}
		delete(stored, name)
	}
	for _, t := range targets { // of heads that there were none of
		if stored[t.Name] == nil {
			continue
		}
		if err := p.planTensor(t.Name, p.pooled[t.Name].from[0].Tensor, t.Shape); err != nil {
			return err
		}
	}
	return nil
}

// planTensor adds a tensor of the result, which has the dtype of one of the source's. What has no shape is carried along as it is.
func (p *Plan) planTensor(name, source string, shape []int) error {
	t, _ := p.Source.Tensor(source)
	spec := checkpoints.Spec{Name: name, DType: t.DType, Shape: shape}
	switch {
	case shape == nil:
		spec.Shape = t.Shape
	case p.DType != 0 && spec.DType.IsFloat():
		spec.DType = p.DType
	}
	if _, ok := p.pooled[name]; ok && !spec.DType.IsFloat() {
		return fmt.Errorf("%s: tensor %s is %s: only float tensors (F64, F32, F16, BF16) can be pooled; convert the unquantised checkpoint", t.File, source, spec.DType)
	}
	p.Specs = append(p.Specs, spec)
	return nil
}

// planPooled finds the tensors that a change of KV heads touches. With numbers and layout unchanged there are none.
func (p *Plan) planPooled() error {
	p.pooled, p.changed = map[string]pooledTensor{}, p.merging()
	var lists [3][]configs.Param // the same weights in the same order
	for i, a := range []*configs.Arch{p.Source.Arch, p.Arch, p.converted} {
		var err error
		if lists[i], err = a.Params(); err != nil {
			return err
		}
	}
	from, to, converted := lists[0], lists[1], lists[2]
	touched := map[string]bool{}
	for i, w := range to {
		other := w.KVHeads != from[i].KVHeads || converted[i].KVHeads != from[i].KVHeads || !slices.Equal(w.Rows, from[i].Rows)
		touched[w.Tensor] = touched[w.Tensor] || other || p.changed[w.Name]
	}
	for i, w := range to {
		if !touched[w.Tensor] {
			continue
		}
		for part, name := range w.Tensors() {
			t := p.pooled[name]
			t.from, t.to, t.groups = append(t.from, from[i]), append(t.to, w), append(t.groups, converted[i].KVHeads)
			t.size, t.part = t.size+w.Size(), part
			p.pooled[name] = t
		}
	}
	return nil
}

// merging are the names of the weights that a merge computes.
func (p *Plan) merging() map[string]bool {
	changed := map[string]bool{}
	for _, s := range p.modules() {
		for role := range s.parts(&merge.Attention{}) {
			changed[s.param(role, false)], changed[s.param(role, true)] = true, true
		}
		if s.table != "" && p.Grouping == Similar {
			changed[s.prefix+s.table] = true
		}
	}
	return changed
}

// Pooled is how many tensors are computed rather than copied.
func (p *Plan) Pooled() int {
	if p.gguf != nil {
		return p.gguf.pooled(p)
	}
	return len(p.pooled)
}

// Work is how many bytes of tensor data Run tells its progress of.
func (p *Plan) Work() int64 {
	if p.via != nil {
		return p.via.stage.Bytes() + p.Bytes()
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
