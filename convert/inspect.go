package convert

import (
	"context"
	"fmt"
	"slices"

	"gqa/configs"
	"gqa/convert/target"
	"gqa/internal/weights"
)

// Inspection describes a checkpoint and its possible conversions.
type Inspection struct {
	Family          string       `json:"family"`
	Layers          int          `json:"layers"`
	Dim             int          `json:"dim"`
	Heads           int          `json:"heads"`
	KVHeads         int          `json:"kv_heads"` // if layers differ, the largest number
	KVHeadsPerLayer []int        `json:"kv_heads_per_layer,omitempty"`
	HeadDim         int          `json:"head_dim"`         // of queries and keys
	Latent          *Latent      `json:"latent,omitempty"` // nil if the attention is not latent
	Vocab           int          `json:"vocab"`
	Context         int          `json:"context"`
	Parameters      int64        `json:"parameters"`
	DType           string       `json:"dtype"` // of the KV cache, which is that of the key weights
	Layout          string       `json:"layout"`
	Targets         []TargetInfo `json:"ways_out"`
	Sites           []SiteHeads  `json:"sites"` // the kinds of attention
	Rows            []Row        `json:"groups"`
	LatentRows      []Row        `json:"latent_attention,omitempty"` // conversions to latent attention, which have no groups
	NotFloat        string       `json:"not_float,omitempty"`        // a key or value weight without a float dtype, because of which nothing can be converted
	// NotFinite and Unread are set by InspectValues: tensors that hold NaN or infinities, and the number of bytes that
	// were not read because there were too many.
	NotFinite []BadValue `json:"not_finite,omitempty"`
	Unread    int64      `json:"values_unread_bytes,omitempty"`
}

// SiteHeads describes one kind of attention.
type SiteHeads struct {
	Site      configs.Site `json:"site"`
	Layers    int          `json:"layers"`
	KVHeads   int          `json:"kv_heads"`
	Converted bool         `json:"converted"` // by a conversion of the requested sites
}

// Row describes the conversion to one legal group count, or to latent attention.
type Row struct {
	Groups               int     `json:"groups"` // if layers differ, the largest number; 0 for latent attention
	GroupsPerLayer       []int   `json:"groups_per_layer,omitempty"`
	Latent               *Latent `json:"latent,omitempty"`
	KVBytesPerToken      int64   `json:"kv_bytes_per_token"`                 // 0 if nothing is decoded
	CrossKVBytesPerToken int64   `json:"cross_kv_bytes_per_token,omitempty"` // in addition, for each token that an encoder reads
	// KVBytesAtContext is for one sequence of the length that the model was trained on and, for an encoder-decoder, a
	// source of the same length.
	KVBytesAtContext  int64 `json:"kv_bytes_at_context"`
	KVProjections     int64 `json:"kv_projection_parameters"` // of all sites: one multiplication and addition per parameter and token
	Parameters        int64 `json:"parameters"`
	TensorParallelism []int `json:"tensor_parallel"` // numbers of devices that can split the KV heads evenly
}

// Inspect describes src and each group count that its sites can be converted to.
func Inspect(src *Source, sites Sites) (*Inspection, error) {
	a, chosen := src.Arch, sites.of(src.Arch)
	dtype, err := target.KeyDType(src)
	if err != nil {
		return nil, err
	}
	in := &Inspection{
		Family: a.Family.Name, Layers: a.Layers, Dim: a.Dim, Heads: a.Heads, KVHeads: a.KVHeads, KVHeadsPerLayer: a.LayerKVHeads,
		HeadDim: a.HeadDim, Latent: latentOf(a), Vocab: a.Vocab, Context: a.Context, DType: dtype.String(), Layout: string(a.Layout()),
		Targets: targetInfos(src, sites), Sites: siteHeads(a, chosen),
	}
	if in.NotFloat, err = notFloat(src); err != nil {
		return nil, err
	}
	if in.Parameters, err = weights.Parameters(a); err != nil {
		return nil, err
	}
	if in.Rows, err = inspectRows(a, chosen, dtype.Size()); err == nil {
		in.LatentRows, err = latentRows(src, dtype.Size())
	}
	return in, err
}

// Latent holds the sizes of latent attention; if those of the layers differ, the largest.
type Latent struct {
	Rank         int   `json:"kv_lora_rank"`
	RankPerLayer []int `json:"kv_lora_rank_per_layer,omitempty"` // if they differ
	RopeDim      int   `json:"qk_rope_head_dim"`
	NopeDim      int   `json:"qk_nope_head_dim"`
	ValueDim     int   `json:"v_head_dim"`
	QueryRank    int   `json:"q_lora_rank,omitempty"`
}

