package eval

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

// Shape is the size of a transformer's decoder: everything that determines the size of its KV cache and of its weights.
type Shape struct {
	Name    string `yaml:"name" json:"name"`
	Layers  int    `yaml:"layers" json:"layers"`
	Heads   int    `yaml:"heads" json:"heads"`
	KVHeads int    `yaml:"kv_heads" json:"kv_heads"`
	HeadDim int    `yaml:"head_dim" json:"head_dim"`
	Dim     int    `yaml:"dim" json:"dim"`
	FFN     int    `yaml:"ffn" json:"ffn"`
	Vocab   int    `yaml:"vocab" json:"vocab"`
	Context int    `yaml:"context" json:"context"`
	// Window is the maximum number of tokens that a sequence keeps in its cache; 0 means all.
	Window int `yaml:"window" json:"window,omitempty"`
	// Positions is the maximum length of a sequence; 0 means that nothing limits it.
	Positions int `yaml:"positions" json:"-"`
	// A gated feed-forward block has three matrices, others have two.
	Gated bool `yaml:"gated" json:"gated,omitempty"`
	// Tied embeddings also serve as the output layer.
	Tied bool `yaml:"tied" json:"tied,omitempty"`
	// Cross reports whether each layer has cross-attention besides self-attention.
	Cross bool `yaml:"cross" json:"cross,omitempty"`
	// KVRank and RopeDim are the sizes of what multi-head latent attention caches for all heads; 0 for other attention. The size of the
	// weights of such a shape is not known here.
	KVRank  int `yaml:"kv_rank" json:"kv_rank,omitempty"`
	RopeDim int `yaml:"rope_dim" json:"rope_dim,omitempty"`

	latents   [][2]int // KVRank and RopeDim of conversions to latent attention
	uneven    bool     // layers have other ranks, of which KVRank is the mean
	converted bool     // it is one of these, and the size of its weights is known
}

//go:embed shapes.yaml
var shapesYAML []byte

var loadShapes = sync.OnceValues(func() ([]Shape, error) { return parseShapes(shapesYAML) })

// Shapes returns the built-in shapes of published models, in the order of the file shapes.yaml.
func Shapes() ([]Shape, error) {
	shapes, err := loadShapes()
	return slices.Clone(shapes), err
}

// ShapeByName returns a built-in shape, or parses a shape written with the keys of shapes.yaml:
// "layers=8,heads=16,kv_heads=4,dim=1024,ffn=2816,vocab=8192,context=8192,gated=true". The error for an unknown name
// lists all names.
func ShapeByName(name string) (Shape, error) {
	if strings.Contains(name, "=") {
		return writtenShape(name)
	}
	shapes, err := loadShapes()
	if err != nil {
		return Shape{}, err
	}
	var names []string
	for _, s := range shapes {
		if strings.EqualFold(s.Name, name) {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Shape{}, fmt.Errorf("unknown shape %q; known are %s", name, strings.Join(names, ", "))
}

func writtenShape(text string) (Shape, error) {
	shapes, err := parseShapes([]byte("- {name: custom, " + strings.NewReplacer("=", ": ", ",", ", ").Replace(text) + "}"))
	if err != nil || len(shapes) != 1 {
		return Shape{}, fmt.Errorf("shape %q: want KEY=NUMBER,… with layers, heads, dim, ffn, vocab and context, and perhaps kv_heads, head_dim, gated, tied, kv_rank, rope_dim: %s",
			text, strings.TrimPrefix(fmt.Sprint(err), "shapes.yaml: "))
	}
	return shapes[0], nil
}

func parseShapes(data []byte) ([]Shape, error) {
	var shapes []Shape
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&shapes); err != nil {
		return nil, fmt.Errorf("shapes.yaml: %s", yaml.FormatError(err, false, false))
	}
	for i := range shapes {
		s := &shapes[i]
		s.KVHeads = cmp.Or(s.KVHeads, s.Heads)
		if s.HeadDim == 0 && s.Heads > 0 {
			s.HeadDim = s.Dim / s.Heads
		}
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("shapes.yaml: %w", err)
		}
	}
	return shapes, nil
}

// check returns an error for an impossible shape.
func (s Shape) check() error {
	for _, f := range []struct {
		key   string
		value int
	}{
		{"layers", s.Layers},
		{"heads", s.Heads},
		{"kv_heads", s.KVHeads},
		{"head_dim", s.HeadDim},
		{"dim", s.Dim},
		{"ffn", s.FFN},
		{"vocab", s.Vocab},
		{"context", s.Context},
	} {
		if f.value < 1 {
			return fmt.Errorf("shape %s: %s is %d; want at least 1", s.Name, f.key, f.value)
		}
	}
	if s.KVRank < 0 || s.RopeDim < 0 || s.KVRank == 0 && s.RopeDim > 0 {
		return fmt.Errorf("shape %s: kv_rank is %d, rope_dim %d; want both, for latent attention, or neither", s.Name, s.KVRank, s.RopeDim)
	}
	if s.Heads%s.KVHeads != 0 {
		return fmt.Errorf("shape %s: %d kv heads do not divide %d heads", s.Name, s.KVHeads, s.Heads)
	}
	return nil
}

// checkHeads returns an error for a shape whose cached keys and values do not belong to heads.
func (s Shape) checkHeads() error {
	if s.KVRank > 0 {
		return fmt.Errorf("shape %s has latent attention, for which there are no predictions", s.Name)
	}
	return nil
}
