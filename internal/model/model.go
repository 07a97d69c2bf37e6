// Package model is the forward pass of decoders, encoders and encoder-decoders, written once over ops for every family
// whose blocks configs describes.
package model

import (
	"gqa/configs"
	"gqa/internal/ops"
)

// Model is a stack of layers with an engine's weights of type T, and its encoder, if there is one.
type Model[T any] struct {
	Arch *configs.Arch

	embed, positions T
	projectIn        *ops.Linear[T]
	embedNorm        *ops.Norm[T]
	tokenTypes       T
	distances        T // for relative positions, if hasDistances
	hasDistances     bool
	encoder          *Model[T]
	memory           T // the encoder's output, if hasMemory; then the encoder is not run
	hasMemory        bool
	layers           []layer[T]
	finalNorm        *ops.Norm[T]
	projectOut       *ops.Linear[T]
	headDense        ops.Linear[T] // before the head, if headNorm is set
	headNorm         *ops.Norm[T]
	head             ops.Linear[T]
	rope, windowRope *ops.Rope   // of layers without and with a sliding window; nil if positions are not rotary
	latentRopes      []*ops.Rope // of each layer, if its latent attention has frequencies of its own; nil: rope
	recompute        ops.Recompute
}

// SetRecompute sets what a training step computes twice.
func (m *Model[T]) SetRecompute(r ops.Recompute) {
	if m.recompute = r; m.encoder != nil {
		m.encoder.SetRecompute(r)
	}
}

// recomputed returns f(x, s), computed twice if the engine can do so.
func recomputed[T any](e ops.Ops[T], f func(x T, s shared[T]) T, x T, s shared[T]) T {
	r, ok := e.(ops.Recomputer[T])
	if !ok {
		return f(x, s)
	}
	in := []T{x}
	for _, more := range []struct {
		value T
		ok    bool
	}{{s.memory, s.hasMemory}, {s.bias, s.hasBias}} {
		if more.ok {
			in = append(in, more.value)
		}
	}
	return r.Recompute(func(in []T) T {
		next := in[1:]
		if s.hasMemory {
			s.memory, next = next[0], next[1:]
		}
		if s.hasBias {
			s.bias = next[0]
		}
		return f(in[0], s)
	}, in...)
}

// layer is one block. A nil norm is the identity.
type layer[T any] struct {
	attnNorm, attnOutNorm *ops.Norm[T]
	mlpNorm, mlpOutNorm   *ops.Norm[T]
	qNorm, kNorm          *ops.Norm[T]
	qkv, in               []ops.Linear[T] // in is gate and up, or only up
	o, down               ops.Linear[T]
	attention             ops.Attention[T]
	latent                *latent[T] // nil if the attention is not latent; then qkv, qNorm and kNorm are not used
	cross                 *cross[T]  // nil if there is no encoder
	distances             T          // for relative positions, if hasDistances; otherwise the stack's are used
	hasDistances          bool
}

// New builds the model of arch from weights by name, as configs.Arch.Params lists them. weight also reports whether
// there is such a weight.
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
		m.latentRopes = latentRopes(arch, m.rope)
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

// mlpIn returns the input projections of the feed-forward block.
func (b builder[T]) mlpIn(layer int) []ops.Linear[T] {
	if b.arch.MLP == configs.Gated {
		return b.linears(layer, configs.Gate, configs.Up)
	}
	return b.linears(layer, configs.Up)
}

// projection returns the projection with that role; nil if the model has none.
func (b builder[T]) projection(role configs.Role) *ops.Linear[T] {
	if !b.arch.Has(role) {
		return nil
	}
	l := b.linear(role, -1)
	return &l
}

// norm returns the norm with that role; nil if the family has none.
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
			Scale: float32(b.arch.LayerScoreScale(i)), Causal: b.arch.Causal, Window: b.arch.LayerWindow(i),
			HasBias: b.arch.Position == configs.PositionT5,
		},
		cross: b.cross(i),
	}
	if b.arch.IsLatent() {
		l.latent = b.latent(i, l.attention)
	}
	l.distances, l.hasDistances = b.weight(configs.ParamName(configs.Distances, i, false))
	if b.arch.Position == configs.PositionALiBi {
		l.attention.Slopes, l.attention.CoarseSlopes = slopes(b.arch, l.attention.Scale)
	}
	return l
}

