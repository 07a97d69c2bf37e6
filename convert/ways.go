package convert

import (
	"fmt"
	"io"
	"strings"

	"gqa/internal/weights"
)

// Way is one form in which conversions of a checkpoint can be written, or why it cannot.
type Way struct {
	Target  Target   `json:"target"`
	LoadsIn []string `json:"loads_in,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	WhyNot  string   `json:"why_not,omitempty"`
}

// waysOut plans a conversion of src's sites to each target.
func waysOut(src *weights.Source, sites Sites) []Way {
	groups := src.Arch.LegalGroups(sites.of(src.Arch)...)
	fewer := groups[max(0, len(groups)-2)]
	ways := make([]Way, len(Targets))
	for i, target := range Targets {
		ways[i].Target = Target(target)
		p, err := NewPlan(src, Options{Groups: fewer, Method: Mean, Target: Target(target), Sites: sites})
		if err != nil {
			ways[i].WhyNot = err.Error()
			continue
		}
		ways[i].LoadsIn, ways[i].Notes = p.loadsIn(), p.Notes()
		if ways[i].Target == Native { // not the same for every number of groups
			ways[i].LoadsIn = []string{loadsNative(src)}
		}
	}
	return ways
}

func (w Way) print(out io.Writer) {
	switch {
	case w.WhyNot != "":
		fmt.Fprintf(out, "%-11s no: %s\n", w.Target, w.WhyNot)
	case w.Target == Expanded:
		fmt.Fprintf(out, "%-11s loads wherever the source does; saves no cache\n", w.Target)
	default:
		fmt.Fprintf(out, "%-11s loads in %s\n", w.Target, strings.Join(w.LoadsIn, ", "))
	}
	for _, note := range w.Notes {
		fmt.Fprintf(out, "%-11s %s\n", "", note)
	}
}
