package convert

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/convert/target"
)

// Target is the form in which a conversion is written: see [target.Name].
type Target = target.Name

// The targets, as package target describes them.
const (
	Native   = target.Native
	Own      = target.Own
	Expanded = target.Expanded
	GGUF     = target.GGUF
	MLA      = target.MLA
	DeepSeek = target.DeepSeek
)

// latentTarget reports whether a target is for latent attention.
func latentTarget(t Target) bool { return t == MLA || t == DeepSeek }

// Targets lists the targets.
var Targets = target.Names

// Sites selects the kinds of attention that are converted.
type Sites string

// The values of Sites.
const (
	DefaultSites Sites = "default" // all except those of an encoder beside a decoder, as in the paper
	AllSites     Sites = "all"
)

// SiteChoices lists the values of Sites.
var SiteChoices = []string{string(DefaultSites), string(AllSites)}

// of returns the sites of a that are converted.
func (s Sites) of(a *configs.Arch) []configs.Site {
	if s == AllSites {
		return a.Sites()
	}
	return a.DefaultSites()
}

// RefineBy selects what a refinement fits at once.
type RefineBy string

// The values of RefineBy.
const (
	ByLayer RefineBy = "layer" // one layer after the other; needs memory for one layer
	ByModel RefineBy = "model" // all layers; needs memory for both models
	BySize  RefineBy = "size"  // ByModel if the model's weights take at most a gigabyte in f32, otherwise ByLayer
)

// RefineChoices lists the values of RefineBy.
var RefineChoices = []string{string(BySize), string(ByModel), string(ByLayer)}

// Options describe a conversion.
type Options struct {
	Goal     Goal
	Method   Method
	Pool     Pool     // the caller's own method, which Method then names; nil if Method is one of Methods
	Grouping Grouping // empty means Contiguous
	Seed     uint64   // for Method Random and for a search for groups
	// Calibration is text to run the model on, so that heads are compared by what they compute; nil to compare them by
	// their weights alone. calibrate.Load reads it.
	Calibration *calibrate.Data
	Device      string            // what runs the model on the calibration text: auto, cpu, cuda or cuda:N; empty means cpu
	Refine      int               // steps of fitting attention to the original's output; 0 for none
	RefineBy    RefineBy          // empty means BySize
	Target      Target            // empty means Native
	Sites       Sites             // empty means DefaultSites
	DType       checkpoints.DType // of the float tensors; 0 keeps each tensor's own
	ShardSize   int64             // maximum bytes of tensor data per file; 0 for one file, or as many as the source's largest file requires
}

// Merges reports whether a layer's q, k, v and o are computed together, because q and o must change with the keys and
// values. They always are for latent attention.
func (o Options) Merges() bool {
	return o.Goal.latent != nil || o.Method.Aligns() || o.Grouping == Similar || o.Refine > 0
}

// merging lists the settings because of which Merges is true.
func (o Options) merging() (all []Setting) {
	if o.Method.Aligns() {
		all = append(all, Setting{OptionMethod, string(o.Method)})
	}
	if o.Grouping == Similar {
		all = append(all, Setting{OptionGrouping, string(o.Grouping)})
	}
	if o.Refine > 0 {
		all = append(all, Setting{Option: OptionRefine})
	}
	return all
}

// withDefaults returns o with empty choices replaced by their defaults.
func (o Options) withDefaults() Options {
	o.Target, o.Grouping, o.Sites = cmp.Or(o.Target, Native), cmp.Or(o.Grouping, Contiguous), cmp.Or(o.Sites, DefaultSites)
	o.RefineBy = cmp.Or(o.RefineBy, BySize)
	if o.Goal.latent != nil {
		o.Method = cmp.Or(o.Method, MethodLatent)
	}
	return o
}

// check returns the reason why a cannot be converted with o: an OptionError, or an error that wraps ErrGroups.
func (o Options) check(a *configs.Arch) error {
	return cmp.Or(o.checkChoices(), o.checkLatent(), o.checkPositions(a), o.Goal.check(a, o.Sites.of(a)), o.checkLayers(a), o.checkMerge())
}

