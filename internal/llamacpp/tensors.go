package llamacpp

import (
	"cmp"
	"fmt"
	"slices"

	"gqa/checkpoints"
	"gqa/configs"
)

// names are llama.cpp's tensor names by role, without blk.N. and .weight.
var names = map[configs.Role]string{
	configs.Embed: "token_embd", configs.Positions: "position_embd", configs.FinalNorm: "output_norm", configs.Head: "output",
	configs.AttnNorm: "attn_norm", configs.Q: "attn_q", configs.K: "attn_k", configs.V: "attn_v", configs.O: "attn_output",
	configs.MLPNorm: "ffn_norm", configs.Gate: "ffn_gate", configs.Up: "ffn_up", configs.Down: "ffn_down",
	configs.EmbedNorm: "token_embd_norm", configs.QNorm: "attn_q_norm", configs.KNorm: "attn_k_norm", configs.AttnOutNorm: "post_attention_norm", configs.MLPOutNorm: "post_ffw_norm",
	configs.TokenType: "token_types", configs.Distances: "attn_rel_b", configs.CrossNorm: "cross_attn_norm",
	configs.CrossQ: "cross_attn_q", configs.CrossK: "cross_attn_k", configs.CrossV: "cross_attn_v", configs.CrossO: "cross_attn_o",
}

// tensors returns the file's tensors in the order of a forward pass.
func (b *builder) tensors() ([]Tensor, error) {
	var all []Tensor
	for _, p := range b.params {
		group, err := b.group(p)
		if err != nil {
			return nil, err
		}
		if group != nil {
			all = append(all, b.joinGroup(placeOf(p), group)...)
		}
	}
	if b.arch.Tied && b.gguf.CopyHead {
		all = append(all, b.copiedHead()...)
	}
	return append(all, b.ropeTensors()...), nil
}

// joinGroup returns the tensor of a group, and that of its biases.
func (b *builder) joinGroup(at place, g *group) []Tensor {
	name := b.tensorName(at, g)
	all := []Tensor{b.join(name+".weight", at, g.roles, false)}
	if b.biased(at, g.roles) {
		all = append(all, b.join(name+".bias", at, g.roles, true))
	}
	return all
}

// copiedHead returns the embedding as a separate head, with the head's bias if there is one.
func (b *builder) copiedHead() []Tensor {
	embed, _ := b.weight(configs.Embed, outside, false)
	name, part := names[configs.Head], []Part{{Param: embed}}
	head := []Tensor{{b.spec(name+".weight", configs.Embed, part), part}}
	if b.biased(outside, []configs.Role{configs.Head}) {
		head = append(head, b.join(name+".bias", outside, []configs.Role{configs.Head}, true))
	}
	return head
}

// group is the weights that form one tensor.
type group struct {
	name  string
	roles []configs.Role
}

// group returns the group that starts with a weight; nil if the weight belongs to another one's group or is not stored.
func (b *builder) group(p configs.Param) (*group, error) {
	qkv, gateUp := []configs.Role{configs.Q, configs.K, configs.V}, []configs.Role{configs.Gate, configs.Up}
	switch {
	case p.Bias || slices.Contains(b.gguf.Drop, p.Role):
		return nil, nil
	case b.gguf.FusedQKV && slices.Contains(qkv, p.Role):
		return first(p.Role, "attn_qkv", qkv), nil
	case b.gguf.FusedGateUp && slices.Contains(gateUp, p.Role):
		return first(p.Role, "ffn_up", gateUp), nil
	}
	name := cmp.Or(b.gguf.Names[p.Role], names[p.Role])
	if name == "" {
		return nil, fmt.Errorf("llama.cpp's %s has no place for %s (%s)", b.gguf.Arch, p.Tensor, p.Role)
	}
	return &group{name, []configs.Role{p.Role}}, nil
}

func first(role configs.Role, name string, roles []configs.Role) *group {
	if role != roles[0] {
		return nil
	}
	return &group{name, roles}
}

// biased reports whether a tensor has a bias: because one of its weights has one, or because llama.cpp requires it.
func (b *builder) biased(at place, roles []configs.Role) bool {
	return slices.ContainsFunc(roles, func(r configs.Role) bool {
		_, there := b.weight(r, at, true)
		return there || slices.Contains(b.gguf.Zeros, r)
	})
}

// join returns a tensor of the weights, or biases, of roles.
func (b *builder) join(name string, at place, roles []configs.Role, bias bool) Tensor {
	parts := make([]Part, len(roles))
	for i, role := range roles {
		parts[i] = b.part(role, at, bias)
	}
	return Tensor{b.spec(name, roles[0], parts), parts}
}

// part returns the weight, or bias, of a role. A missing bias is zeros.
func (b *builder) part(role configs.Role, at place, bias bool) Part {
	if i, ok := b.weight(role, at, bias); ok {
		p := b.params[i]
		return Part{Param: i, Rows: b.rotated(p), Offset: b.offset(p), Gain: b.gain(p)}
	}
	w, ok := b.weight(role, at, false)
	if !ok { // a tied head
		w, _ = b.weight(configs.Embed, at, false)
	}
	return Part{Param: -1, Values: make([]float32, b.params[w].Shape[0])}
}

// offset returns the constant missing from a norm's weight: llama.cpp multiplies by the weight without adding one.
func (b *builder) offset(p configs.Param) float32 {
	if p.Bias || !p.Role.IsNorm() {
		return 0
	}
	return float32(b.arch.NormOffset)
}

// gain returns the factor of the logits, which is folded into the last norm if llama.cpp does not support it.
func (b *builder) gain(p configs.Param) float32 {
	if b.gguf.FoldLogitScale && p.Name == configs.ParamName(configs.FinalNorm, -1, p.Bias) && b.arch.LogitScale != 1 {
		return float32(b.arch.LogitScale)
	}
	return 0
}

// spec combines the parts' specs: it adds rows and uses the widest dtype.
func (b *builder) spec(name string, role configs.Role, parts []Part) checkpoints.Spec {
	s := checkpoints.Spec{Name: name, Shape: []int{0}}
	for _, part := range parts {
		if part.Param < 0 {
			s.Shape[0] += len(part.Values)
			continue
		}
		p := b.params[part.Param]
		s.Shape = append([]int{s.Shape[0] + p.Shape[0]}, p.Shape[1:]...)
		s.DType = wider(s.DType, b.dtype(p.Tensor))
	}
	if len(s.Shape) == 1 || role.IsNorm() || slices.Contains(tables, role) {
		s.DType = checkpoints.F32
	}
	return s
}

// wider returns a dtype that can represent both a, if it is not 0, and b.
func wider(a, b checkpoints.DType) checkpoints.DType {
	if a == 0 || a == b {
		return b
	}
	return checkpoints.F32
}

// tables are matrices that are added rather than multiplied by: llama.cpp stores them, like all vectors, in f32.
var tables = []configs.Role{configs.Positions, configs.TokenType, configs.Distances}
