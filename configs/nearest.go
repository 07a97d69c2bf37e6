package configs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CheckFamily returns an error unless name is the name of a family. The error suggests the family that was probably
// meant.
func CheckFamily(name string) error {
	families, err := Families()
	if err != nil || families[name] != nil {
		return err
	}
	return fmt.Errorf("%q, which is none of the %d known%s", name, len(families), nearestText(nearest(name, families)))
}

// nearest returns the families whose names or model types resemble name or are a prefix of it.
func nearest(name string, families map[string]*Family) (near []string) {
	for _, family := range slices.Sorted(maps.Keys(families)) {
		names := slices.Concat(families[family].ModelTypes, []string{family})
		meant := func(s string) bool { // much longer names are not compared: name may have any length
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

// edits returns the number of letters to insert, delete or replace to turn a into b (Levenshtein 1966).
func edits(a, b string) int {
	row := make([]int, len(b)+1) // distance of the current prefix of a to each prefix of b
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
