package target

import (
	"encoding/json"

	"gqa/configs"
	"gqa/internal/weights"
)

// newOwn lays r out in the family's own tensors. If native is set, config.json is written for the class that loads them.
func newOwn(r Result, native bool) (*tensors, error) {
	t, err := newTensors(r, r.Arch)
	if err != nil {
		return nil, err
	}
	t.config = func(c map[string]any) { setGroups(c, r.Arch, native) }
	t.layout.LoadsIn = loadsOwn(r.Source, r.Arch, native)
	return t, nil
}

// loadsOwn returns what loads a in the tensors of its family.
func loadsOwn(src *weights.Source, a *configs.Arch, native bool) []string {
	loader := a.Family.Grouping(a.KVHeads).Loader()
	switch {
	case layered(a):
	case a.KVHeads == a.Heads && a.Layout() == a.Family.Attention.Layout:
		return loadsSource
	case loader != "" && (native || !a.Family.Rewrites(src.Config)):
		return []string{"gqa", loader}
	}
	return []string{"gqa"}
}

// setGroups sets the number of KV heads, and every related setting, in the keys of config.json.
func setGroups(c map[string]any, a *configs.Arch, native bool) {
	g := a.Family.Grouping(a.KVHeads)
	configs.SetKey(c, g.Key, a.KVHeads)
	if g.SitesKey != "" {
		configs.SetKey(c, g.SitesKey, KVHeadsBySite(a))
	}
	if delete(c, configs.LayersKey); layered(a) {
		c[configs.LayersKey] = a.LayerKVHeads
	}
	if a.KVHeads == a.Heads && !layered(a) {
		return
	}
	for key, value := range g.Set {
		configs.SetKey(c, key, value)
	}
	if native {
		a.Family.RewriteConfig(c)
	}
}

// KVHeadsBySite returns the number of KV heads of a at each kind of attention.
func KVHeadsBySite(a *configs.Arch) map[configs.Site]int {
	heads := map[configs.Site]int{}
	for _, s := range a.Sites() {
		heads[s] = a.SiteKVHeads(s)
	}
	return heads
}

// newExpanded lays r out with one KV head per head.
func newExpanded(r Result) (*tensors, error) {
	a, keys, err := r.Source.Arch.Ungrouped(r.Source.Config)
	if err != nil {
		return nil, err
	}
	t, err := newTensors(r, a)
	if err != nil {
		return nil, err
	}
	t.config = func(c map[string]any) {
		for path, value := range keys {
			configs.SetKey(c, path, value)
		}
	}
	t.layout.LoadsIn = loadsSource
	if keys != nil {
		t.layout.LoadsIn = []string{"gqa", "whatever loads " + sourceClass(r.Source)}
	}
	return t, nil
}

// sourceClass returns the class that the source's config.json names, or otherwise its family.
func sourceClass(src *weights.Source) string {
	var keys struct {
		Architectures []string `json:"architectures"`
	}
	if err := json.Unmarshal(src.Config, &keys); err != nil || len(keys.Architectures) == 0 {
		return src.Arch.Family.Name
	}
	return keys.Architectures[0]
}
