// Package configs holds architectures as data: one YAML file per family of checkpoints says how its config.json is read,
// which blocks its layers are made of, how its tensors are named, shaped and laid out, and how a grouped conversion of it
// is written. docs/adding-a-family.md explains every key.
package configs

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

//go:embed families/*.yaml
var familyFiles embed.FS

// Family is one architecture as families/NAME.yaml describes it.
type Family struct {
	Name       string               `yaml:"family"`
	ModelTypes []string             `yaml:"model_types"` // config.json model_type values
	Prefixes   []string             `yaml:"prefixes"`    // what {prefix} in a tensor name may stand for; the first is canonical
	Config     map[string]Field     `yaml:"config"`      // our field -> where config.json says it
	Require    []Requirement        `yaml:"require"`
	Neutral    []string             `yaml:"neutral"` // config.json keys that do not change the forward pass
	Attention  QKV                  `yaml:"attention"`
	Groups     Groups               `yaml:"groups"`
	Tensors    map[Role]TensorEntry `yaml:"tensors"` // once per model
	Layer      map[Role]TensorEntry `yaml:"layer"`   // once per layer
	Encoder    *Encoder             `yaml:"encoder"` // the stack that the layers' cross-attention reads, if there is one
	GGUF       *GGUF                `yaml:"gguf"`    // how llama.cpp holds it; nil: not at all
	Buffers    []string             `yaml:"buffers"` // tensors that may be there, are carried along and never read
	Variants   []Variant            `yaml:"variants"`
	Neighbours []string             `yaml:"neighbours"` // families whose class may hold a grouped conversion where no class of this one does
}

// Field says how one field of an Arch is found: the first of Keys (dotted paths into config.json) that is there and not
// null, mapped through Values if given; else Default, which for numbers may be a product of earlier fields ("dim / heads"),
// and for what is true or false the name of an earlier field.
type Field struct {
	Keys    []string          `yaml:"keys"`
	Default any               `yaml:"default"`
	IfNull  any               `yaml:"if_null"` // instead of Default where a key is there and null
	Values  map[string]string `yaml:"values"`
	Stored  Role              `yaml:"stored"` // of ffn: the layer's tensor with as many rows, which decides where it is known
	If      string            `yaml:"if"`     // key of config.json without which, or where it is false, none of the above counts, but
	Else    any               `yaml:"else"`   // this
	As      string            `yaml:"as"`     // product that the number, as "value", stands for: "1 / value"
}

// Requirement is a config.json key that, where present, must hold one of Values, because the forward pass is another otherwise.
type Requirement struct {
	Key    string `yaml:"key"`
	Values []any  `yaml:"values"`
	Why    string `yaml:"why"`
}

// QKV names the layout of the query, key and value projections.
type QKV struct {
	Layout Layout `yaml:"layout"`
}

// Encoder is an encoder's tensors beside a decoder's: the embedding is shared.
type Encoder struct {
	Tensors map[Role]TensorEntry `yaml:"tensors"`
	Layer   map[Role]TensorEntry `yaml:"layer"`
}

// Groups says how a checkpoint with fewer KV heads is written.
type Groups struct {
	Key      string         `yaml:"key"`       // config.json key (a dotted path) that holds the number of KV heads
	SitesKey string         `yaml:"sites_key"` // and one that holds an object of each kind of site's, where a model has several
	Set      map[string]any `yaml:"set"`       // other keys (dotted paths) that say that there are fewer KV heads than heads
	Layout   Layout         `yaml:"layout"`    // layout with fewer KV heads than heads; empty: as with all of them
	Class    string         `yaml:"class"`     // the class that loads such a checkpoint; empty: only this toolkit does
	Single   *Groups        `yaml:"single"`    // how one KV head is written, if in another way; what it leaves out is as for several
}

// Role is what a tensor is to the forward pass.
type Role string

