package convert

import (
	"errors"
	"fmt"

	"gqa/internal/weights"
)

// ErrGroups is wrapped by errors about a number of KV heads that is impossible for the checkpoint.
var ErrGroups = errors.New("groups")

// ErrNoConfig is wrapped by the error of Open for a checkpoint without config.json if SourceOptions are not sufficient
// either.
var ErrNoConfig = weights.ErrNoConfig

// HeadsError reports that SourceOptions.Heads differs from config.json.
type HeadsError = weights.HeadsError

// Option is the name of one of Options, as used in gqa-convert's flags.
type Option string

// The options that an OptionError can name.
const (
	OptionGroupsPerLayer Option = "groups-per-layer"
	OptionMethod         Option = "method"
	OptionGrouping       Option = "grouping"
	OptionCalibration    Option = "calibration"
	OptionRefine         Option = "refine"
	OptionTarget         Option = "target"
)

// Setting is an option and a value that it has or could have; an empty value stands for any value.
type Setting struct {
	Option Option
	Value  string
}

// OptionError reports options that cannot be combined with each other or with this kind of checkpoint.
type OptionError struct {
	Err      error
	LeaveOut []Setting // the settings that conflict
	Give     []Setting // settings, one of which would resolve the conflict
}

// Error returns the text of Err.
func (e OptionError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e OptionError) Unwrap() error { return e.Err }

// OverlapError reports an output folder that is, or contains, the source folder, so that the output would replace its own
// source.
type OverlapError struct{ Output string }

// Error returns a description of the overlap.
func (e OverlapError) Error() string {
	return fmt.Sprintf("the output %s is the input's folder, or holds it", e.Output)
}
