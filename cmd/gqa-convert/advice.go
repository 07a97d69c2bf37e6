package main

import (
	"errors"
	"fmt"
	"strings"

	"gqa/convert"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/llamacpp"
)

// advise adds to an error which flags to set or to omit, if that helps. An error about flags becomes a usage error.
func advise(err error) error {
	err = advice.Add(err, adviceOn(err))
	var option convert.OptionError
	switch {
	case errors.Is(err, convert.ErrGroups):
		return cli.Usagef("--%w", err)
	case errors.As(err, &option):
		return cli.UsageError{Err: err}
	}
	return err
}

// adviceOn returns advice on an error in terms of flags; empty if there is none.
func adviceOn(err error) string {
	var overlap convert.OverlapError
	var option convert.OptionError
	var ungrouped llamacpp.UngroupedError
	var heads convert.HeadsError
	switch {
	case errors.Is(err, convert.ErrNoConfig):
		return "put it there, or give --family and --heads"
	case errors.As(err, &heads):
		return "leave out --heads"
	case errors.As(err, &overlap):
		return "choose another with -o"
	case errors.As(err, &ungrouped):
		return fmt.Sprintf("write --target expanded, and then --groups %d --target gguf of that", ungrouped.Heads)
	case errors.As(err, &option):
		return adviceOnOptions(option)
	}
	return ""
}

func adviceOnOptions(e convert.OptionError) string {
	var all []string
	if len(e.LeaveOut) > 0 {
		all = append(all, "leave out "+joinSettings(e.LeaveOut, " and "))
	}
	switch {
	case len(e.Give) == 1 && e.Give[0].Option == convert.OptionGroupsPerLayer:
		all = append(all, flagText(e.Give[0])+" leaves them as they are")
	case len(e.Give) == 1:
		all = append(all, "give "+flagText(e.Give[0]))
	case len(e.Give) > 1:
		all = append(all, "give one of "+joinSettings(e.Give, ", "))
	}
	return strings.Join(all, ", or ")
}

func joinSettings(settings []convert.Setting, separator string) string {
	texts := make([]string, len(settings))
	for i, s := range settings {
		texts[i] = flagText(s)
	}
	return strings.Join(texts, separator)
}

// flagText returns a setting in command-line form.
func flagText(s convert.Setting) string {
	return strings.TrimSpace("--" + string(s.Option) + " " + s.Value)
}

// noteText returns a note with advice in terms of flags.
func noteText(n convert.Note) string {
	text := n.Text
	if n.Err != nil {
		about := n.Err.Error()
		if what := adviceOn(n.Err); what != "" {
			about += "; " + what
		}
		text = strings.TrimPrefix(text+": "+about, ": ")
	}
	if len(n.Targets) > 0 {
		text += "; write --target " + n.TargetNames() + " for others"
	}
	return text
}

// adviseTarget gives advice in the notes of an inspection.
func adviseTarget(info *convert.TargetInfo) {
	for i, n := range info.Notes {
		info.Notes[i] = convert.Note{Text: noteText(n)}
	}
	if info.WhyNot != nil {
		info.WhyNot = &convert.Note{Text: noteText(*info.WhyNot)}
	}
}
