package convert

import (
	"errors"
	"fmt"

	"gqa/internal/weights"
)

// ErrGroups is wrapped by errors about a number of KV heads that the checkpoint cannot have.
var ErrGroups = errors.New("groups")

// ErrNoConfig is wrapped by the error of Open about a checkpoint without config.json for which SourceOptions do not say enough.
var ErrNoConfig = weights.ErrNoConfig

// HeadsError reports SourceOptions.Heads that are not those of config.json.
type HeadsError = weights.HeadsError

// Option names one of Options, as gqa-convert's flags do.
type Option string

// The options that an OptionError may name.
const (
	OptionGroupsPerLayer Option = "groups-per-layer"
	OptionMethod         Option = "method"
	OptionGrouping       Option = "grouping"
	OptionCalibration    Option = "calibration"
	OptionRefine         Option = "refine"
)

// Setting is an option and the value that it has or could have; an empty value stands for any.
type Setting struct {
	Option Option
	Value  string
}

// OptionError reports options that do not go with each other, or with this kind of checkpoint.
type OptionError struct {
	Err      error
	LeaveOut []Setting // the settings that are in the way
	Give     []Setting // settings of which one would do
}

// Error returns the text of Err.
func (e OptionError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e OptionError) Unwrap() error { return e.Err }

// OverlapError reports an output folder that is the source's, or holds it: it would replace what it is made from.
type OverlapError struct{ Output string }

// Error describes the overlap.
func (e OverlapError) Error() string {
	return fmt.Sprintf("the output %s is the input's folder, or holds it", e.Output)
}