// The roles. Q, K, V stand alone or, fused, as QKV.
const (
	Embed      Role = "embed"       // [vocab, dim]
	ProjectIn  Role = "project_in"  // [dim, embed_dim] from embeddings narrower or wider than the model
	Positions  Role = "positions"   // [context + position_offset, dim] learned absolute positions
	TokenType  Role = "token_type"  // [token_types, dim] added to the embedding
	EmbedNorm  Role = "embed_norm"  // [dim] of all that is embedded, before the first layer
	Distances  Role = "distances"   // [relative_buckets, heads] T5's bias of scores, of all layers of a stack
	FinalNorm  Role = "final_norm"  // [dim]
	ProjectOut Role = "project_out" // [embed_dim, dim] back to the embeddings' width, before the head
	HeadDense  Role = "head_dense"  // [dim, dim] before the head, then the activation and
	HeadNorm   Role = "head_norm"   // [dim]
	Head       Role = "head"        // [vocab, dim]; absent where tied to Embed
	HeadBias   Role = "head_bias"   // [vocab] of a tied head whose bias has a name of its own

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
	GateUp    Role = "gate_up"    // [2*ffn, dim]: both in one, gate first
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
		AttnNorm, Q, K, V, FusedQKV, QNorm, KNorm, O, AttnOutNorm, CrossNorm, CrossQ, CrossK, CrossV, CrossO,
		MLPNorm, Gate, Up, GateUp, Down, MLPOutNorm,
	}
	normRoles = []Role{EmbedNorm, FinalNorm, HeadNorm, AttnNorm, QNorm, KNorm, AttnOutNorm, CrossNorm, MLPNorm, MLPOutNorm}
)

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
	// Bare says that Name is the whole of the tensor's name, without .weight.
	Bare bool `yaml:"bare"`
	// Optional names a set of tensors that a checkpoint has all of or none of. Without its head a model is tied, or, with a
	// head_dense, has none.
	Optional string `yaml:"optional"`
}

