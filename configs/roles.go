package configs

import "slices"

// Role is what a tensor is to the forward pass.
type Role string

// The roles. Q, K, V stand alone or, fused, as QKV.
const (
	Embed      Role = "embed"       // [vocab, dim]
	ProjectIn  Role = "project_in"  // [dim, embed_dim] from embeddings narrower or wider than the model
	Positions  Role = "positions"   // [context + position_offset, dim] learned absolute positions
	TokenType  Role = "token_type"  // [token_types, dim] added to the embedding
	EmbedNorm  Role = "embed_norm"  // [dim] of all that is embedded, before the first layer
	Distances  Role = "distances"   // [relative_buckets, heads] T5's bias of scores, of all layers of a stack or of each
	FinalNorm  Role = "final_norm"  // [dim]
	ProjectOut Role = "project_out" // [embed_dim, dim] back to the embeddings' width, before the head
	HeadDense  Role = "head_dense"  // [dim, dim] before the head, then the activation and
	HeadNorm   Role = "head_norm"   // [dim]
	Head       Role = "head"        // [vocab, dim]; absent where tied to Embed
	HeadBias   Role = "head_bias"   // [vocab] of a head whose bias has a name of its own

	AttnNorm  Role = "attn_norm"  // [dim] of the attention's input
	Q         Role = "q"          // [heads*head_dim, dim]
	K         Role = "k"          // [kv_heads*head_dim, dim]
	V         Role = "v"          // [kv_heads*head_dim, dim]
	FusedQKV  Role = "qkv"        // [(heads+2*kv_heads)*head_dim, dim], rows by the family's layout
	QNorm     Role = "q_norm"     // of the queries, over the last dimension of its shape: a head or all of them
	KNorm     Role = "k_norm"     // of the keys, likewise
	O         Role = "o"          // [dim, heads*head_dim]
	CrossNorm Role = "cross_norm" // [dim]; cross-attention stands between self-attention and MLP
	CrossQ    Role = "cross_q"    // [heads*head_dim, dim]
	CrossK    Role = "cross_k"    // [cross_kv_heads*head_dim, dim]
	CrossV    Role = "cross_v"    // [cross_kv_heads*head_dim, dim]
	CrossO    Role = "cross_o"    // [dim, heads*head_dim]
	MLPNorm   Role = "mlp_norm"   // [dim] of the MLP's input; a parallel layer without one shares the attention's
	Gate      Role = "gate"       // [ffn, dim]
	Up        Role = "up"         // [ffn, dim]
	GateUp    Role = "gate_up"    // [2*ffn, dim]: both in one, gate first as a rule
	Down      Role = "down"       // [dim, ffn]

	AttnOutNorm Role = "attn_out_norm" // [dim] of what the attention adds to the stream
	MLPOutNorm  Role = "mlp_out_norm"  // [dim] of what the MLP adds to the stream
)

// Roles in the order in which a forward pass meets them.
var (
	modelRoles = []Role{
		Embed, ProjectIn, Positions, TokenType, EmbedNorm, Distances, FinalNorm, ProjectOut, HeadDense, HeadNorm, Head, HeadBias,
	}
	layerRoles = []Role{
		AttnNorm, Q, K, V, FusedQKV, QNorm, KNorm, Distances, O, AttnOutNorm, CrossNorm, CrossQ, CrossK, CrossV, CrossO,
		MLPNorm, Gate, Up, GateUp, Down, MLPOutNorm,
	}
	attentionRoles = []Role{Q, K, V, FusedQKV, O, CrossQ, CrossK, CrossV, CrossO}
	tableRoles     = []Role{Embed, Positions, TokenType, Distances, Head} // a row for each token, place or distance
	normRoles      = []Role{EmbedNorm, FinalNorm, HeadNorm, AttnNorm, QNorm, KNorm, AttnOutNorm, CrossNorm, MLPNorm, MLPOutNorm}
)

// IsAttention reports whether the weight is a projection of an attention's, or its bias.
func (r Role) IsAttention() bool { return slices.Contains(attentionRoles, r) }

// IsNorm says whether the role is a norm's.
func (r Role) IsNorm() bool { return slices.Contains(normRoles, r) }

// TensorEntry is one tensor of a family: its name without ".weight" or ".bias", and the shape of its weight as the forward
// pass reads it ([out, in], or [dim]). A norm without a weight has neither.
//
// A condition is a field that is true or false, or a value of one that is chosen by name ("parallel").
type TensorEntry struct {
	Name       string   `yaml:"name"`       // may hold {prefix} and {layer}, and {head} where each row of the shape is a tensor
	Shape      []string `yaml:"shape"`      // symbols or products: dim, 2 * ffn
	Bias       string   `yaml:"bias"`       // "always", "stored" or the condition under which a bias goes with it; empty: none
	When       string   `yaml:"when"`       // the condition under which there is such a tensor; empty: always
	Unless     string   `yaml:"unless"`     // the condition under which there is none (a tied head keeps its bias)
	Transposed bool     `yaml:"transposed"` // the weight is stored [in, out]
	// GatedName is the name where the MLP is gated, if it is another.
	GatedName string `yaml:"gated_name"`
	// UntiedName is the name where the head is not tied, if the checkpoint has such a tensor: then that of Name is not read.
	UntiedName string `yaml:"untied_name"`
	// UpFirst says that of gate and up in one tensor up comes first.
	UpFirst bool `yaml:"up_first"`
	// Also are names that share the tensor's memory: one of them may be all that a checkpoint holds of it.
	Also []string `yaml:"also"`
	// Bare says that Name is the whole of the tensor's name, without .weight.
	Bare bool `yaml:"bare"`
	// Optional names a set of tensors that a checkpoint has all of or none of. Without its head a model is tied, or, with a
	// head_dense, has none.
	Optional string `yaml:"optional"`
}
