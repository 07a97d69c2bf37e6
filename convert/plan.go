// Package convert turns a multi-head-attention checkpoint into one with fewer KV heads. A [Plan] describes how each
// weight of the result is computed and how the result is written. Running it writes the result into a new folder, with
// only a few megabytes of weights in memory at a time.
//
// The methods Mean, First and Random are those of Ainslie et al. 2023 (arXiv 2305.13245): the key and value projection
// heads of each group become one. The others are described in package merge.
package convert

import (
	"strings"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert/merge"
	"gqa/convert/target"
	"gqa/internal/weights"
)

// Source is an opened checkpoint; its fields Arch and Dir describe its architecture and location. Close it after use.
type Source = weights.Source

// SourceOptions provide what a checkpoint without config.json lacks.
type SourceOptions = weights.Options

// Open opens a checkpoint: a folder with a Hugging Face model, a .safetensors or PyTorch file, an index file, or the
// folder of a finished run. It returns an error if a tensor is unknown or missing, or if its shape does not match
// config.json.
func Open(path string, o SourceOptions) (*Source, error) { return weights.Open(path, o) }

// Plan is a conversion that has been checked but not started. It is immutable and may be run several times; its fields
// must not be changed.
type Plan struct {
	Source *Source
	Arch   *configs.Arch // as which the result is loaded
	Options
	Specs []checkpoints.Spec // the tensors that will be written
	Files []string           // the files that will be copied beside the weights, as paths relative to their folder
	Left  []string           // the other files there, which will not be copied

	sites   []configs.Site // the converted sites
	modules []module       // the attention modules that are merged, in the order of the forward pass
	merged  map[string]bool
	result  target.Result
	target  target.Target
}

// NewPlan checks and plans a conversion of src. It reads only headers and writes nothing. The error is an OptionError if
// options cannot be combined, and wraps ErrGroups if src cannot have the goal's KV heads.
func NewPlan(src *Source, o Options) (*Plan, error) {
	o = o.withDefaults()
	if o.Goal.latent != nil {
		o.Goal.latent = o.Goal.latent.sized(src.Arch)
	}
	if err := o.check(src.Arch); err != nil {
		return nil, err
	}
	if o.ShardSize == 0 {
		o.ShardSize = sourceShardSize(src)
	}
	p := &Plan{Source: src, Options: o, sites: o.Sites.of(src.Arch)}
	p.modules = o.mergedModules(src.Arch, p.sites)
	if err := p.setResult(); err != nil {
		return nil, err
	}
	var err error
	if p.target.Layout().SideFiles {
		p.Files, p.Left, err = src.SideFiles()
	}
	return p, err
}

// setResult determines the weights of the result, and lays them out.
func (p *Plan) setResult() (err error) {
	if l := p.Goal.latent; l != nil {
		a, config, err := l.arch(p.Source, p.Target)
		if err != nil {
			return err
		}
		return p.setLatent(a, config)
	}
	p.merged = p.mergedWeights(p.modules)
	if p.result, err = p.resultOf(p.Source, p.merged); err != nil {
		return err
	}
	return p.layOut()
}

// setLatent is setResult for a result with the latent attention of a, and its config.json if that is of another family.
func (p *Plan) setLatent(a *configs.Arch, config []byte) (err error) {
	if p.result, p.merged, err = p.latentResult(p.Source, a, config); err != nil {
		return err
	}
	return p.layOut()
}

// layOut lays the result out for the target.
func (p *Plan) layOut() (err error) {
	if p.target, err = target.New(p.Target, p.result); err == nil {
		layout := p.target.Layout()
		p.Arch, p.Specs = layout.Arch, layout.Specs
	}
	return err
}

