// Package recipe is how a checkpoint is up-trained, as a YAML file says: recipes/*.yaml are embedded.
package recipe

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strings"

	"github.com/goccy/go-yaml"

	"gqa/internal/file"
)

//go:embed recipes/*.yaml
var recipeFiles embed.FS

// Recipe says how a checkpoint is up-trained: what on, for how long and how. A zero Steps is worked out from Alpha by
// Resolve.
type Recipe struct {
	Name  string `yaml:"name"`            // of the run
	Model string `yaml:"model"`           // checkpoint to start from
	Data  string `yaml:"data"`            // corpus, or .safetensors with input_ids [rows, tokens]
	Valid string `yaml:"valid,omitempty"` // corpus for a validation loss; empty: none

	TextKey string `yaml:"text_key,omitempty" json:",omitempty"` // of JSON records, in both; empty: text

	Steps          int     `yaml:"steps"`
	Alpha          float64 `yaml:"alpha,omitempty"`           // up-training tokens / OriginalTokens
	OriginalTokens int64   `yaml:"original_tokens,omitempty"` // what the checkpoint was pre-trained on

	Batch      int    `yaml:"batch"`      // windows per micro-batch
	SeqLen     int    `yaml:"seq_len"`    // tokens per window
	Accumulate int    `yaml:"accumulate"` // micro-batches per step
	Seed       uint64 `yaml:"seed"`       // of the order of the windows

	Optimizer Optimizer `yaml:"optimizer"`
	Schedule  Schedule  `yaml:"schedule"`
	Distill   Distill   `yaml:"distill"`

	ValidEvery   int    `yaml:"valid_every"`   // steps between validations; 0: at the end only
	ValidWindows int    `yaml:"valid_windows"` // windows of Valid to read, from its start; 0: all
	SaveEvery    int    `yaml:"save_every"`    // steps between checkpoints; 0: at the end only
	Keep         int    `yaml:"keep"`          // checkpoints to keep, the newest; 0: all
	LogEvery     int    `yaml:"log_every"`     // steps between log lines
	ExportDType  string `yaml:"export_dtype"`  // keep, f32, bf16 or f16
	Threads      int    `yaml:"threads"`       // 0: one per core; does not change the result

	// Device is what a run computes on: auto, cpu, cuda or cuda:N. Empty is auto, the first GPU where there is one. A run may be resumed on
	// another device.
	Device string `yaml:"device,omitempty" json:",omitempty"`
	// Precision is that of activations on a GPU: f32, which is exact and the default, or bf16, with weights, sums and the optimizer's state
	// in f32.
	Precision string `yaml:"precision,omitempty" json:",omitempty"`
	// Deterministic says whether a run on a GPU gives the same bits each time, as it does where nothing is said. Without it attention's
	// gradient in bf16 is faster.
	Deterministic *bool `yaml:"deterministic,omitempty" json:",omitempty"`
}

// Optimizer is how a step follows its gradient.
type Optimizer struct {
	Name          OptimizerName `yaml:"name"`
	LR            float64       `yaml:"lr"`             // the peak learning rate
	AttentionRate float64       `yaml:"attention_rate"` // times LR for the projections of attention, which a conversion has changed
	Beta1         float64       `yaml:"beta1"`          // of the average of gradients, which is Muon's momentum
	Beta2         float64       `yaml:"beta2"`          // of the average of their squares
	Eps           float64       `yaml:"eps"`
	WeightDecay   float64       `yaml:"weight_decay"`
	Decay         Decay         `yaml:"decay"`
	Clip          float64       `yaml:"clip"`    // the largest norm of the whole gradient; 0: no limit
	Average       float64       `yaml:"average"` // what a step leaves of the average of the weights, the run's result; 0: no average
}

// OptimizerName is the rule of a step.
type OptimizerName string

// The values of OptimizerName.
const (
	AdamW OptimizerName = "adamw" // Loshchilov & Hutter, arXiv 1711.05101
	Muon  OptimizerName = "muon"  // Jordan et al. 2024, with the steps of Liu et al. (arXiv 2502.16982), for Param.Hidden; AdamW for the rest
)

