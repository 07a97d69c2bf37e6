package configs

// Arch is one checkpoint's architecture: a family's blocks with the sizes of its config.json.
type Arch struct {
	Family *Family
	Prefix string // what {prefix} stands for in this checkpoint's tensor names

	Vocab, Dim, Layers, Heads, KVHeads, HeadDim, FFN, Context int

	EmbedDim       int // width of the embeddings, in families that project them to Dim
	PositionOffset int // rows of the learned positions before that of position 0

	NormEps           float64
	NormOffset        float64 // added to the norms' weights: 1 in Gemma
	Tied              bool    // the head is the embedding
	AttnBias, MLPBias bool
	ScaleScores       bool    // scores are divided by sqrt(HeadDim)
	ScaleByLayer      bool    // … and by the layer's number, from 1
	ScoreScale        float64 // what scores are multiplied with instead, if not 0
	ClipQKV           float64 // queries, keys and values are clipped to ±ClipQKV, if not 0
	EmbedScale        float64 // of embeddings; 1 as a rule, like the next two
	ResidualScale     float64 // of what a block adds to the stream
	LogitScale        float64
	Window            int // how many tokens a token of a sliding layer sees, itself included; 0: all. See LayerWindow
	Norm              Norm
	MLP               MLP
	Residual          Residual
	Position          Position
	Activation        Activation
	Rope              Rope
	RopeInterleaved   bool // planes are (2i, 2i+1) as in GPT-J, not (i, i+Dim/2) as in Llama
	ALiBi             ALiBi

	// Unknown lists config.json keys that neither the family nor transformers' base class explains.
	Unknown []string
	// Notes are what a person should know of this checkpoint.
	Notes []string

	bools      map[string]bool
	grouped    bool     // the KV heads lie as groups even if there are as many as heads
	windowFrom int      // the first layer whose window slides, unless layerTypes says
	layerTypes []string // by layer; nil: not given
}

// The block choices are closed sets, named in family files.
type (
	// Norm is how a layer's input is normalised.
	Norm string
	// MLP is the feed-forward block.
	MLP string
	// Residual is how attention and MLP are added to the stream.
	Residual string
	// Position is where positions enter.
	Position string
	// Activation is the MLP's non-linearity.
	Activation string
)

// The values of the block choices.
const (
	RMSNorm   Norm = "rms"
	LayerNorm Norm = "layer"

	Gated MLP = "gated" // down(act(gate(x)) * up(x))
	Plain MLP = "plain" // down(act(up(x)))

	Sequential Residual = "sequential" // x += attn(norm1(x)); x += mlp(norm2(x))
	Normed     Residual = "normed"     // x = norm1(x); x += attn(x); x = norm2(x); x += mlp(x)
	Parallel   Residual = "parallel"   // x += attn(norm1(x)) + mlp(norm2(x))

	PositionRope    Position = "rope"
	PositionLearned Position = "learned"
	PositionALiBi   Position = "alibi"

	SiLU      Activation = "silu"
	GELU      Activation = "gelu"      // with the error function
	GELUTanh  Activation = "gelu_tanh" // the tanh approximation
	QuickGELU Activation = "quick_gelu"
	ReLU      Activation = "relu"
	ReLU2     Activation = "relu2"
)

// GroupSize is how many heads share one KV head.
func (a *Arch) GroupSize() int { return a.Heads / a.KVHeads }

// WithKVHeads is the same architecture with another number of KV heads.
func (a *Arch) WithKVHeads(groups int) *Arch {
	b := *a
	b.KVHeads = groups
	return &b
}

// MaxPositions is how long a sequence can be; 0: as long as one likes. Learned positions end, and dynamic rotary scaling
// changes every position's embedding with the length beyond the context.
func (a *Arch) MaxPositions() int {
	if a.Position == PositionLearned || a.Rope.Type == "dynamic" {
		return a.Context
	}
	return 0
}

// KVDim is the width of one layer's keys (or values) per token.
func (a *Arch) KVDim() int { return a.KVHeads * a.HeadDim }

// KVBytesPerToken is what the KV cache takes for one token over all layers, at elementSize bytes an element.
func (a *Arch) KVBytesPerToken(elementSize int) int64 {
	return 2 * int64(a.Layers) * int64(a.KVDim()) * int64(elementSize)
}

// LegalGroups lists the group counts that a conversion can reach, from one head up: divisors of the KV heads.
func (a *Arch) LegalGroups() []int {
	var legal []int
	for g := 1; g <= a.KVHeads; g++ {
		if a.KVHeads%g == 0 {
			legal = append(legal, g)
		}
	}
	return legal
}
