package weights

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gqa/configs"
)

// rename gives the tensors the family's names: without what wrappers put before or between, without tables of what config.json
// says, and without what is not the model's. What the index does not list stays only if the family knows it.
func (s *Source) rename(f *configs.Family) (configs.Naming, error) {
	naming := f.Naming(s.Names())
	r := renaming{source: s, naming: naming, beside: naming.Strays(s.Names()), notListed: set(s.Unlisted)}
	for _, name := range s.Names() {
		if before := configs.Replaced(name); before != "" {
			if _, there := s.Tensor(before); there {
				r.beside = append(r.beside, before)
			}
		}
	}
	r.isBeside = set(r.beside)
	if err := s.Rename(r.name); err != nil {
		return naming, err
	}
	r.tell()
	return naming, nil
}

// renaming finds the family's names of tensors, and notes what a person should know of it.
type renaming struct {
	source              *Source
	naming              configs.Naming
	beside              []string // tensors that are not the model's
	isBeside, notListed map[string]bool

	wrapped, bare    string   // the first name that a wrapper added to, as it is and without
	needed, unlisted []string // of the tensors that the index does not list: those that the family knows, and the others
}

// name returns the family's name of a tensor; empty: it is left out.
func (r *renaming) name(name string) string {
	t, _ := r.source.Tensor(name)
	own := r.naming.Name(name)
	switch {
	case r.isBeside[name]:
		return ""
	case r.naming.Knows(own):
		if own != name && r.wrapped == "" {
			r.wrapped, r.bare = name, own
		}
		if r.notListed[name] {
			r.needed = append(r.needed, own)
		}
		return own
	case configs.IsTable(own, t.Shape):
		return ""
	case r.notListed[name]:
		r.unlisted = append(r.unlisted, name)
		return ""
	}
	return own
}

func (r *renaming) tell() {
	s := r.source
	if r.wrapped != "" {
		s.note("the names of tensors hold what a wrapper added, and are read without it: %s as %s, and others alike", r.wrapped, r.bare)
	}
	if r.beside != nil {
		s.note("not of the model, and not read: %s", few(r.beside, 5))
	}
	if r.needed != nil {
		s.note("%s does not list %s; the shards hold it, and it is read", s.Index, few(r.needed, 5))
	}
	if r.unlisted != nil {
		s.note("left out of what %s does not list is what the family has no place for: %s", s.Index, few(r.unlisted, 5))
	}
}

// standIn finds tensors that were saved under another name of the same memory: the names of a tied pair, or what the note of
// safetensors in a file's metadata says of the copies that it left out.
func (s *Source) standIn(f *configs.Family, naming configs.Naming, tied bool) error {
	others, leftOut := f.StandIns(naming.Prefix, tied), s.copiesLeftOut(naming)
	if !naming.Fits {
		return nil
	}
	now, err := s.heldAs(others)
	if err != nil {
		return err
	}
	err = s.Rename(func(name string) string { return cmp.Or(now[name], name) })
	copies := slices.Concat(slices.Collect(maps.Values(others))...)
	for _, own := range slices.Sorted(maps.Keys(leftOut)) {
		_, there := s.Tensor(own)
		_, kept := s.Tensor(leftOut[own])
		if !there && kept && !slices.Contains(copies, own) {
			s.Alias(own, leftOut[own])
		}
	}
	return err
}

// heldAs finds, for names that no tensor has, tensors with one of the other names: from that name to the one it stands for.
func (s *Source) heldAs(others map[string][]string) (map[string]string, error) {
	now := map[string]string{}
	for _, own := range slices.Sorted(maps.Keys(others)) {
		if _, there := s.Tensor(own); there {
			continue
		}
		held := slices.DeleteFunc(others[own], func(name string) bool { _, there := s.Tensor(name); return !there })
		if len(held) == 0 {
			continue
		}
		for _, name := range held[1:] {
			if err := s.same(held[0], name); err != nil {
				return nil, err
			}
		}
		now[held[0]] = own
	}
	return now, nil
}

// copiesLeftOut reads the notes of safetensors' save_model, which keeps one name of those that share memory: from the name that
// it left out to the one that it kept.
func (s *Source) copiesLeftOut(naming configs.Naming) map[string]string {
	left := map[string]string{}
	for from, to := range s.Metadata {
		own, kept := naming.Name(from), naming.Name(to)
		if _, there := s.Tensor(kept); !there || !naming.Knows(own) {
			continue
		}
		left[own] = kept
		delete(s.Metadata, from)
	}
	return left
}

// same refuses two tensors that should be one and are not.
func (s *Source) same(a, b string) error {
	x, _ := s.Tensor(a)
	y, _ := s.Tensor(b)
	same, err := equal(x.Open(), y.Open())
	if err == nil && !same {
		err = fmt.Errorf("%s differs from %s, but a model has one for both; remove the wrong one", a, b)
	}
	return err
}

func (s *Source) note(format string, args ...any) {
	s.Notes = append(s.Notes, s.Dir+": "+fmt.Sprintf(format, args...))
}

func set(names []string) map[string]bool {
	in := make(map[string]bool, len(names))
	for _, name := range names {
		in[name] = true
	}
	return in
}

// few names the first of names, at most so many, and says how many there are.
func few(names []string, most int) string {
	if len(names) > most {
		return fmt.Sprintf("%s, … (%d in all)", strings.Join(names[:most], ", "), len(names))
	}
	return strings.Join(names, ", ")
}
