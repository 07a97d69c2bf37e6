// Package recipe defines how a checkpoint is up-trained, as read from a YAML file. recipes/*.yaml are embedded.
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

// Recipe describes how a checkpoint is up-trained: on what data, for how long, and how. If Steps is 0, Resolve computes
// it from Alpha.
type Recipe struct {
	Name  string `yaml:"name"`            // name of the run
	Model string `yaml:"model"`           // checkpoint to start from
	Data  string `yaml:"data"`            // corpus, .safetensors with input_ids [rows, tokens], or a list of them: see Corpora
	Valid string `yaml:"valid,omitempty"` // corpus for the validation loss; empty: none

	TextKey string `yaml:"text_key,omitempty" json:",omitempty"` // key of the text in records, for both corpora; empty: text, or a conversation's

	Packing   Packing `yaml:"packing,omitempty" json:",omitempty"`    // what a window holds; empty: Windows
	BadRows   int     `yaml:"bad_rows"`                               // number of rows that may be unusable
	DataCache string  `yaml:"data_cache,omitempty" json:",omitempty"` // folder for the tokens of the corpora; empty: of large ones, in the user's cache folder

	Steps          int     `yaml:"steps"`
	Alpha          float64 `yaml:"alpha,omitempty"`           // up-training tokens / OriginalTokens
	OriginalTokens int64   `yaml:"original_tokens,omitempty"` // number of tokens that the checkpoint was pre-trained on

	Batch      int    `yaml:"batch"`      // windows per micro-batch
	SeqLen     int    `yaml:"seq_len"`    // tokens per window
	Accumulate int    `yaml:"accumulate"` // micro-batches per step
	Seed       uint64 `yaml:"seed"`       // random seed for the order of the windows

	Train     Train     `yaml:"train"` // which weights change
	LoRA      LoRA      `yaml:"lora"`  // how, if Train is TrainLoRA
	Optimizer Optimizer `yaml:"optimizer"`
	Schedule  Schedule  `yaml:"schedule"`
	Distill   Distill   `yaml:"distill"`

	Skip Skip `yaml:"skip"`

	ValidEvery   int    `yaml:"valid_every"`                       // steps between validations; 0: only at the end
	ValidWindows int    `yaml:"valid_windows"`                     // number of windows of Valid to use, from its start; 0: all
	Tasks        string `yaml:"tasks,omitempty" json:",omitempty"` // tasks of gqa-eval tasks, joined by commas; empty: none
	TasksEvery   int    `yaml:"tasks_every"`                       // steps between measurements of the tasks; 0: only at the end
	TasksLimit   int    `yaml:"tasks_limit"`                       // items of each task; 0: all
	// Best is the figure by which a validation is the best: loss, the validation loss, or one of the tasks'. The checkpoint of the best
	// is kept, and the result is its model. Empty: the result is the last model.
	Best        string `yaml:"best,omitempty" json:",omitempty"`
	Patience    int    `yaml:"patience"`     // number of validations in succession without a better one after which the run ends; 0: it does not
	SaveEvery   int    `yaml:"save_every"`   // steps between checkpoints; 0: only at the end
	Keep        int    `yaml:"keep"`         // number of latest checkpoints to keep; 0: all
	LogEvery    int    `yaml:"log_every"`    // steps between log lines
	ExportDType string `yaml:"export_dtype"` // keep, f32, bf16 or f16
	Threads     int    `yaml:"threads"`      // 0: one per core; does not affect the result

	// Device is what a run computes on: auto, cpu, cuda or cuda:N. Empty is auto, the first GPU where there is one. A run may be resumed on
	// another device.
	Device string `yaml:"device,omitempty" json:",omitempty"`
	// Sharding is what several processes that train together divide among them: optimizer, its state and what 16-bit weights lack, which is
	// the default; gradients too; or parameters too. A run may be resumed with another.
	Sharding Sharding `yaml:"sharding,omitempty" json:",omitempty"`
	// Precision is that of activations on a GPU: f32, which is exact and the default, or bf16, with weights, sums and the optimizer's state
	// in f32.
	Precision string `yaml:"precision,omitempty" json:",omitempty"`
	// Deterministic says whether a run on a GPU gives the same bits each time. It does so by default; with false, products and
	// attention's gradient are faster in bf16.
	Deterministic *bool `yaml:"deterministic,omitempty" json:",omitempty"`
	// Recompute is what the backward pass computes again so that it need not be kept in memory: none, attention or layer. Empty
	// means as little as a GPU's memory allows.
	Recompute string `yaml:"recompute,omitempty" json:",omitempty"`
}

