package convert

import (
	"cmp"
	"fmt"
	"strings"

	"gqa/convert/target"
)

// TargetInfo lists what loads the conversions of a checkpoint to one target, or says why there are none.
type TargetInfo struct {
	Target  Target   `json:"target"`
	LoadsIn []string `json:"loads_in,omitempty"`
	Notes   []Note   `json:"notes,omitempty"`
	WhyNot  *Note    `json:"why_not,omitempty"`
}

// targetInfos returns a TargetInfo of each target for conversions of src's sites.
func targetInfos(src *Source, sites Sites) []TargetInfo {
	infos := make([]TargetInfo, len(Targets))
	for i, name := range Targets {
		infos[i] = targetInfo(src, Target(name), sites)
	}
	return infos
}

// targetInfo returns whether a target can hold src with fewer groups. If layers have their own numbers of KV heads, it
// tries these first.
func targetInfo(src *Source, name Target, sites Sites) TargetInfo {
	if name == Expanded && src.Arch.IsLatent() {
		return TargetInfo{Target: name, WhyNot: &Note{Err: errLatent(src.Arch)}}
	}
	if latentTarget(name) {
		return latentInfo(src, name)
	}
	info, legal := TargetInfo{Target: name}, src.Arch.LegalGroups(sites.of(src.Arch)...)
	most := legal[len(legal)-1]
	goal := Groups(legal[max(0, len(legal)-2)])
	if src.Arch.LayerKVHeads != nil {
		goal = GroupsPerLayer(src.Arch.LayerKVHeads...)
	}
	t, err := ask(src, name, sites, goal)
	if err != nil && goal.byLayer != nil {
		info.Notes = append(info.Notes, Note{Text: fmt.Sprintf("with %d KV heads in every layer, or fewer; as they are not", most), Err: err})
		goal = Groups(most)
		t, err = ask(src, name, sites, goal)
	}
	if err != nil && name == GGUF && goal.byLayer == nil { // an architecture may be able to hold the source, or an expanded result
		info.Notes = append(info.Notes, Note{Text: fmt.Sprintf("with %d KV heads only", src.Arch.KVHeads), Err: err})
		t, err = ask(src, name, sites, Groups(most))
	}
	if err != nil {
		return TargetInfo{Target: name, WhyNot: &Note{Err: err}}
	}
	info.LoadsIn = t.Layout().LoadsIn
	if name == Native { // differs between numbers of groups
		info.LoadsIn = []string{loadsNative(src, sites)}
		info.Notes = append(info.Notes, whyOurs(src, sites)...)
	}
	for _, text := range t.Layout().Notes {
		info.Notes = append(info.Notes, Note{Text: text})
	}
	return info
}

// latentInfo returns whether the attention of src can become latent.
func latentInfo(src *Source, name Target) TargetInfo {
	smallest := LatentGoal{Rank: 2, RopeDim: 2}
	err := src.Arch.CheckLatent()
	if err != nil {
		return TargetInfo{Target: name, WhyNot: &Note{Err: err}}
	}
	a, config, err := smallest.arch(src, name)
	if err != nil {
		return TargetInfo{Target: name, WhyNot: &Note{Err: err}}
	}
	r, _, err := Options{}.latentResult(src, a, config)
	if err != nil {
		return TargetInfo{Target: name, WhyNot: &Note{Err: err}}
	}
	t, err := target.New(name, r)
	if err != nil {
		return TargetInfo{Target: name, WhyNot: &Note{Err: err}}
	}
	return TargetInfo{Target: name, LoadsIn: t.Layout().LoadsIn}
}

// ask returns the target for a conversion of src, or the reason why it cannot hold that conversion.
func ask(src *Source, name Target, sites Sites, goal Goal) (target.Target, error) {
	r, err := Options{Goal: goal, Method: Mean, Sites: sites}.resultOf(src, nil)
	if err != nil {
		return nil, err
	}
	return target.New(name, r)
}

// loadsNative describes what loads native conversions: a class for each group count below the heads, or only this
// toolkit.
func loadsNative(src *Source, sites Sites) string {
	const ours = "gqa (this toolkit)"
	byLoader, loaders := map[string][]string{}, []string(nil)
	add := func(loader, groups string) {
		if byLoader[loader] == nil {
			loaders = append(loaders, loader)
		}
		byLoader[loader] = append(byLoader[loader], groups)
	}
	if src.Arch.LayerKVHeads != nil {
		add(ours, list(src.Arch.LayerKVHeads))
	}
	chosen := sites.of(src.Arch)
	for _, groups := range src.Arch.LegalGroups(chosen...) {
		if groups == src.Arch.Heads {
			continue
		}
		loader, _ := target.Loader(src.Arch.WithKVHeads(groups, chosen...), src.Config)
		add(cmp.Or(loader, ours), fmt.Sprint(groups))
	}
	switch len(loaders) {
	case 0: // one head; there is nothing to merge
		return "whatever loads the source"
	case 1:
		return loaders[0]
	}
	for i, name := range loaders {
		loaders[i] = fmt.Sprintf("%s with %s KV heads", name, strings.Join(byLoader[name], ", "))
	}
	return strings.Join(loaders, "; ")
}

// whyOurs says why no class outside this toolkit loads certain numbers of KV heads, if there are such numbers.
func whyOurs(src *Source, sites Sites) []Note {
	chosen := sites.of(src.Arch)
	for _, groups := range src.Arch.LegalGroups(chosen...) {
		a := src.Arch.WithKVHeads(groups, chosen...)
		loader, why := target.Loader(a, src.Config)
		if groups == src.Arch.Heads || loader != "" {
			continue
		}
		text := fmt.Sprintf("transformers has no class for family %s with %d KV heads", a.Family.Name, groups)
		notes := []Note{{Text: text, Targets: []Target{Expanded}}}
		for _, err := range why {
			notes = append(notes, Note{Text: "nor is it another family's", Err: err})
		}
		return notes
	}
	return nil
}
