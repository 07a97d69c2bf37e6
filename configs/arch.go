package configs

import "gqa/internal/activation"

// Arch is the architecture of one checkpoint: a family's blocks with the sizes given in config.json.
type Arch struct {
	Family *Family
	Prefix string // replaces {prefix} in this checkpoint's tensor names

	Vocab, Dim, Layers, Heads, KVHeads, FFN, Context int
	HeadDim                                          int // width of a head's queries and keys. See ValueDim

	Attention    Attention
	Latent       Latent   // its sizes, if it is latent. See At
	LatentLayers []Latent // sizes of each layer if they differ, Latent being the largest; nil: Latent in every layer

	EmbedDim       int // width of the embeddings, in families that project them to Dim
	PositionOffset int // rows of the learned position table that precede position 0
	// Encoder of an encoder-decoder model, whose decoder has Layers and KVHeads; 0 if there is none. See Encoder.
	EncoderLayers, EncoderKVHeads int
	CrossKVHeads                  int // of the cross-attention to the encoder's output

	LayerKVHeads []int // KV heads of each layer if they differ, KVHeads being the maximum; nil: KVHeads in every layer. See LayerKV
	TokenTypes   int   // rows of the token type embedding; 0 if there is none

	NormEps           float64
	NormOffset        float64 // added to the norms' weights: 1 in Gemma
	Tied              bool    // the head shares the embedding's weight
	AttnBias, MLPBias bool
	ScaleScores       bool    // scores are divided by sqrt(HeadDim)
	ScaleByLayer      bool    // … and by the layer number, counted from 1
	ScoreScale        float64 // if not 0, factor for scores in place of the above
	ScoreMScale       bool    // scores are also multiplied by Rope.ScoreFactor
	ClipQKV           float64 // queries, keys and values are clipped to ±ClipQKV, if not 0
	Padding           int     // token whose embedding gets no gradient from its lookup (torch's padding_idx); -1: none
	EmbedScale        float64 // factor for embeddings; usually 1, like the next two
	ResidualScale     float64 // factor for what a block adds to the residual stream
	LogitScale        float64
	Window            int // number of tokens visible to a token in a sliding-window layer, including itself; 0: all. See LayerWindow
	Norm              Norm
	MLP               MLP
	Residual          Residual
	Position          Position
	Activation        activation.Func // of the MLP
	Rope              Rope
	WindowRope        *Rope // of sliding-window layers; nil: same as Rope
	RopeInterleaved   bool  // planes are (2i, 2i+1) as in GPT-J instead of (i, i+Dim/2) as in Llama
	ALiBi             ALiBi
	Relative          Relative
	Causal            bool // a token does not see later tokens
	Headless          bool // the checkpoint has no language-modelling head: it can be converted but not run
	StartToken        int  // first token of a decoder with an encoder
	PadToken          int  // token that pads a batch

	// Unknown lists the config.json keys that are known neither to the family nor to transformers' base class.
	Unknown []string
	// Notes are remarks on this checkpoint for the user.
	Notes []string

	bools      map[string]bool
	oldNorms   bool            // norm weights are called gamma and beta, as in the first BERT checkpoints
	absent     map[string]bool // sets of optional tensors missing from the checkpoint
	grouped    bool            // KV heads are laid out as groups even if there are as many as heads
	windowFrom int             // first sliding-window layer, unless layerTypes is set
	layerTypes []string        // by layer, repeated as a pattern; nil: not given
	untied     map[Role]bool   // roles that use the names for an untied head
	biased     map[Role]bool   // roles that have a bias, where this is up to the checkpoint
}

// Names of the block choices in family files.
type (
	// Norm is the normalisation of a layer's input.
	Norm string
	// MLP is the feed-forward block.
	MLP string
	// Residual is the way in which attention and MLP are added to the residual stream.
	Residual string
	// Position is the kind of position information.
	Position string
)

// Values of the block choices.
const (
	RMSNorm   Norm = "rms"
	LayerNorm Norm = "layer"

	Gated MLP = "gated" // down(act(gate(x)) * up(x))
	Plain MLP = "plain" // down(act(up(x)))

	Sequential Residual = "sequential" // x += attn(norm1(x)); x += mlp(norm2(x))
	Normed     Residual = "normed"     // x = norm1(x); x += attn(x); x = norm2(x); x += mlp(x)
	PostNorm   Residual = "post_norm"  // x = norm1(x + attn(x)); x = norm2(x + mlp(x))
	Parallel   Residual = "parallel"   // x += attn(norm1(x)) + mlp(norm2(x))

	PositionNone    Position = "none" // order is known only from the causal mask
	PositionRope    Position = "rope"
	PositionLearned Position = "learned"
	PositionALiBi   Position = "alibi"
	PositionT5      Position = "relative" // a learned bias per range of distances and head, one table per stack
)

// Relative holds the parameters of T5's distance buckets: see nn.RelativeBuckets.
type Relative struct{ Buckets, MaxDistance int }

// MaxPositions returns the maximum sequence length, or 0 if it is unlimited. Learned positions limit it, and so does dynamic
// rotary scaling: beyond the context, it changes every position's embedding with the length.
func (a *Arch) MaxPositions() int {
	if a.Position == PositionLearned || a.Rope.Type == "dynamic" || a.WindowRope != nil && a.WindowRope.Type == "dynamic" {
		return a.Context
	}
	return 0
}
