// Package configs holds architectures as data: one YAML file per family of checkpoints says how its config.json is read,
// which blocks its layers are made of, how its tensors are named, shaped and laid out, and how a grouped conversion of it
// is written. docs/extending/family.md explains every key.
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
	Rewrite    []Rewrite            `yaml:"rewrite"`    // how config.json must be changed for the class of groups, in order
	Neighbours []string             `yaml:"neighbours"` // families whose class may hold a grouped conversion where no class of this one does
	Recast     map[string]any       `yaml:"recast"`     // config.json keys (dotted paths) of weights that were another family's, beside those of fields
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

// QKV says how as many KV heads as heads are written.
type QKV struct {
	Layout Layout         `yaml:"layout"` // of the query, key and value projections
	Set    map[string]any `yaml:"set"`    // config.json keys (dotted paths) that say so, where a grouped checkpoint's say otherwise
}

// Rewrite is one change to a config.json that was written for other code, or before the class of a grouped result existed.
type Rewrite struct {
	When map[string]any      `yaml:"when"` // by which such a file is known, as of a Variant; empty: every file
	Move map[string]string   `yaml:"move"` // a key's old name -> the class's
	Copy map[string]string   `yaml:"copy"` // the same, where the old one stays
	Only map[string][]string `yaml:"only"` // an object -> the keys that it may hold, others being left out
	Set  map[string]any      `yaml:"set"`  // what else the class's file says; null removes a key
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
	Library  string         `yaml:"library"`   // the software that has the class; empty: transformers
	Single   *Groups        `yaml:"single"`    // how one KV head is written, if in another way; what it leaves out is as for several
}

// Loader is the class that loads such a checkpoint, and the software that has it; empty where only this toolkit does.
func (g Groups) Loader() string {
	if g.Class == "" {
		return ""
	}
	return cmp.Or(g.Library, "transformers") + " " + g.Class
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
		f, err := parseFamily(data)
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

// parseFamily decodes one family file strictly: an unknown key, role, field or layout is an error that names it.
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
	if e.UntiedName != "" && !e.Bare {
		return fmt.Errorf("name %q: untied_name is for tensors that are bare", e.Name)
	}
	for _, name := range []string{e.Name, cmp.Or(e.GatedName, e.Name), cmp.Or(e.UntiedName, e.Name)} {
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

// FamilyOf picks the family: by name if one is given, else by config.json's model_type.
func FamilyOf(config []byte, name string) (*Family, error) {
	raw, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	return familyOf(name, raw)
}

// familyOf picks the family: by name if one is given, else by config.json's model_type.
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
		if slices.Contains(f.ModelTypes, modelType) {
			return f, nil
		}
	}
	if advice := former[modelType]; advice != "" {
		return nil, fmt.Errorf("config.json: model_type %q is not a family this toolkit knows: %s", modelType, advice)
	}
	return nil, FamilyError{modelType, nearest(modelType, families)}
}

// FamilyError reports a config.json whose model_type does not tell the family.
type FamilyError struct {
	ModelType string   // empty: it has none
	Nearest   []string // families with a similar name
}

// Error names the model type and what it may be meant to be.
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
		return nil, errors.New("config.json holds no JSON object")
	}
	return m, nil
}
