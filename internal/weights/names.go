package weights

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gqa/configs"
)

// rename renames the tensors to the family's names. It strips what wrappers added, and drops tables that can be
// computed from config.json and tensors that do not belong to the model. Tensors that the index does not list are kept
// only if the family knows them.
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

// renaming determines the family's names of tensors, and records the remarks for the user.
type renaming struct {
	source              *Source
	naming              configs.Naming
	beside              []string // tensors that are not part of the model
	isBeside, notListed map[string]bool

	wrapped, bare    string   // the first name that contains parts added by a wrapper, with and without them
	needed, unlisted []string // tensors that the index does not list: those known to the family, and the others
}

// name returns the family's name for a tensor, or "" if it is dropped.
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
		s.note("tensor names contain parts added by a wrapper, which are ignored: %s is read as %s, and so on", r.wrapped, r.bare)
	}
	if r.beside != nil {
		s.note("not part of the model, and not read: %s", few(r.beside, 5))
	}
	if r.needed != nil {
		s.note("%s does not list %s; it is read from the shards", s.Index, few(r.needed, 5))
	}
	if r.unlisted != nil {
		s.note("tensors that %s does not list and the family does not use are ignored: %s", s.Index, few(r.unlisted, 5))
	}
}

// standIn finds tensors that were saved under another name of the same memory: the other name of a tied pair, or a name given in
// safetensors' metadata for a copy that was left out.
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

// heldAs finds tensors that stand in for missing names: it maps the name of the tensor to the missing one.
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

// copiesLeftOut reads the metadata written by safetensors' save_model, which keeps only one name of tensors that share
// memory. It maps the names left out to the names kept.
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

// same returns an error if two tensors that should be equal differ.
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

// few joins the first names, at most most of them, and states the total.
func few(names []string, most int) string {
	if len(names) > most {
		return fmt.Sprintf("%s, … (%d in all)", strings.Join(names[:most], ", "), len(names))
	}
	return strings.Join(names, ", ")
}
