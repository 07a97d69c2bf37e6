package configs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CheckFamily is an error unless name is a family's; it says which one was meant, perhaps.
func CheckFamily(name string) error {
	families, err := Families()
	if err != nil || families[name] != nil {
		return err
	}
	return fmt.Errorf("%q, which is none of the %d known%s", name, len(families), nearestText(nearest(name, families)))
}

// nearest names, for an error, the families whose names or model types are misspelt as name, or begin it; empty if none is.
func nearest(name string, families map[string]*Family) (near []string) {
	for _, family := range slices.Sorted(maps.Keys(families)) {
		names := slices.Concat(families[family].ModelTypes, []string{family})
		meant := func(s string) bool { // a name that is far longer is not compared: it may be of any length
			return strings.HasPrefix(name, s) || len(name) <= 2*len(s) && edits(s, name) <= len(s)/3
		}
		if slices.ContainsFunc(names, meant) {
			near = append(near, family)
		}
	}
	return near
}

// nearestText adds families to an error.
func nearestText(near []string) string {
	if near == nil {
		return ""
	}
	return "; nearest: " + strings.Join(near, ", ")
}

// edits is how many letters must be put in, taken out or replaced to make b of a (Levenshtein 1966).
func edits(a, b string) int {
	row := make([]int, len(b)+1) // of a's letters so far, to each start of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
