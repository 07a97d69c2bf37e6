package configs

import "gqa/internal/activation"

// Arch is one checkpoint's architecture: a family's blocks with the sizes of its config.json.
type Arch struct {
	Family *Family
	Prefix string // what {prefix} stands for in this checkpoint's tensor names

	Vocab, Dim, Layers, Heads, KVHeads, HeadDim, FFN, Context int

	EmbedDim       int // width of the embeddings, in families that project them to Dim
	PositionOffset int // rows of the learned positions before that of position 0
	// An encoder beside the decoder, whose layers Layers and KVHeads are of: see Encoder. 0: there is none.
	EncoderLayers, EncoderKVHeads int
	CrossKVHeads                  int // of the decoder's attention to the encoder's output

	LayerKVHeads []int // of each layer, where they differ: KVHeads is the most of them; nil: KVHeads in all. See LayerKV
	TokenTypes   int   // rows of the token type embedding; 0: there is none

	NormEps           float64
	NormOffset        float64 // added to the norms' weights: 1 in Gemma
	Tied              bool    // the head is the embedding
	AttnBias, MLPBias bool
	ScaleScores       bool    // scores are divided by sqrt(HeadDim)
	ScaleByLayer      bool    // … and by the layer's number, from 1
	ScoreScale        float64 // what scores are multiplied with instead, if not 0
	ClipQKV           float64 // queries, keys and values are clipped to ±ClipQKV, if not 0
	Padding           int     // token whose embedding is not learned from where it is read (torch's padding_idx); -1: none
	EmbedScale        float64 // of embeddings; 1 as a rule, like the next two
	ResidualScale     float64 // of what a block adds to the stream
	LogitScale        float64
	Window            int // how many tokens a token of a sliding layer sees, itself included; 0: all. See LayerWindow
	Norm              Norm
	MLP               MLP
	Residual          Residual
	Position          Position
	Activation        activation.Func // of the MLP
	Rope              Rope
	WindowRope        *Rope // of the layers whose window slides, where it differs; nil: Rope
	RopeInterleaved   bool  // planes are (2i, 2i+1) as in GPT-J, not (i, i+Dim/2) as in Llama
	ALiBi             ALiBi
	Relative          Relative
	Causal            bool // a token sees none that follow it
	Headless          bool // the checkpoint has no language-modelling head: it can be converted, not run
	StartToken        int  // what a decoder behind an encoder begins with
	PadToken          int  // what fills up a batch

	// Unknown lists config.json keys that neither the family nor transformers' base class explains.
	Unknown []string
	// Notes are what a person should know of this checkpoint.
	Notes []string

	bools      map[string]bool
	oldNorms   bool            // weights of norms are called gamma and beta, as in the first BERTs
	absent     map[string]bool // sets of optional tensors that the checkpoint has not
	grouped    bool            // the KV heads lie as groups even if there are as many as heads
	windowFrom int             // the first layer whose window slides, unless layerTypes says
	layerTypes []string        // by layer, from the first one again where they end; nil: not given
	untied     map[Role]bool   // which roles go by their names beside an untied head
	biased     map[Role]bool   // where the checkpoint decides, which roles have a bias
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
)

// The values of the block choices.
const (
	RMSNorm   Norm = "rms"
	LayerNorm Norm = "layer"

	Gated MLP = "gated" // down(act(gate(x)) * up(x))
	Plain MLP = "plain" // down(act(up(x)))

	Sequential Residual = "sequential" // x += attn(norm1(x)); x += mlp(norm2(x))
	Normed     Residual = "normed"     // x = norm1(x); x += attn(x); x = norm2(x); x += mlp(x)
	PostNorm   Residual = "post_norm"  // x = norm1(x + attn(x)); x = norm2(x + mlp(x))
	Parallel   Residual = "parallel"   // x += attn(norm1(x)) + mlp(norm2(x))

	PositionNone    Position = "none" // order shows in what is seen alone
	PositionRope    Position = "rope"
	PositionLearned Position = "learned"
	PositionALiBi   Position = "alibi"
	PositionT5      Position = "relative" // a learned bias per range of distances and head, one table per stack
)

// Relative is how T5 tells distances apart: see nn.RelativeBuckets.
type Relative struct{ Buckets, MaxDistance int }

// MaxPositions is how long a sequence can be; 0: as long as one likes. Learned positions end, and dynamic rotary scaling
// changes every position's embedding with the length beyond the context.
func (a *Arch) MaxPositions() int {
	if a.Position == PositionLearned || a.Rope.Type == "dynamic" || a.WindowRope != nil && a.WindowRope.Type == "dynamic" {
		return a.Context
	}
	return 0
}
