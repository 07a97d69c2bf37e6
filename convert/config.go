package convert

import (
	"encoding/json"
	"os"
	"path/filepath"

	"gqa/configs"
	"gqa/internal/weights"
)

// writeConfig writes the result's config.json: the source's, with the family's KV-head key set (or, expanded, what says that
// there are as many KV heads as heads) and the dtype, where it changes.
func (p *Plan) writeConfig(dir string) error {
	config, err := weights.RewriteConfig(p.Source.Config, func(c map[string]any) {
		if p.Target != Expanded {
			p.setGroups(c)
		}
		for path, value := range p.ungrouping {
			configs.SetKey(c, path, value)
		}
		if p.DType != 0 {
			weights.SetDType(c, p.DType)
		}
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666)
}

// setGroups writes the number of KV heads, and what else says that there are fewer than heads, into config.json's keys.
func (p *Plan) setGroups(c map[string]any) {
	g := p.Arch.Family.Grouping(p.Arch.KVHeads)
	configs.SetKey(c, g.Key, p.Arch.KVHeads)
	if g.SitesKey != "" {
		configs.SetKey(c, g.SitesKey, kvHeadsBySite(p.Arch))
	}
	if delete(c, configs.LayersKey); p.Arch.LayerKVHeads != nil {
		c[configs.LayersKey] = p.Arch.LayerKVHeads
	}
	if p.Arch.KVHeads < p.Arch.Heads || p.Arch.LayerKVHeads != nil {
		for key, value := range g.Set {
			configs.SetKey(c, key, value)
		}
		if p.Target == Native {
			p.Arch.Family.RewriteConfig(c)
		}
	}
}

func kvHeadsBySite(a *configs.Arch) map[configs.Site]int {
	heads := map[configs.Site]int{}
	for _, s := range a.Sites() {
		heads[s] = a.SiteKVHeads(s)
	}
	return heads
}

// Summary is what was done: the contents of conversion.json.
type Summary struct {
	Source               string               `json:"source"`
	Output               string               `json:"output,omitempty"`        // where it was written; left out of the file
	Family               string               `json:"family"`                  // of the result
	SourceFamily         string               `json:"source_family,omitempty"` // where it is another
	Heads                int                  `json:"heads"`
	SourceGroups         int                  `json:"source_groups"` // KV heads before
	Groups               int                  `json:"groups"`        // KV heads after; the most of a layer's, where they differ
	SourceGroupsPerLayer []int                `json:"source_groups_per_layer,omitempty"`
	GroupsPerLayer       []int                `json:"groups_per_layer,omitempty"`
	Sites                []configs.Site       `json:"sites"`            // the kinds of attention that have Groups KV heads now
	KVHeadsBySite        map[configs.Site]int `json:"kv_heads_by_site"` // after, those left alone included
	Method               Method               `json:"method"`
	Grouping             Grouping             `json:"grouping"`
	Seed                 uint64               `json:"seed"`
	// Calibration names the text that the model was run on, CalibrationTokens how much of it; Refine is the steps of fitting, of each
	// layer or of all together, and RefineTokens the text of the latter.
	Calibration       string   `json:"calibration,omitempty"`
	CalibrationTokens int      `json:"calibration_tokens,omitempty"`
	Refine            int      `json:"refine,omitempty"`
	RefineTokens      int      `json:"refine_tokens,omitempty"`
	Target            Target   `json:"target"`
	DType             string   `json:"dtype"` // "keep" or the dtype that float tensors were written in
	Layout            string   `json:"layout"`
	LoadsIn           []string `json:"loads_in"` // what loads the result
	TensorsPooled     int      `json:"tensors_pooled"`
	TensorsCopied     int      `json:"tensors_copied"`
	Bytes             int64    `json:"bytes"`
	SourceParameters  int64    `json:"source_parameters"`
	Parameters        int64    `json:"parameters"`
	// KV-cache bytes of one token over all layers, at two bytes an element.
	SourceKVBytesPerToken int64 `json:"source_kv_bytes_per_token"`
	KVBytesPerToken       int64 `json:"kv_bytes_per_token"`
	// The same of cross-attention, for one token of the encoder's.
	SourceCrossKVBytesPerToken int64 `json:"source_cross_kv_bytes_per_token,omitempty"`
	CrossKVBytesPerToken       int64 `json:"cross_kv_bytes_per_token,omitempty"`
	// Layers say what became of each layer's heads, where q and o changed with them.
	Layers []Layer `json:"layers,omitempty"`
	// Together is a refinement of all layers at once: divergences from the source in nats per token of held-out text.
	Together *LayerFit `json:"together,omitempty"`
	Notes    []string  `json:"notes,omitempty"` // where what loads the result computes other than the source's class
}

// Summary describes the plan; Output is for the caller to set.
func (p *Plan) Summary() (*Summary, error) {
	before, err := weights.Parameters(p.Source.Arch)
	if err != nil {
		return nil, err
	}
	after, err := weights.Parameters(p.Arch)
	if err != nil {
		return nil, err
	}
	dtype := "keep"
	if p.DType != 0 {
		dtype = p.DType.String()
	}
	s := &Summary{
		Source: filepath.Base(p.Source.Dir), Family: p.Arch.Family.Name, Heads: p.Arch.Heads,
		SourceGroupsPerLayer: p.Source.Arch.LayerKVHeads, GroupsPerLayer: p.converted.LayerKVHeads,
		SourceGroups: p.Source.Arch.SiteKVHeads(p.sites[0]), Groups: p.Groups, Sites: p.sites, KVHeadsBySite: kvHeadsBySite(p.converted),
		Method: p.Method, Grouping: p.Grouping, Seed: p.Seed, Target: p.Target,
		DType: dtype, Layout: string(p.Arch.Layout()), LoadsIn: p.loadsIn(),
		TensorsPooled: p.Pooled(), TensorsCopied: len(p.Specs) - p.Pooled(), Bytes: p.Bytes(),
		SourceParameters: before, Parameters: after,
		SourceKVBytesPerToken: p.Source.Arch.KVBytesPerToken(2), KVBytesPerToken: p.Arch.KVBytesPerToken(2),
		SourceCrossKVBytesPerToken: p.Source.Arch.CrossKVBytesPerToken(2), CrossKVBytesPerToken: p.Arch.CrossKVBytesPerToken(2),
		Layers: p.layers, Together: p.joint,
		Notes: p.Notes(),
	}
	if p.via != nil {
		s.SourceFamily = p.Source.Arch.Family.Name
	}
	if len(p.modules()) > 0 && p.Calibration != nil {
		s.Calibration, s.CalibrationTokens, s.Refine = p.Calibration.Name, p.Calibration.Used(p.Source.Arch), p.Refine
		if p.fitsTogether() {
			s.RefineTokens = p.Calibration.Refining(p.Refine).Used(p.Source.Arch)
		}
	}
	return s, nil
}

func (p *Plan) loadsIn() []string {
	loader := p.Arch.Family.Grouping(p.Groups).Loader()
	switch {
	case p.Target == GGUF:
		return []string{"llama.cpp (" + p.gguf.Arch + ")"}
	case p.Target != Expanded && p.Arch.LayerKVHeads != nil:
		return []string{"gqa"}
	case p.ungrouping != nil:
		return []string{"gqa", "whatever loads " + sourceClass(p.Source)}
	case p.Target == Expanded || p.Groups == p.Arch.Heads && p.Arch.Layout() == p.Arch.Family.Attention.Layout:
		return []string{"gqa", "whatever loads the source"}
	case loader != "" && (p.Target != Own || !p.Arch.Family.Rewrites(p.Source.Config)):
		return []string{"gqa", loader}
	}
	return []string{"gqa"}
}

// sourceClass is the class that the source's config.json names, or else its family.
func sourceClass(src *weights.Source) string {
	var keys struct {
		Architectures []string `json:"architectures"`
	}
	if err := json.Unmarshal(src.Config, &keys); err != nil || len(keys.Architectures) == 0 {
		return src.Arch.Family.Name
	}
	return keys.Architectures[0]
}
