// Package model is the forward pass of a decoder, an encoder or both, written once over ops for every family whose blocks configs describes.
package model

import (
	"math"

	"gqa/configs"
	"gqa/internal/ops"
)

// Model is a stack of layers with an engine's weights of type T, and the encoder that it reads, if there is one.
type Model[T any] struct {
	Arch *configs.Arch

	embed, positions T
	projectIn        *ops.Linear[T]
	embedNorm        *ops.Norm[T]
	tokenTypes       T
	distances        T // of relative positions, if hasDistances
	hasDistances     bool
	encoder          *Model[T]
	memory           T // of the encoder, if hasMemory: then it is not run
	hasMemory        bool
	layers           []layer[T]
	finalNorm        *ops.Norm[T]
	projectOut       *ops.Linear[T]
	headDense        ops.Linear[T] // before the head, if headNorm is there
	headNorm         *ops.Norm[T]
	head             ops.Linear[T]
	rope, windowRope *ops.Rope // of layers without and with a sliding window; nil: positions are not rotary
}

// layer is one block; a norm that is nil leaves its input as it is.
type layer[T any] struct {
	attnNorm, attnOutNorm *ops.Norm[T]
	mlpNorm, mlpOutNorm   *ops.Norm[T]
	qNorm, kNorm          *ops.Norm[T]
	qkv, in               []ops.Linear[T] // in is gate and up, or up alone
	o, down               ops.Linear[T]
	attention             ops.Attention[T]
	cross                 *cross[T] // nil: there is no encoder
	distances             T         // of relative positions, if hasDistances; else the stack's are
	hasDistances          bool
}

// New builds the model of arch over weights by name, as configs.Arch.Params lists them. The second result of weight says
// whether there is such a weight.
func New[T any](arch *configs.Arch, weight func(name string) (T, bool)) *Model[T] {
	b := builder[T]{arch: arch, weight: weight}
	m := &Model[T]{Arch: arch, finalNorm: b.norm(configs.FinalNorm, -1), head: b.linear(configs.Head, -1)}
	m.embed = b.linear(configs.Embed, -1).W
	m.projectIn, m.projectOut = b.projection(configs.ProjectIn), b.projection(configs.ProjectOut)
	m.embedNorm, m.positions = b.norm(configs.EmbedNorm, -1), b.linear(configs.Positions, -1).W
	m.tokenTypes = b.linear(configs.TokenType, -1).W
	m.distances, m.hasDistances = b.weight(configs.ParamName(configs.Distances, -1, false))
	m.encoder = b.encoder()
	if arch.Tied {
		m.head.W = m.embed
	}
	if arch.Has(configs.HeadBias) {
		m.head.Bias, m.head.HasBias = b.linear(configs.HeadBias, -1).W, true
	}
	m.headDense, m.headNorm = b.linear(configs.HeadDense, -1), b.norm(configs.HeadNorm, -1)
	if arch.Position == configs.PositionRope {
		m.rope = newRope(arch, arch.Rope)
		if m.windowRope = m.rope; arch.WindowRope != nil {
			m.windowRope = newRope(arch, *arch.WindowRope)
		}
	}
	for i := range arch.Layers {
		m.layers = append(m.layers, b.layer(i))
	}
	return m
}

type builder[T any] struct {
	arch   *configs.Arch
	weight func(name string) (T, bool)
}

func (b builder[T]) linear(role configs.Role, layer int) ops.Linear[T] {
	var l ops.Linear[T]
	l.W, _ = b.weight(configs.ParamName(role, layer, false))
	l.Bias, l.HasBias = b.weight(configs.ParamName(role, layer, true))
	return l
}

func (b builder[T]) linears(layer int, roles ...configs.Role) (ls []ops.Linear[T]) {
	for _, r := range roles {
		ls = append(ls, b.linear(r, layer))
	}
	return ls
}

// mlpIn is what the feed-forward block begins with.
func (b builder[T]) mlpIn(layer int) []ops.Linear[T] {
	if b.arch.MLP == configs.Gated {
		return b.linears(layer, configs.Gate, configs.Up)
	}
	return b.linears(layer, configs.Up)
}

