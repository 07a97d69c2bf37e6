package configs

import "slices"

// Role is the purpose of a tensor in the forward pass.
type Role string

// Roles. Q, K and V are separate tensors or fused as QKV.
const (
	Embed      Role = "embed"       // [vocab, dim]
	ProjectIn  Role = "project_in"  // [dim, embed_dim], if embeddings and model differ in width
	Positions  Role = "positions"   // [context + position_offset, dim] learned absolute positions
	TokenType  Role = "token_type"  // [token_types, dim] added to the embedding
	EmbedNorm  Role = "embed_norm"  // [dim], applied to the sum of embeddings, before the first layer
	Distances  Role = "distances"   // [relative_buckets, heads], T5's bias of scores, for a stack or for each layer
	FinalNorm  Role = "final_norm"  // [dim]
	ProjectOut Role = "project_out" // [embed_dim, dim], back to the embeddings' width, before the head
	HeadDense  Role = "head_dense"  // [dim, dim], before the head, followed by the activation and HeadNorm
	HeadNorm   Role = "head_norm"   // [dim]
	Head       Role = "head"        // [vocab, dim]; absent if tied to Embed
	HeadBias   Role = "head_bias"   // [vocab], bias of the head if it has a name of its own

	AttnNorm Role = "attn_norm" // [dim] of the attention's input
	Q        Role = "q"         // [heads*head_dim, dim]
	K        Role = "k"         // [kv_heads*head_dim, dim]
	V        Role = "v"         // [kv_heads*head_dim, dim]
	FusedQKV Role = "qkv"       // [(heads+2*kv_heads)*head_dim, dim], rows by the family's layout
	QNorm    Role = "q_norm"    // of the queries, over the last dimension of its shape: one head or all of them
	KNorm    Role = "k_norm"    // of the keys, likewise
	O        Role = "o"         // [dim, heads*head_dim], for latent attention heads*value_dim

	// Of latent attention. A checkpoint's QHeads or QB, KVA and KVB are split into the weights below them.

	QA       Role = "q_a"       // [query_rank, dim], if queries come from a latent
	QANorm   Role = "q_a_norm"  // [query_rank], of that latent
	QHeads   Role = "q_heads"   // [heads*(nope_dim+rope_dim), dim]: of each head first the part without positions
	QB       Role = "q_b"       // [heads*(nope_dim+rope_dim), query_rank], instead
	KVA      Role = "kv_a"      // [kv_rank+rope_dim, dim]
	KVANorm  Role = "kv_a_norm" // [kv_rank], of the latent
	KVB      Role = "kv_b"      // [heads*(nope_dim+value_dim), kv_rank]: of each head first the key
	QNope    Role = "q_nope"    // [heads*nope_dim, dim or query_rank]
	QRope    Role = "q_rope"    // [heads*rope_dim, dim or query_rank]
	KRope    Role = "k_rope"    // [rope_dim, dim], the rotary key that all heads share
	LatentKV Role = "latent"    // [kv_rank, dim]
	KeyUp    Role = "k_up"      // [heads*nope_dim, kv_rank]
	ValueUp  Role = "v_up"      // [heads*value_dim, kv_rank]

	CrossNorm Role = "cross_norm" // [dim]; cross-attention comes between self-attention and MLP
	CrossQ    Role = "cross_q"    // [heads*head_dim, dim]
	CrossK    Role = "cross_k"    // [cross_kv_heads*head_dim, dim]
	CrossV    Role = "cross_v"    // [cross_kv_heads*head_dim, dim]
	CrossO    Role = "cross_o"    // [dim, heads*head_dim]
	MLPNorm   Role = "mlp_norm"   // [dim] of the MLP's input; a parallel layer without it uses AttnNorm
	Gate      Role = "gate"       // [ffn, dim]
	Up        Role = "up"         // [ffn, dim]
	GateUp    Role = "gate_up"    // [2*ffn, dim]: both fused, usually gate first
	Down      Role = "down"       // [dim, ffn]

	AttnOutNorm Role = "attn_out_norm" // [dim] of what the attention adds to the residual stream
	MLPOutNorm  Role = "mlp_out_norm"  // [dim] of what the MLP adds to the residual stream
)

// Roles in the order of a forward pass.
var (
	modelRoles = []Role{
		Embed, ProjectIn, Positions, TokenType, EmbedNorm, Distances, FinalNorm, ProjectOut, HeadDense, HeadNorm, Head, HeadBias,
	}
	layerRoles = []Role{
		AttnNorm, Q, K, V, FusedQKV, QNorm, KNorm, QA, QANorm, QHeads, QB, KVA, KVANorm, KVB, Distances, O, AttnOutNorm, CrossNorm, CrossQ, CrossK, CrossV, CrossO,
		MLPNorm, Gate, Up, GateUp, Down, MLPOutNorm,
	}
	attentionRoles = []Role{Q, K, V, FusedQKV, O, CrossQ, CrossK, CrossV, CrossO, QA, QHeads, QB, KVA, KVB, QNope, QRope, KRope, LatentKV, KeyUp, ValueUp}
	tableRoles     = []Role{Embed, Positions, TokenType, Distances, Head} // one row per token, position or distance
	normRoles      = []Role{EmbedNorm, FinalNorm, HeadNorm, AttnNorm, QNorm, KNorm, QANorm, KVANorm, AttnOutNorm, CrossNorm, MLPNorm, MLPOutNorm}
)

// Projections are the roles of the matrices in a layer, which a low-rank change can be added to.
var Projections = []Role{Q, K, V, O, CrossQ, CrossK, CrossV, CrossO, Gate, Up, Down}

// IsAttention reports whether the role is an attention projection or its bias.
func (r Role) IsAttention() bool { return slices.Contains(attentionRoles, r) }

// IsNorm reports whether the role is a norm.
func (r Role) IsNorm() bool { return slices.Contains(normRoles, r) }

// TensorEntry describes one tensor of a family: its name without ".weight" or ".bias", and the shape of its weight as
// the forward pass reads it ([out, in] or [dim]). A norm without weights has neither.
//
// A condition is a boolean field, or a value of a field that is chosen by name ("parallel").
type TensorEntry struct {
	Name       string   `yaml:"name"`       // may contain {prefix} and {layer}, and {head} if each row of the shape is a tensor
	Shape      []string `yaml:"shape"`      // symbols or products: dim, 2 * ffn
	Bias       string   `yaml:"bias"`       // "always", "stored" or the condition under which it has a bias; empty: never
	When       string   `yaml:"when"`       // the condition under which the tensor exists; empty: always
	Unless     string   `yaml:"unless"`     // the condition under which it does not exist (a tied head keeps its bias)
	Transposed bool     `yaml:"transposed"` // the weight is stored [in, out]
	// GatedName is the name if the MLP is gated, where it differs.
	GatedName string `yaml:"gated_name"`
	// UntiedName is the name if the head is not tied and the checkpoint has such a tensor; the tensor called Name is
	// then ignored.
	UntiedName string `yaml:"untied_name"`
	// UpFirst means that up precedes gate in a fused tensor.
	UpFirst bool `yaml:"up_first"`
	// Also lists names that share the tensor's memory: a checkpoint may store the tensor under one of them only.
	Also []string `yaml:"also"`
	// Bare means that Name is the full name of the tensor, without .weight.
	Bare bool `yaml:"bare"`
	// Optional names a set of tensors of which a checkpoint has all or none. A model without its head is tied or, if it
	// lacks head_dense too, has no head.
	Optional string `yaml:"optional"`
}