// sourceShardSize returns the size of the source's largest file, which no file of the result needs to exceed, or 0 if
// there is one file.
func sourceShardSize(src *Source) int64 {
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

// mergedWeights returns the names of the weights that a merge of the modules computes.
func (o Options) mergedWeights(modules []module) map[string]bool {
	merged := map[string]bool{}
	for _, m := range modules {
		for role := range m.parts(&merge.Attention{}) {
			merged[m.param(role, false)], merged[m.param(role, true)] = true, true
		}
		if m.table != "" && o.Grouping == Similar {
			merged[m.prefix+m.table] = true
		}
	}
	return merged
}

// resultOf describes how each weight of src's conversion is computed. merged holds the names of those that a merge
// computes.
func (o Options) resultOf(src *Source, merged map[string]bool) (target.Result, error) {
	r := target.Result{Source: src, Arch: o.Goal.arch(src.Arch, o.Sites.of(src.Arch)), DType: o.DType, ShardSize: o.ShardSize}
	from, err := src.Arch.Params() // the result's weights, in the same order
	if err != nil {
		return r, err
	}
	to, err := r.Arch.Params()
	for i, p := range to {
		r.Weights = append(r.Weights, target.Weight{Param: p, From: from[i], Kind: o.kind(from[i], p, merged[p.Name])})
	}
	return r, err
}

// kind returns how a weight of the result is derived from the source's.
func (o Options) kind(from, to configs.Param, merged bool) target.Kind {
	switch {
	case merged:
		return target.Computed
	case from.KVHeads == to.KVHeads:
		return target.Copied
	case o.Pool != nil:
		return target.Computed
	}
	switch o.poolBy(to) {
	case Random:
		return target.Computed
	case First:
		return target.First
	}
	return target.Averaged
}

// poolBy returns the method for a weight that is pooled on its own.
func (o Options) poolBy(w configs.Param) Method {
	if w.Role == configs.KNorm && o.Method == Random {
		return Mean // a new head is as large as the previous ones
	}
	return o.Method
}

// Pooled returns the number of tensors that are computed rather than copied.
func (p *Plan) Pooled() int { return p.target.Layout().Computed }

// Work returns the total number of bytes of tensor data that a run reports as written.
func (p *Plan) Work() int64 { return p.target.Layout().Work }

// Bytes returns the size of the result's tensor data.
func (p *Plan) Bytes() int64 {
	var n int64
	for _, s := range p.Specs {
		n += s.Bytes()
	}
	return n
}

// Note describes an aspect of a conversion that a user may not expect.
type Note struct {
	Text    string
	Err     error    // the error that Text describes, if any
	Targets []Target // targets without the problem
}

// String returns the note as one sentence.
func (n Note) String() string {
	var parts []string
	if n.Text != "" {
		parts = append(parts, n.Text)
	}
	if n.Err != nil {
		parts = append(parts, n.Err.Error())
	}
	text := strings.Join(parts, ": ")
	if len(n.Targets) > 0 {
		text += "; write target " + n.TargetNames() + " for others"
	}
	return text
}

// MarshalText returns String.
func (n Note) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// TargetNames returns the names of Targets as alternatives: gguf or expanded.
func (n Note) TargetNames() string {
	names := make([]string, len(n.Targets))
	for i, t := range n.Targets {
		names[i] = string(t)
	}
	return strings.Join(names, " or ")
}

// Notes returns what a user may not expect: what the method could not use, and where the program that loads the result
// computes something different from the source's class.
func (p *Plan) Notes() []Note {
	var notes []Note
	if (p.Method == Calibrated || p.Method == MethodLatent) && p.Calibration == nil && len(p.modules) > 0 {
		notes = append(notes, Note{Text: "no calibration: heads were compared by their weights alone; text like that which the model was trained on does far better"})
	}
	if l := p.Goal.latent; l != nil && p.Target == DeepSeek {
		notes = append(notes, l.notes()...)
	}
	for _, text := range p.target.Layout().Notes {
		notes = append(notes, Note{Text: text})
	}
	if p.Target != GGUF && p.Target != Expanded && p.Arch.LayerKVHeads != nil {
		notes = append(notes, Note{Text: "layers with different numbers of KV heads load in this toolkit only", Targets: p.elsewhere()})
	}
	return notes
}

// elsewhere lists the targets in which other programs can load different numbers of KV heads per layer.
func (p *Plan) elsewhere() []Target {
	if target.Check(GGUF, p.result) != nil {
		return []Target{Expanded}
	}
	return []Target{GGUF, Expanded}
}
