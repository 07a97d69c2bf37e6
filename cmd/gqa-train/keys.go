package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"gqa/configs/recipe"
	"gqa/internal/cli"
)

// keys are the recipe's keys that have a flag of their own.
var keys = []struct{ flag, key, value, usage string }{
	{"model", "model", "DIR", "checkpoint to start from"},
	{"data", "data", "PATH", "corpus to train on"},
	{"valid", "valid", "PATH", "corpus for a validation loss"},
	{"text-key", "text_key", "KEY", "of the text in JSON records (default text)"},
	{"name", "name", "NAME", "of the run: its folder under runs/"},
	{"steps", "steps", "N", "optimizer steps"},
	{"batch", "batch", "N", "windows per micro-batch"},
	{"seq-len", "seq_len", "N", "tokens per window"},
	{"accumulate", "accumulate", "N", "micro-batches per step"},
	{"optimizer", "optimizer.name", "NAME", "adamw, or muon for the layers' matrices and adamw for the rest"},
	{"lr", "optimizer.lr", "RATE", "peak learning rate"},
	{"warmup", "schedule.warmup", "N", "steps of linear warm-up"},
	{"schedule", "schedule.kind", "KIND", "after the warm-up: cosine, linear or constant"},
	{"weight-decay", "optimizer.weight_decay", "X", "weight decay"},
	{"clip", "optimizer.clip", "NORM", "largest gradient norm (0: no limit)"},
	{"average", "optimizer.average", "D", "the result is an average of the weights: D of the one before and 1-D of the new ones (0: the last weights)"},
	{"teacher", "distill.teacher", "DIR", "checkpoint whose predictions to follow, most often the one that was converted"},
	{"loss", "distill.loss", "LOSS", "ce (the data alone, whatever the teacher), kl or mixed (default kl with a teacher, ce without)"},
	{"kl-weight", "distill.weight", "X", "of kl in mixed, ce has the rest"},
	{"temperature", "distill.temperature", "T", "of the teacher's and the model's softmax in kl"},
	{"teacher-cache", "distill.cache", "DIR", "keep the teacher's predictions there for resumes and other runs"},
	{"teacher-top-k", "distill.top_k", "K", "tokens per position that the cache keeps"},
	{"seed", "seed", "N", "of the order of the windows"},
	{"save-every", "save_every", "N", "steps between checkpoints (0: at the end only)"},
	{"keep", "keep", "N", "checkpoints to keep (0: all)"},
	{"valid-every", "valid_every", "N", "steps between validations (0: at the end only)"},
	{"log-every", "log_every", "N", "steps between lines of the log (metrics.jsonl has every step)"},
	{"export-dtype", "export_dtype", "DTYPE", "of the result: keep, f32, bf16 or f16"},
}

// addKeys defines the flags that change a recipe; sets receives them as given, in order.
func addKeys(fl *pflag.FlagSet, sets *[]string) {
	addSet(fl, sets)
	for _, k := range keys {
		fl.Var(keyFlag{k.key + "=", k.value, sets}, k.flag, k.usage+span(k.key))
	}
}

// span is the range of a key that holds a whole number.
func span(key string) string {
	if lo, hi, ok := recipe.Range(key); ok {
		return fmt.Sprintf(" [%d to %d]", lo, hi)
	}
	return ""
}

func addSet(fl *pflag.FlagSet, sets *[]string) {
	fl.Var(keyFlag{"", "KEY=VALUE", sets}, "set", "change a key of the recipe, such as optimizer.beta2=0.99; may be repeated")
}

// keyFlag is a flag that sets a key of the recipe.
type keyFlag struct {
	prefix, value string
	sets          *[]string
}

// String is empty: what a flag leaves alone, the recipe says.
func (f keyFlag) String() string { return "" }

// Type is what --help calls the value.
func (f keyFlag) Type() string { return f.value }

// Set notes the change and refuses one that no recipe would take.
func (f keyFlag) Set(value string) error {
	var scratch recipe.Recipe
	set := f.prefix + value
	if err := scratch.Set(set); err != nil {
		said := fmt.Sprintf("%sis %q, ", strings.Replace(f.prefix, "=", " ", 1), value) // as cli says of the flag
		return cli.Usagef("%s", strings.TrimPrefix(err.Error(), said))
	}
	*f.sets = append(*f.sets, set)
	return nil
}