// projection is nil where the model has none of that role.
func (b builder[T]) projection(role configs.Role) *ops.Linear[T] {
	if !b.arch.Has(role) {
		return nil
	}
	l := b.linear(role, -1)
	return &l
}

// norm is nil where the family has none of that role.
func (b builder[T]) norm(role configs.Role, layer int) *ops.Norm[T] {
	if !b.arch.Has(role) {
		return nil
	}
	n := ops.Norm[T]{
		Layer: b.arch.Norm == configs.LayerNorm, Dim: b.arch.At(layer).NormDim(role),
		Offset: float32(b.arch.NormOffset), Eps: float32(b.arch.NormEps),
	}
	n.W, n.HasW = b.weight(configs.ParamName(role, layer, false))
	n.Bias, n.HasBias = b.weight(configs.ParamName(role, layer, true))
	return &n
}

func (b builder[T]) layer(i int) layer[T] {
	l := layer[T]{
		attnNorm: b.norm(configs.AttnNorm, i), attnOutNorm: b.norm(configs.AttnOutNorm, i),
		mlpNorm: b.norm(configs.MLPNorm, i), mlpOutNorm: b.norm(configs.MLPOutNorm, i),
		qNorm: b.norm(configs.QNorm, i), kNorm: b.norm(configs.KNorm, i),
		qkv: b.linears(i, configs.Q, configs.K, configs.V),
		in:  b.mlpIn(i),
		o:   b.linear(configs.O, i), down: b.linear(configs.Down, i),
		attention: ops.Attention[T]{
			Site: i, Heads: b.arch.Heads, KVHeads: b.arch.LayerKV(i), HeadDim: b.arch.HeadDim,
			Scale: scoreScale(b.arch, i), Causal: b.arch.Causal, Window: b.arch.LayerWindow(i),
			HasBias: b.arch.Position == configs.PositionT5,
		},
		cross: b.cross(i),
	}
	l.distances, l.hasDistances = b.weight(configs.ParamName(configs.Distances, i, false))
	if b.arch.Position == configs.PositionALiBi {
		l.attention.Slopes, l.attention.CoarseSlopes = slopes(b.arch, l.attention.Scale)
	}
	return l
}

// slopes are ALiBi's, and what a coarse bias is scaled with, by the scale of the scores.
func slopes(a *configs.Arch, scale float32) (slopes []float32, coarse float32) {
	for _, s := range a.ALiBi.Slopes(a.Heads) {
		slopes = append(slopes, float32(s))
	}
	return slopes, scale * float32(a.ALiBi.Coarse)
}

func scoreScale(a *configs.Arch, layer int) float32 {
	scale := 1.0
	switch {
	case a.ScoreScale != 0:
		scale = a.ScoreScale
	case a.ScaleScores:
		scale /= math.Sqrt(float64(a.HeadDim))
	}
	if a.ScaleByLayer {
		scale /= float64(layer + 1)
	}
	return float32(scale)
}

func newRope(a *configs.Arch, rope configs.Rope) *ops.Rope {
	r := &ops.Rope{InvFreq: rope.InvFreq(), Interleaved: a.RopeInterleaved, Scale: rope.Scale(), Positions: a.Context}
	if long := rope.LongInvFreq(); long != nil {
		other := *r
		other.InvFreq = long
		r.Long, r.LongFrom = &other, int(rope.OriginalContext)
	}
	return r
}

// Hidden runs the batch through every layer and the final norm: [tokens, dim]. It includes the scale of the logits, which
// are linear in it.
func (m *Model[T]) Hidden(e ops.Ops[T], b ops.Batch) T {
	return m.States(e, b, func(T) {})
}

// States is Hidden, showing what each layer leaves, [tokens, dim], on the way.
func (m *Model[T]) States(e ops.Ops[T], b ops.Batch, show func(T)) T {
	s := m.share(e, b)
	x := m.Start(e, b)
	for i := range m.layers {
		x = m.layers[i].forward(e, m, x, s, b)
		show(x)
	}
	return m.End(e, x)
}

