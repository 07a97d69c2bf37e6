package convert

import (
	"path/filepath"

	"gqa/configs"
	"gqa/convert/target"
	"gqa/internal/weights"
)

// Summary describes a conversion: the content of conversion.json.
type Summary struct {
	Source               string               `json:"source"`
	Output               string               `json:"output,omitempty"`        // the folder; omitted in the file
	Family               string               `json:"family"`                  // of the result
	SourceFamily         string               `json:"source_family,omitempty"` // if different
	Heads                int                  `json:"heads"`
	SourceGroups         int                  `json:"source_groups"` // KV heads before
	Groups               int                  `json:"groups"`        // KV heads after; if layers differ, the largest
	SourceGroupsPerLayer []int                `json:"source_groups_per_layer,omitempty"`
	GroupsPerLayer       []int                `json:"groups_per_layer,omitempty"`
	Latent               *Latent              `json:"latent,omitempty"`      // sizes of latent attention, which has no groups: then Groups is 0
	LatentBias           bool                 `json:"latent_bias,omitempty"` // its latent has a constant number, for target DeepSeek
	Sites                []configs.Site       `json:"sites"`                 // the kinds of attention that now have Groups KV heads
	KVHeadsBySite        map[configs.Site]int `json:"kv_heads_by_site"`      // after, including unconverted sites
	Method               Method               `json:"method"`
	Grouping             Grouping             `json:"grouping"`
	Seed                 uint64               `json:"seed"`
	// Calibration names the text that the model was run on, and CalibrationTokens is its length. Refine is the number of
	// fitting steps, of each layer or of all together, and RefineTokens the length of the text for the latter.
	Calibration       string   `json:"calibration,omitempty"`
	CalibrationTokens int      `json:"calibration_tokens,omitempty"`
	Refine            int      `json:"refine,omitempty"`
	RefineTokens      int      `json:"refine_tokens,omitempty"`
	Target            Target   `json:"target"`
	DType             string   `json:"dtype"` // "keep" or the dtype in which float tensors were written
	Layout            string   `json:"layout"`
	LoadsIn           []string `json:"loads_in"` // the programs and classes that load the result
	TensorsPooled     int      `json:"tensors_pooled"`
	TensorsCopied     int      `json:"tensors_copied"`
	Bytes             int64    `json:"bytes"`
	SourceParameters  int64    `json:"source_parameters"`
	Parameters        int64    `json:"parameters"`
	// KV-cache bytes per token over all layers, at two bytes per element.
	SourceKVBytesPerToken int64 `json:"source_kv_bytes_per_token"`
	KVBytesPerToken       int64 `json:"kv_bytes_per_token"`
	// The same for cross-attention, per token of the encoder.
	SourceCrossKVBytesPerToken int64 `json:"source_cross_kv_bytes_per_token,omitempty"`
	CrossKVBytesPerToken       int64 `json:"cross_kv_bytes_per_token,omitempty"`
	// Layers describes the result for each layer's heads, if q and o changed with them.
	Layers []Layer `json:"layers,omitempty"`
	// Together describes a refinement of all layers at once: divergences from the source in nats per token of held-out
	// text.
	Together *LayerFit `json:"together,omitempty"`
	Notes    []string  `json:"notes,omitempty"` // where the program that loads the result computes something different from the source's class
}

// Summary describes the plan, without what only a run computes. The caller sets Output.
func (p *Plan) Summary() (*Summary, error) {
	before, err := weights.Parameters(p.Source.Arch)
	if err != nil {
		return nil, err
	}
	after, err := weights.Parameters(p.Arch)
	if err != nil {
		return nil, err
	}
	src, layout := p.Source.Arch, p.target.Layout()
	s := &Summary{
		Source: filepath.Base(p.Source.Dir), Family: p.Arch.Family.Name, Heads: p.Arch.Heads,
		SourceGroupsPerLayer: src.LayerKVHeads, GroupsPerLayer: p.result.Arch.LayerKVHeads,
		SourceGroups: src.SiteKVHeads(p.sites[0]), Groups: p.Goal.Groups(),
		Sites: p.sites, KVHeadsBySite: target.KVHeadsBySite(p.result.Arch),
		Method: p.Method, Grouping: p.Grouping, Seed: p.Seed, Target: p.Target,
		DType: p.dtypeText(), Layout: string(p.Arch.Layout()), LoadsIn: layout.LoadsIn,
		TensorsPooled: layout.Computed, TensorsCopied: len(p.Specs) - layout.Computed, Bytes: p.Bytes(),
		SourceParameters: before, Parameters: after,
		SourceKVBytesPerToken: src.KVBytesPerToken(2), KVBytesPerToken: p.Arch.KVBytesPerToken(2),
		SourceCrossKVBytesPerToken: src.CrossKVBytesPerToken(2), CrossKVBytesPerToken: p.Arch.CrossKVBytesPerToken(2),
	}
	if p.Goal.latent != nil {
		s.Latent, s.LatentBias = latentOf(p.Arch), p.Goal.latent.Bias
	}
	if p.Arch.Family.Name != src.Family.Name {
		s.SourceFamily = src.Family.Name
	}
	for _, note := range p.Notes() {
		s.Notes = append(s.Notes, note.String())
	}
	p.addCalibration(s)
	return s, nil
}

// addCalibration records the text that the model is run on, if any.
func (p *Plan) addCalibration(s *Summary) {
	if len(p.modules) == 0 || p.Calibration == nil {
		return
	}
	s.Calibration, s.CalibrationTokens, s.Refine = p.Calibration.Name, p.Calibration.Used(p.Source.Arch), p.Refine
	if p.fitsTogether() {
		s.RefineTokens = p.Calibration.Refining(p.Refine).Used(p.Source.Arch)
	}
}

// dtypeText returns the name of the dtype in which float tensors are written.
func (p *Plan) dtypeText() string {
	if p.DType == 0 {
		return "keep"
	}
	return p.DType.String()
}