// Packing says how documents fill windows.
type Packing string

// Values of Packing.
const (
	Windows   Packing = "windows"   // a token sees all before it, whatever document it belongs to
	Documents Packing = "documents" // a token sees its own document alone, and positions start again with each
)

// Skip says which steps are not made. The data of such a step is left out, and its weights are those of the step before.
type Skip struct {
	Limit int     `yaml:"limit"` // how many steps of a run, at most, are skipped because their gradient is not finite or for a spike
	Spike float64 `yaml:"spike"` // standard deviations of the last steps above their mean, from which on a loss or gradient norm is one; 0: none is
}

// Optimizer describes how weights are updated.
type Optimizer struct {
	Name          OptimizerName `yaml:"name"`
	LR            float64       `yaml:"lr"`             // peak learning rate
	AttentionRate float64       `yaml:"attention_rate"` // factor on LR for the attention projections, which a conversion has changed
	Beta1         float64       `yaml:"beta1"`          // decay rate of the gradient average, or Muon's momentum
	Beta2         float64       `yaml:"beta2"`          // decay rate of the squared-gradient average
	Eps           float64       `yaml:"eps"`
	WeightDecay   float64       `yaml:"weight_decay"`
	Decay         Decay         `yaml:"decay"`
	Clip          float64       `yaml:"clip"`    // maximum norm of the whole gradient; 0: no limit
	Average       float64       `yaml:"average"` // decay rate of the weight average that becomes the result; 0: no averaging
	// Moments is how AdamW's averages of large weights are stored. Empty means MomentsF32.
	Moments Moments `yaml:"moments,omitempty" json:",omitempty"`

	Adafactor AdafactorSettings `yaml:"adafactor"`
}

// Moments is how averages are stored.
type Moments string

// Values of Moments.
const (
	MomentsF32  Moments = "f32"
	MomentsBF16 Moments = "bf16"
	Moments8    Moments = "8bit" // in blocks of 256 with a scale (Dettmers et al., arXiv 2110.02861)
)

// AdafactorSettings are those of the paper and of transformers.Adafactor.
type AdafactorSettings struct {
	DecayRate     float64 `yaml:"decay_rate"`                                  // in step t, averages of squares decay by 1 - t^-DecayRate
	ClipThreshold float64 `yaml:"clip_threshold"`                              // the largest root mean square of a weight's update, before the rate
	Scale         *bool   `yaml:"scale_parameter,omitempty" json:",omitempty"` // see Scales
}

// Scales reports whether the learning rate is relative to the root mean square of each weight. It is by default.
func (a AdafactorSettings) Scales() bool { return a.Scale == nil || *a.Scale }

// OptimizerName is the name of an update rule.
type OptimizerName string

// Values of OptimizerName.
const (
	AdamW OptimizerName = "adamw" // Loshchilov & Hutter, arXiv 1711.05101
	// Adafactor (Shazeer & Stern, arXiv 1804.04235) is the paper's. It keeps the averages of squares of a matrix by rows and by columns,
	// and none of the gradient, so it ignores Beta1, Beta2 and Eps.
	Adafactor OptimizerName = "adafactor"
	Muon      OptimizerName = "muon" // Jordan et al. 2024, with the update scale of Liu et al. (arXiv 2502.16982), for Param.Hidden; AdamW for the rest
)

// Sharding is what processes divide.
type Sharding string

// Values of Sharding.
const (
	ShardOptimizer Sharding = "optimizer" // ZeRO-1 (Rajbhandari et al., arXiv 1910.02054)
	ShardGradients Sharding = "gradients" // ZeRO-2
	// ShardParameters divides the weights too (ZeRO-3): those of a layer are gathered before it computes.
	ShardParameters Sharding = "parameters"
)