// Families returns every embedded family, by name.
var Families = sync.OnceValues(func() (map[string]*Family, error) {
	names, err := fs.Glob(familyFiles, "families/*.yaml")
	if err != nil {
		return nil, err
	}
	families := make(map[string]*Family, len(names))
	for _, name := range names {
		data, err := familyFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := ParseFamily(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if want := strings.TrimSuffix(path.Base(name), ".yaml"); f.Name != want {
			return nil, fmt.Errorf("%s: family is %q, want %q as the file is called", name, f.Name, want)
		}
		if err := f.checkModelTypes(families); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		families[f.Name] = f
	}
	return families, checkNeighbours(families)
})

func checkNeighbours(families map[string]*Family) error {
	for _, f := range families {
		for _, n := range f.Neighbours {
			if other := families[n]; other == nil || other.Grouping(1).Class == "" {
				return fmt.Errorf("families/%s.yaml: neighbour %q is no family with a class of groups", f.Name, n)
			}
		}
	}
	return nil
}

// checkModelTypes refuses a model_type that one of others has already: which family is meant must not be left to chance.
func (f *Family) checkModelTypes(others map[string]*Family) error {
	for _, other := range others {
		for _, m := range other.ModelTypes {
			if slices.Contains(f.ModelTypes, m) {
				return fmt.Errorf("model_type %q is also family %s's", m, other.Name)
			}
		}
	}
	return nil
}

// ParseFamily decodes one family file strictly: an unknown key, role, field or layout is an error that names it.
func ParseFamily(data []byte) (*Family, error) {
	var f Family
	if err := yaml.UnmarshalWithOptions(data, &f, yaml.Strict()); err != nil {
		return nil, err
	}
	if len(f.Prefixes) == 0 {
		f.Prefixes = []string{""}
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	for _, v := range f.Variants {
		if err := f.with(v).check(); err != nil {
			return nil, fmt.Errorf("variant %v: %w", v.When, err)
		}
	}
	return &f, nil
}

func (f *Family) check() error {
	if f.Name == "" || len(f.ModelTypes) == 0 {
		return errors.New("family and model_types must be set")
	}
	for _, l := range []Layout{f.Attention.Layout, f.Grouping(1).Layout, f.Grouping(2).Layout} {
		if !slices.Contains(layouts, l) {
			return fmt.Errorf("unknown layout %q, want one of %v", l, layouts)
		}
	}
	if err := f.checkConfig(); err != nil {
		return err
	}
	if err := f.GGUF.check(); err != nil {
		return err
	}
	if err := f.checkStack(f.Tensors, f.Layer); err != nil || f.Encoder == nil {
		return err
	}
	if err := f.checkStack(f.Encoder.Tensors, f.Encoder.Layer); err != nil {
		return fmt.Errorf("encoder: %w", err)
	}
	return nil
}

func (f *Family) checkStack(tensors, layer map[Role]TensorEntry) error {
	if err := f.checkTensors(tensors, modelRoles, false); err != nil {
		return err
	}
	return f.checkTensors(layer, layerRoles, true)
}

func (f *Family) checkConfig() error {
	for name := range f.Config {
		if kindOf(name) == 0 {
			return fmt.Errorf("config: unknown field %q", name)
		}
	}
	for _, k := range fields {
		if _, ok := f.Config[k.name]; k.kind == 'i' && !k.optional && !ok {
			return fmt.Errorf("config: field %q is missing", k.name)
		}
	}
	return nil
}

func (f *Family) checkTensors(entries map[Role]TensorEntry, known []Role, perLayer bool) error {
	for role, e := range entries {
		if !slices.Contains(known, role) {
			return fmt.Errorf("unknown tensor role %q, want one of %v", role, known)
		}
		if e.Name == "" && len(e.Shape) == 0 && slices.Contains(normRoles, role) {
			continue
		}
		if err := f.checkEntry(e, perLayer); err != nil {
			return fmt.Errorf("tensor %s: %w", role, err)
		}
	}
	return nil
}

func (f *Family) checkEntry(e TensorEntry, perLayer bool) error {
	if e.Name == "" || len(e.Shape) == 0 {
		return errors.New("name and shape must be set")
	}
	for _, name := range []string{e.Name, cmp.Or(e.GatedName, e.Name)} {
		if strings.Contains(name, "{layer}") != perLayer {
			return fmt.Errorf("name %q: {layer} belongs into the names of a layer's tensors, and only there", name)
		}
	}
	if e.stacked() && (e.Bias != "" || e.Transposed || len(e.Shape) != 2) {
		return fmt.Errorf("name %q: {head} is for two dimensions, the first of which counts the tensors, and no bias", e.Name)
	}
	for _, expr := range e.Shape {
		if _, err := evalProduct(expr, (&Arch{}).symbols()); err != nil {
			return fmt.Errorf("shape: %w", err)
		}
	}
	for _, condition := range []string{e.Bias, e.When, e.Unless} {
		if condition != "" && condition != "always" && condition != stored && !f.isCondition(condition) {
			return fmt.Errorf("bias, when or unless: %q is not a field of config that is true or false, nor a value of one", condition)
		}
	}
	return nil
}

// stacked says that a weight is several tensors, one for each of its rows.
func (e TensorEntry) stacked() bool { return strings.Contains(e.Name, "{head}") }

// projected is the condition that the embeddings are not as wide as the model; stored, of a bias, that the checkpoint has it.
const (
	projected = "projected"
	stored    = "stored"
)

// isCondition says whether name is a field that is true or false, or a value of a field that is chosen by name.
func (f *Family) isCondition(name string) bool {
	if name == projected {
		return true
	}
	return slices.ContainsFunc(fields, func(k fieldKind) bool {
		_, ok := f.Config[k.name]
		return ok && (k.kind == 'b' && k.name == name || k.kind == 's' && slices.Contains(k.allowed, name))
	})
}

// familyOf picks the family: by name if one is given, else by config.json's model_type.
func familyOf(name string, config map[string]any) (*Family, error) {
	families, err := Families()
	if err != nil {
		return nil, err
	}
	known := func() string { return strings.Join(slices.Sorted(maps.Keys(families)), ", ") }
	if name != "" {
		if f, ok := families[name]; ok {
			return f, nil
		}
		return nil, fmt.Errorf("unknown family %q; known: %s", name, known())
	}
	modelType, _ := config["model_type"].(string)
	if modelType == "" {
		return nil, fmt.Errorf("config.json has no model_type; name the family with --family (known: %s)", known())
	}
	for _, f := range families {
		if slices.Contains(f.ModelTypes, modelType) {
			return f, nil
		}
	}
	return nil, fmt.Errorf("config.json: model_type %q is not a family this toolkit knows (%s)", modelType, known())
}

func parseConfig(config []byte) (map[string]any, error) {
	var v any
	if err := json.Unmarshal(config, &v); err != nil {
		return nil, fmt.Errorf("config.json is not JSON: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("config.json holds no JSON object")
	}
	return m, nil
}
