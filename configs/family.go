// Package configs describes architectures as data. A YAML file per family of checkpoints defines how its config.json is
// read, which blocks its layers consist of, how its tensors are named, shaped and laid out, and how a grouped
// conversion is written. docs/extending/family.md explains every key.
package configs

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

//go:embed families/*.yaml
var familyFiles embed.FS

// Family is an architecture as described by families/NAME.yaml.
type Family struct {
	Name       string               `yaml:"family"`
	ModelTypes []string             `yaml:"model_types"` // config.json model_type values
	Prefixes   []string             `yaml:"prefixes"`    // values of {prefix} in tensor names; the first is canonical
	Config     map[string]Field     `yaml:"config"`      // our field -> where to find it in config.json
	Require    []Requirement        `yaml:"require"`
	Neutral    []string             `yaml:"neutral"` // config.json keys that do not affect the forward pass
	Attention  QKV                  `yaml:"attention"`
	Groups     Groups               `yaml:"groups"`
	Tensors    map[Role]TensorEntry `yaml:"tensors"` // once per model
	Layer      map[Role]TensorEntry `yaml:"layer"`   // once per layer
	Encoder    *Encoder             `yaml:"encoder"` // the encoder that the layers' cross-attention reads, if there is one
	GGUF       *GGUF                `yaml:"gguf"`    // how llama.cpp stores it; nil if it is not supported
	Buffers    []string             `yaml:"buffers"` // optional tensors that are copied but never read
	Variants   []Variant            `yaml:"variants"`
	Rewrite    []Rewrite            `yaml:"rewrite"`    // changes to config.json for the class that loads groups, in order
	Neighbours []string             `yaml:"neighbours"` // families whose class can load a grouped conversion if none of this family's can
	Recast     map[string]any       `yaml:"recast"`     // config.json keys (dotted paths) to set when weights come from another family, besides those of fields
}

// Field describes how to find one field of an Arch: the value of the first of Keys (dotted paths into config.json) that
// is present and not null, mapped through Values if given; otherwise Default. For numbers, Default may be a product of
// earlier fields ("dim / heads"), and for booleans the name of an earlier field.
type Field struct {
	Keys    []string          `yaml:"keys"`
	Default any               `yaml:"default"`
	IfNull  any               `yaml:"if_null"` // replaces Default if a key is present but null
	Values  map[string]string `yaml:"values"`
	Stored  Role              `yaml:"stored"` // for ffn: the layer tensor with that many rows, whose shape takes precedence where known
	If      string            `yaml:"if"`     // config.json key; if it is missing or false, Else applies instead of all of the above
	Else    any               `yaml:"else"`   // see If
	As      string            `yaml:"as"`     // product that gives the number, with the config.json number as "value": "1 / value"
}

// Requirement is a config.json key that, if present, must have one of Values, because any other changes the forward
// pass.
type Requirement struct {
	Key    string `yaml:"key"`
	Values []any  `yaml:"values"`
	Why    string `yaml:"why"`
}

// QKV describes how a checkpoint with as many KV heads as heads is written.
type QKV struct {
	Layout Layout         `yaml:"layout"` // of the query, key and value projections
	Set    map[string]any `yaml:"set"`    // config.json keys (dotted paths) that say so, if those of a grouped checkpoint differ
}

// Rewrite is one change to a config.json that was written for other code, or before the class for grouped results
// existed.
type Rewrite struct {
	When map[string]any      `yaml:"when"` // keys that identify such a file, as in a Variant; empty: every file
	Move map[string]string   `yaml:"move"` // a key's old name -> its name in the class
	Copy map[string]string   `yaml:"copy"` // like Move, but keeps the old key
	Only map[string][]string `yaml:"only"` // an object -> the keys that it may keep
	Set  map[string]any      `yaml:"set"`  // other keys to set; null removes a key
}

// Encoder lists an encoder's tensors in an encoder-decoder model; the embedding is shared.
type Encoder struct {
	Tensors map[Role]TensorEntry `yaml:"tensors"`
	Layer   map[Role]TensorEntry `yaml:"layer"`
}

// Groups describes how a checkpoint with fewer KV heads than heads is written.
type Groups struct {
	Key      string         `yaml:"key"`       // config.json key (a dotted path) that holds the number of KV heads
	SitesKey string         `yaml:"sites_key"` // key of an object with the number for each kind of site, if a model has several
	Set      map[string]any `yaml:"set"`       // other keys (dotted paths) that say that there are fewer KV heads than heads
	Layout   Layout         `yaml:"layout"`    // layout with fewer KV heads than heads; empty: the same
	Class    string         `yaml:"class"`     // the class that loads such a checkpoint; empty: only this toolkit loads it
	Library  string         `yaml:"library"`   // the library that has the class; empty: transformers
	Single   *Groups        `yaml:"single"`    // how a single KV head is written, if differently; fields left empty are inherited
}