// Decay selects the weights that WeightDecay applies to.
type Decay string

// Values of Decay.
const (
	DecayMatrices Decay = "matrices" // two-dimensional weights: no norms, no biases
	DecayAll      Decay = "all"
)

// Distill describes what a run learns from besides its data: a teacher's predictions, usually those of the model before
// conversion.
type Distill struct {
	Teacher     string  `yaml:"teacher"`     // checkpoint; empty: none
	Loss        Loss    `yaml:"loss"`        // empty: KL with a teacher, CE without one
	Weight      float64 `yaml:"weight"`      // weight of the divergence in Mixed
	Temperature float64 `yaml:"temperature"` // for both softmaxes of the divergence
	Cache       string  `yaml:"cache"`       // folder that caches the teacher's predictions for resumed and other runs; empty: none
	TopK        int     `yaml:"top_k"`       // number of tokens per position in the cache
}

// Loss is the loss that training minimises.
type Loss string

// Values of Loss.
const (
	CE    Loss = "ce"    // cross-entropy with the data
	KL    Loss = "kl"    // KL(teacher || model)
	Mixed Loss = "mixed" // Weight times KL plus (1 - Weight) times CE
)

// KLWeight returns the weight of the divergence in the loss.
func (d Distill) KLWeight() float64 {
	switch d.Loss {
	case KL:
		return 1
	case Mixed:
		return d.Weight
	}
	return 0
}

// Schedule is the learning rate schedule: a linear warm-up over Warmup steps, then a decay to Final times the peak.
type Schedule struct {
	Kind   ScheduleKind `yaml:"kind"`
	Warmup int          `yaml:"warmup"` // steps
	Final  float64      `yaml:"final"`  // fraction of the peak at the last step; constant ignores it
	// Cooldown is the share of all steps that WSD's decay takes, the last ones.
	Cooldown float64 `yaml:"cooldown"`
}

// ScheduleKind is the shape of the decay after the warm-up.
type ScheduleKind string

// Values of ScheduleKind.
const (
	Cosine   ScheduleKind = "cosine"
	Linear   ScheduleKind = "linear"
	Constant ScheduleKind = "constant"
	// WSD is a warm-up, a stable phase at the peak, and a decay by 1 - √share of the cooldown (Hägele et al. 2024, arXiv 2405.18392).
	WSD ScheduleKind = "wsd"
)

// At returns the fraction of the peak rate at a step, out of steps; the first step is 1.
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
	case WSD:
		cooldown := max(1, min(math.Round(s.Cooldown*float64(steps)), float64(steps-s.Warmup))) // steps
		done := min(max(0, 1-float64(steps-step)/cooldown), 1)
		return s.Final + (1-s.Final)*(1-math.Sqrt(done))
	}
	return 1
}

// Default returns the embedded recipe "default", which sets every key but model and data.
func Default() (Recipe, error) { return Load("default") }

// Load reads a recipe: an embedded one by name, otherwise the file at that path. Keys that it omits are as in the
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

// Names returns the names of the embedded recipes.
func Names() []string {
	files, _ := fs.Glob(recipeFiles, "recipes/*.yaml") // the pattern is well formed
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	return files
}

// YAML returns the recipe as a file that Load can read.
func (r Recipe) YAML() ([]byte, error) {
	if isMixture(r.Data) {
		return r.mixtureYAML()
	}
	return yaml.Marshal(r)
}

// TokensPerStep returns the number of tokens that one optimizer step reads.
func (r Recipe) TokensPerStep() int { return r.Accumulate * r.Batch * r.SeqLen }

// CheckProcesses returns an error if a step does not have a window for each of n processes.
func (r Recipe) CheckProcesses(n int) error {
	if windows := r.Batch * r.Accumulate; windows < n {
		return Error{Err: fmt.Errorf("batch * accumulate is %d windows for each step, want at least one for each of %d processes", windows, n)}
	}
	return nil
}