func latentOf(a *configs.Arch) *Latent {
	if !a.IsLatent() {
		return nil
	}
	l := a.Latent
	ranks := make([]int, len(a.LatentLayers))
	for i, of := range a.LatentLayers {
		ranks[i] = of.Rank
	}
	if !slices.ContainsFunc(ranks, func(r int) bool { return r != l.Rank }) {
		ranks = nil
	}
	return &Latent{l.Rank, ranks, l.RopeDim, l.NopeDim, l.ValueDim, l.QueryRank}
}

// inspectRows describes a conversion to each legal group count, the largest first. If layers have their own numbers of KV
// heads, a row that leaves these as they are comes first.
func inspectRows(a *configs.Arch, chosen []configs.Site, elementSize int) (rows []Row, err error) {
	if a.IsLatent() {
		row, err := inspectGroups(a, a.KVHeads, elementSize)
		row.TensorParallelism = []int{1} // all devices need all latents
		return []Row{row}, err
	}
	legal := a.LegalGroups(chosen...)
	slices.Reverse(legal)
	if a.LayerKVHeads != nil {
		row, err := inspectGroups(a, a.KVHeads, elementSize)
		if err != nil {
			return nil, err
		}
		row.GroupsPerLayer, row.TensorParallelism = a.LayerKVHeads, divisors(legal[0])
		rows = append(rows, row)
	}
	for _, groups := range legal {
		row, err := inspectGroups(a.WithKVHeads(groups, chosen...), groups, elementSize)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// latentRows describes conversions to latent attention, the largest cache first, if there are any.
func latentRows(src *Source, elementSize int) (rows []Row, err error) {
	for _, l := range src.Arch.LatentChoices() {
		a, _, err := LatentGoal{Rank: l.Rank, RopeDim: l.RopeDim}.arch(src, MLA)
		if err != nil {
			return nil, err
		}
		row, err := inspectGroups(a, 0, elementSize)
		if err != nil {
			return nil, err
		}
		row.Latent, row.TensorParallelism = latentOf(a), []int{1}
		rows = append(rows, row)
	}
	return rows, nil
}

func siteHeads(a *configs.Arch, chosen []configs.Site) (list []SiteHeads) {
	for _, s := range a.Sites() {
		layers := a.Layers
		if encoder := a.Encoder(); encoder != nil && s == configs.EncoderSelf {
			layers = encoder.Layers
		}
		list = append(list, SiteHeads{s, layers, a.SiteKVHeads(s), slices.Contains(chosen, s)})
	}
	return list
}

// inspectGroups describes a conversion to groups.
func inspectGroups(a *configs.Arch, groups, elementSize int) (Row, error) {
	parameters, err := weights.Parameters(a)
	if err != nil {
		return Row{}, err
	}
	params, err := a.Params()
	own, cross := a.KVBytesPerToken(elementSize), a.CrossKVBytesPerToken(elementSize)
	r := Row{
		Groups: groups, KVBytesPerToken: own, CrossKVBytesPerToken: cross, KVBytesAtContext: (own + cross) * int64(a.Context),
		Parameters: parameters, TensorParallelism: divisors(groups),
	}
	latent := []configs.Role{configs.LatentKV, configs.KRope, configs.KeyUp, configs.ValueUp}
	for _, p := range params {
		if p.KVHeads > 0 || slices.Contains(latent, p.Role) {
			r.KVProjections += int64(p.Size())
		}
	}
	return r, err
}

// notFloat returns the name of the first key or value weight without a float dtype, for example fp8 or int8; empty if
// there is none.
func notFloat(src *Source) (tensor string, err error) {
	params, err := src.Arch.Params()
	for _, p := range params {
		if t, ok := src.Tensor(p.Tensor); ok && p.KVHeads > 0 && !t.DType.IsFloat() {
			return fmt.Sprintf("%s is %s", t.Name, t.DType), nil
		}
	}
	return "", err
}

// BadValue is a tensor that holds NaN or an infinity.
type BadValue struct {
	Tensor string `json:"tensor"`
	Index  []int  `json:"index"` // of the first such element
	Value  string `json:"value"`
}

// InspectValues reads the weights and lists the tensors that hold NaN or infinities. It reads at most limit bytes and
// reports the rest as unread. progress is called with the number of bytes as they are read.
func (in *Inspection) InspectValues(ctx context.Context, src *Source, limit int64, progress func(bytes int64)) error {
	if in.Unread = src.OwnBytes(); in.Unread > limit {
		return nil
	}
	in.Unread = 0
	found, err := src.NotFinite(ctx, 0, progress)
	for _, f := range found {
		in.NotFinite = append(in.NotFinite, BadValue{f.Tensor, f.Index, fmt.Sprint(f.Value)})
	}
	return err
}