// checkChoices returns an error for a value that its option does not have.
func (o Options) checkChoices() error {
	methods := Methods
	if o.Goal.latent != nil {
		methods = []string{string(MethodLatent)}
	}
	if o.Pool != nil {
		if o.Method == "" || slices.Contains(Methods, string(o.Method)) {
			return OptionError{Err: fmt.Errorf("method %q cannot be the name of another function; want one that is none of %v", o.Method, Methods)}
		}
		methods = []string{string(o.Method)}
	}
	for _, c := range []struct {
		option, value string
		choices       []string
	}{
		{"method", string(o.Method), methods},
		{"grouping", string(o.Grouping), Groupings},
		{"refine-by", string(o.RefineBy), RefineChoices},
		{"target", string(o.Target), Targets},
		{"sites", string(o.Sites), SiteChoices},
	} {
		if !slices.Contains(c.choices, c.value) {
			return OptionError{Err: fmt.Errorf("%s %q is unknown; want one of %v", c.option, c.value, c.choices)}
		}
	}
	if o.DType != 0 && !o.DType.IsFloat() {
		return OptionError{Err: fmt.Errorf("dtype %s is not one that floats are written in; want F64, F32, F16 or BF16", o.DType)}
	}
	return nil
}

// checkLatent returns an error for an option that latent attention and KV heads do not have in common.
func (o Options) checkLatent() error {
	wanted := o.Goal.latent != nil
	switch {
	case latentTarget(o.Target) != wanted:
		return OptionError{Err: fmt.Errorf("targets %s and %s are for the sizes of latent attention, the others for a number of KV heads", MLA, DeepSeek)}
	case wanted && o.Goal.latent.Bias && o.Target != DeepSeek:
		return OptionError{Err: fmt.Errorf("a bias of the latent is for target %s, which has a norm", DeepSeek)}
	case wanted && o.Grouping == Similar:
		return OptionError{Err: errors.New("latent attention has no groups of heads"), LeaveOut: []Setting{{OptionGrouping, string(Similar)}}}
	}
	return nil
}

// checkPositions returns an error if heads would be reordered although they are not interchangeable.
func (o Options) checkPositions(a *configs.Arch) error {
	if o.Grouping != Similar || a.Position != configs.PositionALiBi || o.Goal.Groups() <= 1 {
		return nil
	}
	return OptionError{
		Err:      errors.New("grouping similar reorders heads, but with ALiBi a head's number determines how far it sees"),
		LeaveOut: []Setting{{OptionGrouping, string(Similar)}},
	}
}

// checkLayers returns an error for a merge if layers have their own numbers of KV heads, before or after it.
func (o Options) checkLayers(a *configs.Arch) error {
	const plain = "method mean, first or random without grouping similar or refine"
	switch {
	case !o.Merges() || o.Goal.latent != nil:
		return nil
	case o.Goal.byLayer != nil:
		return OptionError{Err: fmt.Errorf("%w requires %s", errLayers, plain), LeaveOut: o.merging()}
	case a.LayerKVHeads != nil:
		err := fmt.Errorf("the checkpoint's layers have different numbers of KV heads (%s), which requires %s", list(a.LayerKVHeads), plain)
		return OptionError{Err: err, LeaveOut: o.merging()}
	}
	return nil
}

// checkMerge refuses options that make no merge together.
func (o Options) checkMerge() error {
	switch {
	case o.Refine < 0:
		return OptionError{Err: fmt.Errorf("refine is %d, want the number of steps to fit attention in, such as 600, or 0", o.Refine)}
	case o.Calibration != nil && !o.Merges():
		return OptionError{
			Err:      fmt.Errorf("method %s looks at no text", o.Method),
			LeaveOut: []Setting{{Option: OptionCalibration}},
			Give:     []Setting{{OptionMethod, "align or calibrated"}, {OptionGrouping, string(Similar)}, {Option: OptionRefine}},
		}
	case o.Pool != nil && o.Merges():
		return OptionError{Err: fmt.Errorf("method %s pools each weight by itself: it cannot be combined with grouping similar or refine", o.Method), LeaveOut: o.merging()}
	case o.Refine > 0 && o.Calibration == nil:
		return OptionError{
			Err:  errors.New("refine fits attention on text like that which the model was trained on, and there is none"),
			Give: []Setting{{OptionCalibration, "FILE"}},
		}
	case o.Method == Random && o.Merges():
		return OptionError{Err: errors.New("method random uses none of the heads, so grouping similar and refine have nothing to compare; choose another method")}
	}
	return nil
}
