package convert

import (
	"fmt"
	"io"
	"strings"

	"gqa/configs"
	"gqa/internal/weights"
)

// TargetInfo is one form in which conversions of a checkpoint can be written, or why it cannot.
type TargetInfo struct {
	Target  Target   `json:"target"`
	LoadsIn []string `json:"loads_in,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	WhyNot  string   `json:"why_not,omitempty"`
}

// targetInfos plans a conversion of src's sites to each target.
func targetInfos(src *weights.Source, sites Sites) []TargetInfo {
	infos := make([]TargetInfo, len(Targets))
	for i, target := range Targets {
		infos[i] = targetInfo(src, Target(target), sites)
	}
	return infos
}

// targetInfo plans a conversion to fewer groups. Where layers have KV heads of their own, these are tried before.
func targetInfo(src *weights.Source, target Target, sites Sites) TargetInfo {
	info, legal := TargetInfo{Target: target}, src.Arch.LegalGroups(sites.of(src.Arch)...)
	o := Options{Groups: legal[max(0, len(legal)-2)], Method: Mean, Target: target, Sites: sites}
	if o.ByLayer = src.Arch.LayerKVHeads; o.ByLayer != nil {
		o.Groups = legal[len(legal)-1]
	}
	p, err := NewPlan(src, o)
	if err != nil && o.ByLayer != nil {
		info.Notes = append(info.Notes, fmt.Sprintf("with %d KV heads in every layer, or fewer; as they are not: %v", o.Groups, err))
		o.ByLayer = nil
		p, err = NewPlan(src, o)
	}
	if err != nil && target == GGUF && o.ByLayer == nil { // an architecture may hold the source, or an expanded result
		info.Notes = append(info.Notes, fmt.Sprintf("with %d KV heads only: %v", src.Arch.KVHeads, err))
		o.Groups = legal[len(legal)-1]
		p, err = NewPlan(src, o)
	}
	if err != nil {
		return TargetInfo{Target: target, WhyNot: err.Error()}
	}
	if info.LoadsIn = p.loadsIn(); target == Native { // not the same for every number of groups
		info.LoadsIn = []string{loadsNative(src, sites)}
		info.Notes = append(info.Notes, whyOurs(src, sites)...)
	}
	if p.gguf != nil {
		info.Notes = append(info.Notes, p.gguf.Notes...)
	}
	return info
}

func (info TargetInfo) print(out io.Writer) {
	switch {
	case info.WhyNot != "":
		fmt.Fprintf(out, "%-11s no: %s\n", info.Target, info.WhyNot)
	case info.Target == Expanded:
		loader := strings.TrimPrefix(info.LoadsIn[len(info.LoadsIn)-1], "whatever loads ")
		fmt.Fprintf(out, "%-11s loads wherever %s does; saves no cache\n", info.Target, loader)
	default:
		fmt.Fprintf(out, "%-11s loads in %s\n", info.Target, strings.Join(info.LoadsIn, ", "))
	}
	for _, note := range info.Notes {
		fmt.Fprintf(out, "%-11s %s\n", "", note)
	}
}

// loadsNative says what loads native conversions: a class for each group count below the heads, or only this toolkit.
func loadsNative(src *weights.Source, sites Sites) string {
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
		if loader := nativeLoader(src.Arch.WithKVHeads(groups, chosen...), src.Config); loader != "" {
			add(loader, fmt.Sprint(groups))
		} else {
			add(ours, fmt.Sprint(groups))
		}
	}
	switch len(loaders) {
	case 0: // one head, that nothing can be merged with
		return "whatever loads the source"
	case 1:
		return loaders[0]
	}
	for i, name := range loaders {
		loaders[i] = fmt.Sprintf("%s with %s KV heads", name, strings.Join(byLoader[name], ", "))
	}
	return strings.Join(loaders, "; ")
}

// whyOurs says why there are numbers of KV heads that no class but this toolkit loads, if there are.
func whyOurs(src *weights.Source, sites Sites) []string {
	chosen := sites.of(src.Arch)
	for _, groups := range src.Arch.LegalGroups(chosen...) {
		a := src.Arch.WithKVHeads(groups, chosen...)
		if groups == src.Arch.Heads || nativeLoader(a, src.Config) != "" {
			continue
		}
		notes := []string{fmt.Sprintf("transformers has no class for family %s with %d KV heads: --target expanded loads there", a.Family.Name, groups)}
		_, _, why := neighbour(a, src.Config)
		for _, err := range why {
			notes = append(notes, fmt.Sprintf("nor is it another family's: %v", err))
		}
		return notes
	}
	return nil
}

// nativeLoader is the class that holds a, or the neighbour's that does, and whose it is; empty where only this toolkit does.
func nativeLoader(a *configs.Arch, config []byte) string {
	if loader := a.Family.Grouping(a.KVHeads).Loader(); loader != "" {
		return loader
	}
	if to, _, _ := neighbour(a, config); to != nil {
		return to.Family.Grouping(to.KVHeads).Loader()
	}
	return ""
}

// list is numbers as they are given to a flag.
func list(numbers []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ","), "[]")
}