// projected is x through a linear layer, if there is one.
func projected[T any](e ops.Ops[T], x T, l *ops.Linear[T]) T {
	if l == nil {
		return x
	}
	return e.Linear(x, *l)
}

// tokenTypes are the batch's, or zeros.
func tokenTypes(b ops.Batch) []int32 {
	if b.Types != nil {
		return b.Types
	}
	return make([]int32, len(b.IDs))
}

// normed is x through a norm, if there is one.
func normed[T any](e ops.Ops[T], x T, n *ops.Norm[T]) T {
	if n == nil {
		return x
	}
	return e.Norm(x, *n)
}

func scaled[T any](e ops.Ops[T], x T, s float64) T {
	if s == 1 {
		return x
	}
	return e.Scale(x, float32(s))
}

// Head is the linear layer that Logits applies: [vocab, dim].
func (m *Model[T]) Head() ops.Linear[T] { return m.head }

// Logits maps hidden rows to the vocabulary: [tokens, dim] -> [tokens, vocab].
func (m *Model[T]) Logits(e ops.Ops[T], hidden T) T { return e.Linear(hidden, m.head) }

func (l *layer[T]) forward(e ops.Ops[T], m *Model[T], x T, s shared[T], b ops.Batch) T {
	if m.Arch.Residual == configs.PostNorm {
		x = normed(e, e.Add(x, scaled(e, l.attend(e, m, x, s, b), m.Arch.ResidualScale)), l.attnNorm)
		return normed(e, e.Add(x, scaled(e, l.feedForward(e, m.Arch, x), m.Arch.ResidualScale)), l.mlpNorm)
	}
	in := normed(e, x, l.attnNorm)
	attn := normed(e, l.attend(e, m, in, s, b), l.attnOutNorm)
	if m.Arch.Residual == configs.Parallel {
		if l.mlpNorm != nil {
			in = e.Norm(x, *l.mlpNorm)
		}
		mlp := normed(e, l.feedForward(e, m.Arch, in), l.mlpOutNorm)
		return e.Add(x, scaled(e, e.Add(attn, mlp), m.Arch.ResidualScale))
	}
	if m.Arch.Residual == configs.Normed {
		x = in
	}
	x = e.Add(x, scaled(e, attn, m.Arch.ResidualScale))
	if l.cross != nil {
		x = e.Add(x, l.cross.attend(e, normed(e, x, l.cross.norm), s, b))
	}
	in = normed(e, x, l.mlpNorm)
	mlp := normed(e, l.feedForward(e, m.Arch, in), l.mlpOutNorm)
	if m.Arch.Residual == configs.Normed {
		x = in
	}
	return e.Add(x, scaled(e, mlp, m.Arch.ResidualScale))
}

func (l *layer[T]) attend(e ops.Ops[T], m *Model[T], x T, s shared[T], b ops.Batch) T {
	a := l.attention
	a.Bias = s.bias
	if l.hasDistances {
		a.Bias = e.RelativeBias(l.distances, m.relative(), b)
	}
	qkv := ops.Linears(e, x, l.qkv)
	q, k, v := qkv[0], qkv[1], qkv[2]
	if limit := float32(m.Arch.ClipQKV); limit > 0 {
		q, k, v = e.Clip(q, limit), e.Clip(k, limit), e.Clip(v, limit)
	}
	q, k = normed(e, q, l.qNorm), normed(e, k, l.kNorm)
	rope := m.rope
	if a.Window > 0 {
		rope = m.windowRope
	}
	if rope != nil {
		q = e.Rotate(q, rope, b.Pos, a.Heads, a.HeadDim)
		k = e.Rotate(k, rope, b.Pos, a.KVHeads, a.HeadDim)
	}
	return e.Linear(e.Attend(q, k, v, a, b), l.o)
}

func (l *layer[T]) feedForward(e ops.Ops[T], arch *configs.Arch, x T) T {
	act := arch.Activation
	if arch.MLP == configs.Gated {
		in := ops.Linears(e, x, l.in)
		return e.Linear(e.Gate(in[0], in[1], act), l.down)
	}
	return e.Linear(e.Activate(e.Linear(x, l.in[0]), act), l.down)
}