// Decay is which weights WeightDecay applies to.
type Decay string

// The values of Decay.
const (
	DecayMatrices Decay = "matrices" // weights of two dimensions: no norms, no biases
	DecayAll      Decay = "all"
)

// Distill is what a run follows beside its data: a teacher's predictions, most often the model's before its conversion.
type Distill struct {
	Teacher     string  `yaml:"teacher"`     // checkpoint; empty: none
	Loss        Loss    `yaml:"loss"`        // empty: KL with a teacher, CE without
	Weight      float64 `yaml:"weight"`      // of the divergence in Mixed
	Temperature float64 `yaml:"temperature"` // of both softmaxes of the divergence
	Cache       string  `yaml:"cache"`       // folder that keeps the teacher's predictions for resumes and other runs; empty: none
	TopK        int     `yaml:"top_k"`       // tokens per position that the cache keeps
}

// Loss is what a step lowers.
type Loss string

// The values of Loss.
const (
	CE    Loss = "ce"    // cross-entropy with the data
	KL    Loss = "kl"    // KL(teacher || model)
	Mixed Loss = "mixed" // Weight of KL, the rest of CE
)

// KLWeight is the divergence's share of the loss.
func (d Distill) KLWeight() float64 {
	switch d.Loss {
	case KL:
		return 1
	case Mixed:
		return d.Weight
	}
	return 0
}

// Schedule is how the learning rate goes: a linear warm-up over Warmup steps, then down to Final times the peak.
type Schedule struct {
	Kind   ScheduleKind `yaml:"kind"`
	Warmup int          `yaml:"warmup"` // steps
	Final  float64      `yaml:"final"`  // fraction of the peak at the last step; constant ignores it
}

// ScheduleKind is the way down after the warm-up.
type ScheduleKind string

// The values of ScheduleKind.
const (
	Cosine   ScheduleKind = "cosine"
	Linear   ScheduleKind = "linear"
	Constant ScheduleKind = "constant"
)

// At is the fraction of the peak rate in a step, of steps; the first is 1.
func (s Schedule) At(step, steps int) float64 {
	if step <= s.Warmup {
		return float64(step) / float64(s.Warmup)
	}
	done := min(1, float64(step-s.Warmup)/float64(max(steps-s.Warmup, 1)))
	switch s.Kind {
	case Cosine:
		return s.Final + (1-s.Final)*(1+math.Cos(math.Pi*done))/2
	case Linear:
		return s.Final + (1-s.Final)*(1-done)
	}
	return 1
}

// Default is the embedded recipe "default": every key but model and data.
func Default() (Recipe, error) { return Load("default") }

// Load reads a recipe: an embedded one by name, else the file of that path. Keys that it leaves out are as in the
// recipe "default".
func Load(name string) (Recipe, error) {
	var r Recipe
	base, err := recipeFiles.ReadFile("recipes/default.yaml")
	if err != nil {
		return r, err
	}
	data, err := recipeFiles.ReadFile("recipes/" + name + ".yaml")
	if err != nil {
		data, err = file.ReadMax(name, maxRecipeBytes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, fmt.Errorf("recipe: %w", err)
		}
		if err != nil {
			return r, fmt.Errorf("recipe %q is neither a file nor one of %s", name, strings.Join(Names(), ", "))
		}
	}
	for _, layer := range [][]byte{base, data} {
		if err := r.merge(layer); err != nil {
			return r, fmt.Errorf("recipe %s: %w", name, err)
		}
	}
	return r, nil
}

// Names lists the embedded recipes.
func Names() []string {
	files, _ := fs.Glob(recipeFiles, "recipes/*.yaml") // the pattern is well formed
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	return files
}

// YAML is the recipe as a file that Load reads.
func (r Recipe) YAML() ([]byte, error) { return yaml.Marshal(r) }

// TokensPerStep is how many tokens one optimizer step reads.
func (r Recipe) TokensPerStep() int { return r.Accumulate * r.Batch * r.SeqLen }
