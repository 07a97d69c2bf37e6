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
)

// Targets lists the targets.
var Targets = target.Names

// Sites says which kinds of attention are converted.
type Sites string

// The choices of sites.
const (
	DefaultSites Sites = "default" // all but those of an encoder beside a decoder, as in the paper
	AllSites     Sites = "all"
)

// SiteChoices lists the choices of sites.
var SiteChoices = []string{string(DefaultSites), string(AllSites)}

// of returns the sites of a that are converted.
func (s Sites) of(a *configs.Arch) []configs.Site {
	if s == AllSites {
		return a.Sites()
	}
	return a.DefaultSites()
}

// RefineBy is what a refinement fits at once.
type RefineBy string

// The values of RefineBy.
const (
	ByLayer RefineBy = "layer" // one layer after the other, in the memory of one
	ByModel RefineBy = "model" // all layers, with both models in memory
	BySize  RefineBy = "size"  // all layers if the model's weights take a gigabyte in f32 at most, else one after the other
)

// RefineChoices lists the values of RefineBy.
var RefineChoices = []string{string(BySize), string(ByModel), string(ByLayer)}

// Options say what to convert to.
type Options struct {
	Goal     Goal
	Method   Method
	Pool     Pool     // a method of the caller's, which Method then gives a name; nil: Method is one of Methods
	Grouping Grouping // empty: Contiguous
	Seed     uint64   // of Method Random and of a search for groups
	// Calibration is text to run the model on, so that heads are compared in what they do with it; nil: by their weights alone.
	// calibrate.Load reads it.
	Calibration *calibrate.Data
	Refine      int               // steps of fitting attention to what the original does; 0: none
	RefineBy    RefineBy          // empty: BySize
	Target      Target            // empty: Native
	Sites       Sites             // empty: DefaultSites
	DType       checkpoints.DType // of the float tensors; 0 keeps each tensor's own
	ShardSize   int64             // most bytes of tensor data per file; 0: one file, or as many as the source's largest asks for
}

// Merges reports whether a layer's q, k, v and o are computed together, because what reads keys and values changes with them.
func (o Options) Merges() bool {
	return o.Method.Aligns() || o.Grouping == Similar || o.Refine > 0
}

// merging lists the settings for which Merges is true.
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

// withDefaults returns o with a choice in the place of each empty one.
func (o Options) withDefaults() Options {
	o.Target, o.Grouping, o.Sites = cmp.Or(o.Target, Native), cmp.Or(o.Grouping, Contiguous), cmp.Or(o.Sites, DefaultSites)
	o.RefineBy = cmp.Or(o.RefineBy, BySize)
	return o
}

// check returns the reason why a cannot be converted so: an OptionError, or one that wraps ErrGroups.
func (o Options) check(a *configs.Arch) error {
	return cmp.Or(o.checkChoices(), o.checkPositions(a), o.Goal.check(a, o.Sites.of(a)), o.checkLayers(a), o.checkMerge())
}

// checkChoices refuses values that no option has.
func (o Options) checkChoices() error {
	methods := Methods
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

// checkPositions refuses to reorder heads that are not alike.
func (o Options) checkPositions(a *configs.Arch) error {
	if o.Grouping != Similar || a.Position != configs.PositionALiBi || o.Goal.Groups() <= 1 {
		return nil
	}
	return OptionError{
		Err:      errors.New("grouping similar reorders heads, but with ALiBi a head's number decides how far it sees"),
		LeaveOut: []Setting{{OptionGrouping, string(Similar)}},
	}
}

// checkLayers refuses to merge where layers have numbers of KV heads of their own, before or after.
func (o Options) checkLayers(a *configs.Arch) error {
	const alone = "method mean, first or random alone"
	switch {
	case !o.Merges():
		return nil
	case o.Goal.byLayer != nil:
		return OptionError{Err: fmt.Errorf("%w goes with %s", errLayers, alone), LeaveOut: o.merging()}
	case a.LayerKVHeads != nil:
		err := fmt.Errorf("the checkpoint's layers have KV heads of their own (%s), which goes with %s", list(a.LayerKVHeads), alone)
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
		return OptionError{Err: fmt.Errorf("method %s pools each weight by itself: it goes without grouping similar and refine", o.Method), LeaveOut: o.merging()}
	case o.Refine > 0 && o.Calibration == nil:
		return OptionError{
			Err:  errors.New("refine fits attention to what it does with text like that which the model was trained on, and there is none"),
			Give: []Setting{{OptionCalibration, "FILE"}},
		}
	case o.Method == Random && o.Merges():
		return OptionError{Err: errors.New("method random uses none of the heads, so there is nothing for grouping similar or refine to go by; choose another method")}
	}
	return nil
}