// slopes returns ALiBi's slopes and the factor of a coarse bias, both relative to the scale of the scores.
func slopes(a *configs.Arch, scale float32) (slopes []float32, coarse float32) {
	for _, s := range a.ALiBi.Slopes(a.Heads) {
		slopes = append(slopes, float32(s))
	}
	return slopes, scale * float32(a.ALiBi.Coarse)
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

// Hidden runs the batch through every layer and the final norm, and returns the hidden states [tokens, dim]. They are
// already multiplied by the scale of the logits, which are linear in them.
func (m *Model[T]) Hidden(e ops.Ops[T], b ops.Batch) T {
	return m.States(e, b, func(T) {})
}

// States is like Hidden but also calls show with the output of each layer, [tokens, dim].
func (m *Model[T]) States(e ops.Ops[T], b ops.Batch, show func(T)) T {
	s := m.share(e, b)
	x := m.Start(e, b)
	for i := range m.layers {
		x = m.layer(i, e, x, s, b)
		show(x)
	}
	return m.End(e, x)
}

// projected applies l, if it is not nil, to x.
func projected[T any](e ops.Ops[T], x T, l *ops.Linear[T]) T {
	if l == nil {
		return x
	}
	return e.Linear(x, *l)
}

// tokenTypes returns the batch's token types, or zeros.
func tokenTypes(b ops.Batch) []int32 {
	if b.Types != nil {
		return b.Types
	}
	return make([]int32, len(b.IDs))
}

// normed applies n, if it is not nil, to x.
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

// Head returns the linear layer that Logits applies: [vocab, dim].
func (m *Model[T]) Head() ops.Linear[T] { return m.head }

// Logits maps hidden states to the vocabulary: [tokens, dim] -> [tokens, vocab].
func (m *Model[T]) Logits(e ops.Ops[T], hidden T) T { return e.Linear(hidden, m.head) }

// layer runs layer i on x. Without recomputation it makes no closure, as decoding must not allocate.
func (m *Model[T]) layer(i int, e ops.Ops[T], x T, s shared[T], b ops.Batch) T {
	if m.recompute != ops.RecomputeLayer {
		return m.layers[i].forward(e, m, x, s, b)
	}
	return m.layers[i].forwardAgain(e, m, x, s, b)
}

// forwardAgain is forward, computed twice. It is apart because a closure takes large parameters of its function from the heap.
func (l *layer[T]) forwardAgain(e ops.Ops[T], m *Model[T], x T, s shared[T], b ops.Batch) T {
	return recomputed(e, func(x T, s shared[T]) T { return l.forward(e, m, x, s, b) }, x, s)
}

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
	if m.recompute != ops.RecomputeAttention {
		return l.selfAttend(e, m, x, s, b)
	}
	return l.attendAgain(e, m, x, s, b)
}

// attendAgain is attend, computed twice; see forwardAgain.
func (l *layer[T]) attendAgain(e ops.Ops[T], m *Model[T], x T, s shared[T], b ops.Batch) T {
	return recomputed(e, func(x T, s shared[T]) T { return l.selfAttend(e, m, x, s, b) }, x, s)
}

func (l *layer[T]) selfAttend(e ops.Ops[T], m *Model[T], x T, s shared[T], b ops.Batch) T {
	if l.latent != nil {
		return e.Linear(l.latent.attend(e, m, x, b), l.o)
	}
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
		q, k = ops.RotatePair(e, q, k, rope, b.Pos, a.Heads, a.KVHeads, a.HeadDim)
	}
	return e.Linear(e.Attend(q, k, v, a, b), l.o)
}

func (l *layer[T]) feedForward(e ops.Ops[T], arch *configs.Arch, x T) T {
	act := arch.Activation
	if arch.MLP == configs.Gated {
		return e.Linear(ops.LinearGate(e, x, l.in, act), l.down)
	}
	return e.Linear(e.Activate(e.Linear(x, l.in[0]), act), l.down)
}
