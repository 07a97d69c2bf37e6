package checkpoints

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// shardSet is the files of one save, STEM-i-of-n.EXT, found in a folder.
type shardSet struct {
	stem, ext string
	of        int
	files     []string // in shard order
	missing   []string // missing file names; nil if the set is complete
}

var shardPattern = regexp.MustCompile(`^(.+[-_.])(\d+)-of-(\d+)(\.[a-z]+)$`)

// IsShard reports whether name has the form of a shard's name.
func IsShard(name string) bool { return shardPattern.MatchString(name) }

// shardSets groups the shards among names by the save that they belong to.
func shardSets(names []string) []shardSet {
	type key struct {
		stem, of, ext string
	}
	found := map[key]map[int]string{}
	var order []key
	for _, name := range names {
		m := shardPattern.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		k := key{m[1], m[3], m[4]}
		if found[k] == nil {
			found[k] = map[int]string{}
			order = append(order, k)
		}
		if i, err := strconv.Atoi(m[2]); err == nil {
			found[k][i] = name
		}
	}
	var sets []shardSet
	for _, k := range order {
		if of, err := strconv.Atoi(k.of); err == nil && of > 0 {
			sets = append(sets, newShardSet(k.stem, k.ext, k.of, of, found[k]))
		}
	}
	// the usual stem first
	slices.SortStableFunc(sets, func(a, b shardSet) int { return cmp.Compare(len(a.stem), len(b.stem)) })
	return sets
}

// newShardSet lists the shards, numbered from 1, or from 0 if there is a shard 0.
func newShardSet(stem, ext, digits string, of int, files map[int]string) shardSet {
	s := shardSet{stem: stem, ext: ext, of: of}
	first := 1
	if files[0] != "" {
		first = 0
	}
	const named = 4 // the count in a name may be arbitrarily large
	for i := first; i < first+of && len(s.missing) < named; i++ {
		if name := files[i]; name != "" {
			s.files = append(s.files, name)
		} else {
			s.missing = append(s.missing, fmt.Sprintf("%s%0*d-of-%s%s", stem, len(digits), i, digits, ext))
		}
	}
	return s
}

// chooseSet returns the only complete set; the error says which files are missing.
func chooseSet(sets []shardSet) (shardSet, error) {
	var whole []shardSet
	for _, s := range sets {
		if s.missing == nil {
			whole = append(whole, s)
		}
	}
	switch {
	case len(whole) == 0:
		return shardSet{}, fmt.Errorf("holds %s, but not %s; download it too", sets[0].name(), absent(sets[0].missing))
	case len(whole) > 1 && len(whole[0].stem) == len(whole[1].stem):
		return shardSet{}, fmt.Errorf("holds two complete sets of shards (%s and %s) and no index: remove one", whole[0].files[0], whole[1].files[0])
	}
	return whole[0], nil
}

func (s shardSet) name() string {
	if len(s.files) == 0 {
		return "no shard"
	}
	return s.files[0]
}

// absent describes the first few missing shards.
func absent(names []string) string {
	if len(names) > 1 {
		return "the shards " + list(names) + ", which are missing"
	}
	return "the shard " + list(names) + ", which is missing"
}

// list joins the first few names.
func list(names []string) string {
	const most = 3
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
