// Package hardware describes GPUs and processors by the figures that decoding speed depends on. The files *.yaml beside it
// are embedded; each names the source of its figures.
package hardware

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"gqa/internal/file"
)

//go:embed *.yaml
var files embed.FS

// Hardware is a GPU, or some cores of a processor.
type Hardware struct {
	Name        string             `yaml:"name"`
	Description string             `yaml:"description"`
	MemoryMiB   float64            `yaml:"memory_mib"`
	Bandwidth   float64            `yaml:"bandwidth"` // bytes/s read from memory, by the datasheet
	FLOPs       map[string]float64 `yaml:"flops"`     // FLOP/s of dense matrix products by data type: f32, bf16, f16
	Source      string             `yaml:"source"`    // of the figures above

	Achieved     *Achieved `yaml:"achieved"`
	AchievedLike string    `yaml:"achieved_like"` // the name of other hardware, of the kind, whose Achieved is taken instead
}

// Achieved is what software reaches of the figures of a datasheet.
type Achieved struct {
	Bandwidth float64 `yaml:"bandwidth"` // share of Hardware.Bandwidth
	Products  float64 `yaml:"products"`  // share of FLOPs in products with weights
	Attention float64 `yaml:"attention"` // share of FLOPs in attention
	Overlap   float64 `yaml:"overlap"`   // part of the arithmetic that is done while memory is read: 0 none, 1 all
	LayerUS   float64 `yaml:"layer_us"`  // microseconds that a layer takes besides: launches, norms, waiting for the last block
	Source    string  `yaml:"source"`
}

// Names returns the names of the embedded files.
func Names() []string {
	names, _ := fs.Glob(files, "*.yaml") // the pattern is well formed
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, ".yaml")
	}
	return names
}

// maxBytes is the size of the largest file that Load reads.
const maxBytes = 64 << 10

// Load reads a description: an embedded one by its name, otherwise the file at that path.
func Load(name string) (Hardware, error) {
	if slices.Contains(Names(), name) {
		return load(name, func() ([]byte, error) { return files.ReadFile(name + ".yaml") })
	}
	h, err := load(name, func() ([]byte, error) { return file.ReadMax(name, maxBytes) })
	if errors.Is(err, fs.ErrNotExist) {
		return h, fmt.Errorf("hardware %q is neither a file nor one of %s", name, strings.Join(Names(), ", "))
	}
	return h, err
}

func load(name string, read func() ([]byte, error)) (h Hardware, err error) {
	data, err := read()
	if err != nil {
		return h, fmt.Errorf("hardware: %w", err)
	}
	switch err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&h); {
	case err == io.EOF:
		return h, fmt.Errorf("hardware %s: the file is empty", name)
	case err != nil:
		return h, fmt.Errorf("hardware %s: %s", name, yaml.FormatError(err, false, false))
	}
	if h.Name == "" {
		h.Name = strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
	}
	if err := h.inherit(); err != nil {
		return h, fmt.Errorf("hardware %s: %w", name, err)
	}
	if err := h.check(); err != nil {
		return h, fmt.Errorf("hardware %s: %w", name, err)
	}
	return h, nil
}

// inherit sets Achieved to that of AchievedLike.
func (h *Hardware) inherit() error {
	switch {
	case h.Achieved == nil && h.AchievedLike == "":
		return errors.New("give achieved, with measured shares, or achieved_like: h200")
	case h.Achieved != nil && h.AchievedLike != "":
		return errors.New("give achieved or achieved_like, not both")
	case h.Achieved != nil:
		return nil
	case !slices.Contains(Names(), h.AchievedLike):
		return fmt.Errorf("achieved_like is %q, want one of %s", h.AchievedLike, strings.Join(Names(), ", "))
	}
	like, err := Load(h.AchievedLike)
	h.Achieved = like.Achieved
	return err
}

// check returns an error for figures that are impossible.
func (h *Hardware) check() error {
	positive := map[string]float64{"memory_mib": h.MemoryMiB, "bandwidth": h.Bandwidth}
	for dtype, rate := range h.FLOPs {
		if !slices.Contains([]string{"f32", "bf16", "f16"}, dtype) {
			return fmt.Errorf("flops has %q, want f32, bf16 or f16", dtype)
		}
		positive["flops: "+dtype] = rate
	}
	a := h.Achieved
	for key, x := range map[string]float64{"bandwidth": a.Bandwidth, "products": a.Products, "attention": a.Attention} {
		positive["achieved: "+key] = x
		if x > 1 {
			return fmt.Errorf("achieved: %s is %v, want a share: at most 1", key, x)
		}
	}
	for key, x := range positive {
		if !(x > 0) || math.IsInf(x, 0) {
			return fmt.Errorf("%s is %v, want a number above 0", key, x)
		}
	}
	if !(a.Overlap >= 0 && a.Overlap <= 1) || !(a.LayerUS >= 0) || math.IsInf(a.LayerUS, 0) {
		return fmt.Errorf("achieved: overlap is %v, layer_us %v; want 0 to 1, and at least 0", a.Overlap, a.LayerUS)
	}
	return nil
}