// Loader returns the class that loads such a checkpoint and its library, or "" if only this toolkit loads it.
func (g Groups) Loader() string {
	if g.Class == "" {
		return ""
	}
	return cmp.Or(g.Library, "transformers") + " " + g.Class
}

// Families returns all embedded families by name.
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
		f, err := parseFamily(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if want := strings.TrimSuffix(path.Base(name), ".yaml"); f.Name != want {
			return nil, fmt.Errorf("%s: family is %q, want %q, the name of the file", name, f.Name, want)
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
				return fmt.Errorf("families/%s.yaml: neighbour %q is not a family with a class for groups", f.Name, n)
			}
		}
	}
	return nil
}

// checkModelTypes rejects a model_type that another family has too: the choice of family must not depend on chance.
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

// parseFamily decodes a family file strictly: an unknown key, role, field or layout is an error that names it.
func parseFamily(data []byte) (*Family, error) {
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
		if _, ok := f.Config[k.name]; k.kind == 'i' && !k.optional && !ok && (k.name != "head_dim" || f.Config["attention"].Default != string(LatentAttention)) {
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
	if e.UntiedName != "" && !e.Bare {
		return fmt.Errorf("name %q: untied_name is for tensors that are bare", e.Name)
	}
	for _, name := range []string{e.Name, cmp.Or(e.GatedName, e.Name), cmp.Or(e.UntiedName, e.Name)} {
		if strings.Contains(name, "{layer}") != perLayer {
			return fmt.Errorf("name %q: {layer} is required in the names of a layer's tensors, and not allowed elsewhere", name)
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

// stacked reports whether a weight is stored as several tensors, one per row.
func (e TensorEntry) stacked() bool { return strings.Contains(e.Name, "{head}") }

// projected is the condition that the embeddings and the model differ in width. stored, for a bias, is the condition
// that the checkpoint has it.
const (
	projected = "projected"
	stored    = "stored"
)

// isCondition reports whether name is a boolean field, or a value of a field that is chosen by name.
func (f *Family) isCondition(name string) bool {
	if name == projected || name == lowRankQueries {
		return true
	}
	return slices.ContainsFunc(fields, func(k fieldKind) bool {
		_, ok := f.Config[k.name]
		return ok && (k.kind == 'b' && k.name == name || k.kind == 's' && slices.Contains(k.allowed, name))
	})
}

// FamilyOf returns the family with the given name or, if name is "", the family for config.json's model_type.
func FamilyOf(config []byte, name string) (*Family, error) {
	raw, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	return familyOf(name, raw)
}

// familyOf is FamilyOf for a decoded config.json.
func familyOf(name string, config map[string]any) (*Family, error) {
	families, err := Families()
	if err != nil {
		return nil, err
	}
	if err := checkText(config); err != nil {
		return nil, err
	}
	if name != "" {
		if err := CheckFamily(name); err != nil {
			return nil, fmt.Errorf("family is %w", err)
		}
		return families[name], nil
	}
	modelType, _ := config["model_type"].(string)
	if modelType == "" {
		return nil, FamilyError{}
	}
	for _, f := range families {
		if slices.Contains(f.ModelTypes, modelType) || slices.Contains(f.ModelTypes, strings.TrimSuffix(modelType, LatentSuffix)) {
			return f, nil
		}
	}
	if advice := former[modelType]; advice != "" {
		return nil, fmt.Errorf("config.json: model_type %q is not a family this toolkit knows: %s", modelType, advice)
	}
	return nil, FamilyError{modelType, nearest(modelType, families)}
}

// FamilyError reports a config.json whose model_type does not identify a family.
type FamilyError struct {
	ModelType string   // empty if it has none
	Nearest   []string // families with a similar name
}

// Error names the model type and the families that may be meant.
func (e FamilyError) Error() string {
	if e.ModelType == "" {
		return "config.json has no model_type"
	}
	return fmt.Sprintf("config.json: model_type %q is not a family this toolkit knows%s", e.ModelType, nearestText(e.Nearest))
}

func parseConfig(config []byte) (map[string]any, error) {
	var v any
	var tooLarge *json.UnmarshalTypeError
	if err := json.Unmarshal(config, &v); errors.As(err, &tooLarge) {
		return nil, fmt.Errorf("config.json holds the %s, which is too large", tooLarge.Value)
	} else if err != nil {
		return nil, fmt.Errorf("config.json is not JSON: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("config.json is not a JSON object")
	}
	return m, nil
}
