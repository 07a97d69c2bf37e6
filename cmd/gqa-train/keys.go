package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"gqa/configs/recipe"
	"gqa/internal/cli"
	"gqa/internal/devices"
)

// keys are the recipe keys that have their own flags.
var keys = []struct{ flag, key, value, usage string }{
	{"model", "model", "DIR", "checkpoint to train"},
	{"data", "data", "PATH", "training data"},
	{"valid", "valid", "PATH", "validation data"},
	{"text-key", "text_key", "KEY", "key of the text, or of the messages, in records (default text, or the usual keys of conversations)"},
	{"packing", "packing", "KIND", "what a window holds: windows, of the whole text, or documents, of which a token sees its own alone"},
	{"bad-rows", "bad_rows", "N", "number of rows that may be unusable; they are skipped and counted"},
	{"data-cache", "data_cache", "DIR", "folder to keep the tokens of the data in (default: only those of large data, in the user's cache folder)"},
	{"name", "name", "NAME", "name of the run and of its folder under runs/"},
	{"steps", "steps", "N", "number of optimizer steps"},
	{"alpha", "alpha", "SHARE", "steps as a share of the original pre-training, of --original-tokens: the paper's alpha (the last of --steps and --alpha counts)"},
	{"original-tokens", "original_tokens", "N", "number of tokens that the model was pre-trained on"},
	{"batch", "batch", "N", "windows per micro-batch"},
	{"seq-len", "seq_len", "N", "tokens per window"},
	{"accumulate", "accumulate", "N", "micro-batches per step"},
	{"train", "train", "WHAT", "weights to train: all, attention (its projections) or lora (a low-rank change of some projections, merged into the result)"},
	{"lora-rank", "lora.rank", "R", "rank of the change that --train lora learns"},
	{"lora-alpha", "lora.alpha", "A", "the change is A/R times the product of its two matrices"},
	{"lora-projections", "lora.projections", "LIST", "projections that --train lora changes, such as q,k,v,o,gate,up,down"},
	{"precision", "precision", "FORMAT", "of activations on a GPU: f32 or bf16"},
	{"optimizer", "optimizer.name", "NAME", "adamw, adafactor (the GQA paper's), or muon (for the matrices of the layers, with adamw for the rest)"},
	{"moments", "optimizer.moments", "FORMAT", "how AdamW's averages are stored: f32, bf16 or 8bit (default f32)"},
	{"lr", "optimizer.lr", "RATE", "peak learning rate"},
	{"warmup", "schedule.warmup", "N", "steps of linear warm-up"},
	{"schedule", "schedule.kind", "KIND", "learning-rate schedule after the warm-up: cosine, linear, constant or wsd (stable, then a decay by 1-sqrt)"},
	{"weight-decay", "optimizer.weight_decay", "X", "weight decay"},
	{"clip", "optimizer.clip", "NORM", "maximum gradient norm (0: no clipping)"},
	{"skip", "skip.limit", "N", "number of steps, at most, that are skipped because their gradient is not finite, or as spikes (then the run stops)"},
	{"spike", "skip.spike", "X", "a loss or gradient norm X standard deviations above the mean of the last 128 steps is a spike (0: none is)"},
	{"average", "optimizer.average", "D", "decay of a moving average of the weights; the average is then the result (0: no average)"},
	{"teacher", "distill.teacher", "DIR", "teacher checkpoint for distillation, usually the one that was converted"},
	{"loss", "distill.loss", "LOSS", "ce (data only), kl (teacher only) or mixed (default: kl with a teacher, otherwise ce)"},
	{"kl-weight", "distill.weight", "X", "weight of the KL term in the mixed loss"},
	{"temperature", "distill.temperature", "T", "softmax temperature of the KL term"},
	{"teacher-cache", "distill.cache", "DIR", "folder to cache the teacher's predictions in; later runs can share it"},
	{"teacher-top-k", "distill.top_k", "K", "number of tokens per position in the teacher cache"},
	{"seed", "seed", "N", "random seed for the order of the training windows"},
	{"save-every", "save_every", "N", "steps between checkpoints (0: only at the end)"},
	{"keep", "keep", "N", "number of checkpoints to keep (0: all)"},
	{"valid-every", "valid_every", "N", "steps between validations (0: only at the end)"},
	{"task", "tasks", "LIST", "validation tasks: files of items, FORMAT=FILE, or names, as in gqa-eval tasks, joined by commas"},
	{"tasks-every", "tasks_every", "N", "steps between measurements of the tasks (0: only at the end)"},
	{"best", "best", "FIGURE", "keep the checkpoint that is best by loss (of validation) or by a task's figure; its model is the result"},
	{"patience", "patience", "N", "end the run after N validations without a better one (0: never)"},
	{"log-every", "log_every", "N", "steps between log lines (metrics.jsonl has every step)"},
	{"export-dtype", "export_dtype", "DTYPE", "data type of the result: keep, f32, bf16 or f16"},
}

// addKeys defines the flags that change a recipe; sets receives their settings in order.
func addKeys(fl *pflag.FlagSet, sets *[]string) {
	addSet(fl, sets)
	for _, k := range keys {
		fl.Var(keyFlag{k.key + "=", k.value, sets}, k.flag, k.usage+span(k.key))
	}
}

// span returns the range of a key whose value is a whole number.
func span(key string) string {
	if lo, hi, ok := recipe.Range(key); ok && hi <= 1<<16 {
		return fmt.Sprintf(" [%d to %d]", lo, hi)
	}
	return ""
}

func addSet(fl *pflag.FlagSet, sets *[]string) {
	fl.Var(keyFlag{"", "KEY=VALUE", sets}, "set", "override a key of the recipe, such as optimizer.beta2=0.99 (repeatable)")
}

// addDevice defines the flag for the recipe's device, which has the same rules for a new run and a resumed one.
func addDevice(fl *pflag.FlagSet, sets *[]string) {
	fl.Var(deviceFlag{keyFlag{"device=", "NAME", sets}}, "device",
		"where to compute: "+devices.Choices+" (default auto)")
}

// deviceFlag is a keyFlag that knows the devices of this build.
type deviceFlag struct{ keyFlag }

// Set records the device if it is valid.
func (f deviceFlag) Set(value string) error {
	if err := devices.Check(value); err != nil {
		return cli.UsageError{Err: err}
	}
	return f.keyFlag.Set(value)
}

// keyFlag is a flag that sets a key of the recipe.
type keyFlag struct {
	prefix, value string
	sets          *[]string
}

// String returns "": the recipe determines what a flag leaves unset.
func (f keyFlag) String() string { return "" }

// Type returns the name of the value in --help.
func (f keyFlag) Type() string { return f.value }

// Set records the change, or returns an error if no recipe would accept it.
func (f keyFlag) Set(value string) error {
	var scratch recipe.Recipe
	set := f.prefix + value
	if err := scratch.Set(set); err != nil {
		said := fmt.Sprintf("%q", cli.Shorten(value)) // as cli quotes a flag's value
		if f.prefix == "" {
			return cli.Usagef("%s", strings.TrimPrefix(err.Error(), said+": "))
		}
		return cli.Usagef("%s", strings.TrimPrefix(err.Error(), strings.TrimSuffix(f.prefix, "=")+" is "+said+", "))
	}
	*f.sets = append(*f.sets, set)
	return nil
}
