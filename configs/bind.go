package configs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Bind fits the architecture to a checkpoint's tensor names and shapes: it determines the prefix in use and accounts
// for every tensor. It returns a single error that names all missing, unknown and wrongly shaped tensors.
func (a *Arch) Bind(shapes map[string][]int) error {
	if layers := max(a.Layers, a.EncoderLayers); layers > len(shapes) { // checked before that many tensors are listed
		return fmt.Errorf("config.json asks for %d layers, but there are only %d tensors", layers, len(shapes))
	}
	for role, e := range a.Family.Layer {
		if e.stacked() && a.holds(e) && a.Heads > len(shapes) {
			return fmt.Errorf("config.json asks for %d heads with a %s each, but there are only %d tensors", a.Heads, role, len(shapes))
		}
	}
	embed := a.Family.Tensors[Embed].Name
	for _, p := range a.Family.Prefixes {
		if _, ok := shapes[expandName(embed, p, -1)+".weight"]; ok {
			a.Prefix = p
			break
		}
	}
	a.oldNorms = false
	for name := range shapes {
		a.oldNorms = a.oldNorms || strings.HasSuffix(name, ".gamma")
	}
	a.learn(shapes)
	a.leaveOut(shapes)
	tensors, err := a.Tensors()
	if err != nil {
		return err
	}
	missing, wrong, inLayers := compare(tensors, shapes)
	names := slices.Collect(maps.Keys(shapes))
	switch {
	case len(missing) == len(tensors):
		return fmt.Errorf("no tensor has a name that family %s knows (such as %s); is it another family? %s", a.Family.Name, tensors[0].Name, some(names))
	case !inLayers:
		return fmt.Errorf("no layer has a tensor that family %s knows (such as %s); is it another family? %s", a.Family.Name, a.Family.exampleName(), some(names))
	}
	expected := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		expected[t.Name] = true
	}
	carried := a.carried()
	var unknown []string
	for name := range shapes {
		if !expected[name] && !carried[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return accountError(a.Family.Name, missing, wrong, unknown)
}

// compare lists missing tensors and tensors of a wrong shape, and reports whether any layer tensor is present.
func compare(tensors []Tensor, shapes map[string][]int) (missing, wrong []string, inLayers bool) {
	for _, t := range tensors {
		got, ok := shapes[t.Name]
		switch {
		case !ok:
			missing = append(missing, fmt.Sprintf("%s %v", t.Name, t.Shape))
			continue
		case !slices.Equal(got, t.Shape):
			wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", t.Name, got, t.Shape))
		}
		inLayers = inLayers || t.Layer >= 0
	}
	return missing, wrong, inLayers
}

// HeadDecides reports whether the checkpoint, rather than config.json, decides if the model is tied: it is tied if there is
// no head.
func (a *Arch) HeadDecides() bool {
	head := a.Family.Tensors[Head]
	return head.Optional != "" && head.Unless == ""
}

// TieHead marks the head as a copy of the embedding.
func (a *Arch) TieHead() {
	a.Tied, a.absent = true, map[string]bool{a.Family.Tensors[Head].Optional: true}
}

// leaveOut records which sets of optional tensors are missing from the checkpoint.
func (a *Arch) leaveOut(shapes map[string][]int) {
	absent := map[string]bool{}
	a.absent = nil
	for role, e := range a.Family.Tensors {
		ts, err := a.entry(role, e, -1)
		if e.Optional == "" || err != nil || len(ts) == 0 {
			continue
		}
		_, there := shapes[ts[0].Name]
		if before, seen := absent[e.Optional]; !there && (before || !seen) {
			absent[e.Optional] = true
		} else {
			absent[e.Optional] = false
		}
	}
	if len(absent) > 0 {
		a.absent = absent
	}
	a.Tied = a.Tied || absent[a.Family.Tensors[Head].Optional]
	a.Headless = absent[a.Family.Tensors[HeadDense].Optional]
}

// learn determines from the tensors what the family leaves open: which roles have biases, which have the names used for
// an untied head, and, from the first layer, the feed-forward width.
func (a *Arch) learn(shapes map[string][]int) {
	a.untied = nil
	for role, e := range a.Family.Tensors {
		if _, there := shapes[e.UntiedName]; there && e.UntiedName != "" && !a.bools["tied"] {
			a.untied = map[Role]bool{role: true}
		}
	}
	biased := map[Role]bool{}
	for _, entries := range []map[Role]TensorEntry{a.Family.Tensors, a.Family.Layer} {
		for role, e := range entries {
			if e.Bias == stored {
				_, biased[role] = shapes[a.expand(e.Name, 0)+".bias"]
			}
		}
	}
	if len(biased) > 0 {
		a.biased = biased
	}
	ffn := a.Family.Config["ffn"]
	if e, ok := a.Family.Layer[ffn.Stored]; ok {
		if shape := shapes[a.expand(e.Name, 0)+".weight"]; len(shape) > 0 {
			a.FFN = shape[0]
			if n, err := evalProduct(ffn.As, map[string]float64{"value": float64(shape[0])}); ffn.As != "" && err == nil {
				a.FFN = int(n)
			}
		}
	}
}

// biasAll gives a bias to every role for which the checkpoint decides.
func (a *Arch) biasAll() {
	a.biased = map[Role]bool{}
	for _, entries := range []map[Role]TensorEntry{a.Family.Tensors, a.Family.Layer} {
		for role, e := range entries {
			a.biased[role] = e.Bias == stored
		}
	}
}

// carried returns the names of tensors that may be present but are not read: buffers of older releases, a copy of a
// tied head, and the tensor that an untied one replaces.
func (a *Arch) carried() map[string]bool {
	names := map[string]bool{}
	for _, template := range a.Family.Buffers {
		for layer := range max(a.Layers, a.EncoderLayers) {
			names[a.expand(template, layer)] = true
		}
	}
	for role, e := range a.Family.Tensors {
		if a.untied[role] {
			names[e.Name] = true
		}
		if e.Unless != "" && a.bools[e.Unless] {
			names[a.expand(e.Name, -1)+".weight"] = true
			names[a.expand(e.Name, -1)+".bias"] = true
		}
	}
	return names
}

func accountError(family string, missing, wrong, unknown []string) error {
	var parts []string
	for _, p := range []struct {
		what  string
		names []string
	}{{"missing", missing}, {"wrong shape", wrong}, {"unknown", unknown}} {
		if len(p.names) > 0 {
			parts = append(parts, p.what+": "+shorten(p.names))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("the tensors do not fit family %s with this config.json; %s", family, strings.Join(parts, "; "))
}

// shorten joins all names of a short list, or the first and last of a long one.
func shorten(names []string) string {
	if n := len(names); n > 40 {
		return fmt.Sprintf("%s, … (%d in all) …, %s", strings.Join(names[:20], ", "), n, names[n-1])
	}
	return strings.Join(names, ", ")
}
