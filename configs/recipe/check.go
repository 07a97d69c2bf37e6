package recipe

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"gqa/internal/limits"
)

// Resolve computes Steps from Alpha and OriginalTokens if it is 0, or Alpha from Steps, and validates the recipe.
func (r *Recipe) Resolve() error {
	if err := r.resolve(); err != nil {
		return Error{err}
	}
	return nil
}

func (r *Recipe) resolve() error {
	if err := r.validateSizes(); err != nil {
		return err
	}
	if r.Packing == Windows {
		r.Packing = "" // as recipes say it that do not mention it
	}
	perStep := float64(r.TokensPerStep())
	switch {
	case r.OriginalTokens == 0 && r.Alpha != 0:
		return fmt.Errorf("alpha needs original_tokens: how many tokens the checkpoint was pre-trained on")
	case r.Steps == 0 && r.Alpha == 0:
		return fmt.Errorf("steps is 0: give steps, or alpha and original_tokens")
	case r.Steps == 0:
		r.Steps = int(math.Ceil(r.Alpha * float64(r.OriginalTokens) / perStep))
	}
	if r.OriginalTokens > 0 {
		r.Alpha = float64(r.Steps) * perStep / float64(r.OriginalTokens)
	}
	if r.Distill.Loss == "" {
		r.Distill.Loss = CE
		if r.Distill.Teacher != "" {
			r.Distill.Loss = KL
		}
	}
	if r.Distill.Loss == CE { // no teacher is involved
		r.Distill.Teacher, r.Distill.Cache = "", ""
	}
	return r.validate()
}

// Error reports a mistake in a recipe, or in a change to one.
type Error struct{ Err error }

// Error returns the message of the wrapped error.
func (e Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e Error) Unwrap() error { return e.Err }

// limit is a condition on the value of a key.
type limit struct {
	key   string
	value any
	ok    bool
	want  string
}

func check(limits []limit) error {
	for _, l := range limits {
		if !l.ok {
			return fmt.Errorf("%s is %v, want %s", l.key, l.value, l.want)
		}
	}
	return nil
}

// validate checks a resolved recipe; the error names the key, its value and the valid values.
func (r *Recipe) validate() error {
	if err := r.validateSizes(); err != nil {
		return err
	}
	if _, err := r.Corpora(); err != nil {
		return err
	}
	if err := r.validateTrain(); err != nil {
		return err
	}
	s := r.Schedule
	return check(slices.Concat([]limit{
		{"steps", r.Steps, r.Steps >= 1 && r.Steps <= limits.Count, fmt.Sprintf("1 to %d", limits.Count)},
		{"schedule.final", s.Final, s.Final >= 0 && s.Final <= 1, "0 to 1, a fraction of optimizer.lr"},
		{"best", r.Best, r.Best != "loss" || r.Valid != "", "nothing, as there is no validation data: give it with valid"},
		{"best", r.Best, r.Best == "" || r.Best == "loss" || r.Tasks != "", "loss or nothing, as there are no tasks: name some with tasks"},
		{"patience", r.Patience, r.Patience == 0 || r.Best != "", "0, as there is no best: set best to loss or to a task's figure"},
		{"skip.spike", r.Skip.Spike, r.Skip.Spike == 0 || r.Skip.Spike >= 1 && finite(r.Skip.Spike), "0 (none), or 1 or more standard deviations, such as 6"},
		{"schedule.cooldown", s.Cooldown, s.Cooldown >= 0 && s.Cooldown <= 1, "0 to 1, a share of all steps"},
		oneOf("schedule.kind", s.Kind, Cosine, Linear, Constant, WSD),
		oneOf("precision", r.Precision, "", "f32", "bf16"),
		oneOf("packing", r.Packing, "", Windows, Documents),
		oneOf("sharding", r.Sharding, "", ShardOptimizer, ShardGradients, ShardParameters),
		oneOf("recompute", r.Recompute, "", "none", "attention", "layer"),
		oneOf("export_dtype", r.ExportDType, "keep", "f32", "bf16", "f16"),
		oneOf("distill.loss", r.Distill.Loss, CE, KL, Mixed),
	}, r.Optimizer.limits(), r.Distill.limits()))
}

func (o Optimizer) limits() []limit {
	return []limit{
		oneOf("optimizer.name", o.Name, AdamW, Adafactor, Muon),
		{"optimizer.lr", o.LR, o.LR > 0 && finite(o.LR), "more than 0"},
		{"optimizer.attention_rate", o.AttentionRate, o.AttentionRate >= 0 && finite(o.AttentionRate), "0 or more times optimizer.lr"},
		{"optimizer.beta1", o.Beta1, o.Beta1 >= 0 && o.Beta1 < 1, "0 or more and below 1"},
		{"optimizer.beta2", o.Beta2, o.Beta2 >= 0 && o.Beta2 < 1, "0 or more and below 1"},
		{"optimizer.eps", o.Eps, o.Eps > 0 && finite(o.Eps), "more than 0"},
		{"optimizer.weight_decay", o.WeightDecay, o.WeightDecay >= 0 && finite(o.WeightDecay), "0 or more"},
		{"optimizer.clip", o.Clip, o.Clip >= 0 && finite(o.Clip), "0 (no limit) or more"},
		{"optimizer.average", o.Average, o.Average >= 0 && o.Average < 1, "0 (no average) or more and below 1, such as 0.999"},
		{"optimizer.adafactor.decay_rate", o.Adafactor.DecayRate, o.Adafactor.DecayRate >= 0 && finite(o.Adafactor.DecayRate), "0 or more, such as 0.8"},
		{"optimizer.adafactor.clip_threshold", o.Adafactor.ClipThreshold, o.Adafactor.ClipThreshold > 0 && finite(o.Adafactor.ClipThreshold), "more than 0"},
		oneOf("optimizer.moments", o.Moments, "", MomentsF32, MomentsBF16, Moments8),
		{"optimizer.moments", fmt.Sprintf("%q", o.Moments), o.Name == AdamW || o.Moments == "" || o.Moments == MomentsF32, "f32 unless optimizer.name is adamw"},
		oneOf("optimizer.decay", o.Decay, DecayMatrices, DecayAll),
	}
}

func (d Distill) limits() []limit {
	return []limit{
		{"distill.loss", d.Loss, d.Teacher != "" || d.Loss == CE, "ce, as there is no teacher: name one with distill.teacher"},
		{"distill.cache", d.Cache, d.Teacher != "" || d.Cache == "", "none, as there is no teacher"},
		{"distill.weight", d.Weight, d.Weight >= 0 && d.Weight <= 1, "0 to 1, the divergence's share of the loss"},
		{"distill.temperature", d.Temperature, d.Temperature > 0 && finite(d.Temperature), "more than 0"},
	}
}

func (r *Recipe) validateSizes() error {
	if r.Model == "" || r.Data == "" {
		return fmt.Errorf("model and data must be given: the checkpoint to train and the corpus to train it on")
	}
	all := []limit{{"name", fmt.Sprintf("%q", shorten(r.Name)), nameable(r.Name), "at most 200 bytes without control characters, and not only spaces"}, {"alpha", r.Alpha, r.Alpha >= 0 && r.Alpha <= 1000, "0 to 1000"}}
	for _, of := range ranges {
		field, _ := lookUp(reflect.ValueOf(r).Elem(), "", of.key) // a test looks up every key
		value := field.Int()
		all = append(all, limit{of.key, value, of.lo <= value && value <= of.hi, of.String()})
	}
	tokens := float64(r.Batch) * float64(r.Accumulate) * float64(r.SeqLen)
	return check(append(all, limit{
		"batch * accumulate * seq_len", fmt.Sprintf("%.0f", tokens), tokens <= limits.Step, fmt.Sprintf("at most %d tokens for each step", limits.Step),
	}))
}

// keyRange is the range of an integer key.
type keyRange struct {
	key    string
	lo, hi int64
	what   string
}

func (r keyRange) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%d to %d %s", r.lo, r.hi, r.what), " ")
}

var ranges = []keyRange{
	{"steps", 0, limits.Count, "(0: derived from alpha)"},
	{"original_tokens", 0, limits.OriginalTokens, "(0: unknown)"},
	{"batch", 1, limits.Batch, "windows"},
	{"seq_len", 2, limits.Tokens, "tokens"},
	{"accumulate", 1, limits.Batch, "micro-batches"},
	{"schedule.warmup", 0, limits.Count, "steps"},
	{"valid_every", 0, limits.Count, "steps (0: at the end only)"},
	{"valid_windows", 0, limits.Count, "windows (0: all)"},
	{"tasks_every", 0, limits.Count, "steps (0: at the end only)"},
	{"tasks_limit", 0, limits.Count, "items (0: all)"},
	{"patience", 0, limits.Count, "validations (0: the run does not end early)"},
	{"save_every", 0, limits.Count, "steps (0: at the end only)"},
	{"keep", 0, limits.Count, "checkpoints (0: all)"},
	{"log_every", 1, limits.Count, "steps"},
	{"bad_rows", 0, limits.Count, "rows"},
	{"threads", 0, limits.Threads, "(0: one per core)"},
	{"skip.limit", 0, limits.Count, "steps"},
	{"distill.top_k", 1, limits.Count, "tokens"},
	{"lora.rank", 1, limits.Batch, ""},
}

// Range returns the smallest and the largest value of an integer key. ok is false for other keys, and for the seed,
// which may have any value.
func Range(key string) (lo, hi int64, ok bool) {
	for _, r := range ranges {
		if r.key == key {
			return r.lo, r.hi, true
		}
	}
	return 0, 0, false
}

// nameable reports whether a name fits on a line and can be the name of a folder.
func nameable(name string) bool {
	const most = 200 // bytes; file systems allow 255, but temporary names beside a folder are longer than its name
	return len(name) <= most && !strings.ContainsFunc(name, unicode.IsControl) && (name == "" || strings.TrimSpace(name) != "")
}

func oneOf[T ~string](key string, value T, allowed ...T) limit {
	named := slices.DeleteFunc(slices.Clone(allowed), func(t T) bool { return t == "" })
	return limit{key, fmt.Sprintf("%q", shorten(string(value))), slices.Contains(allowed, value), fmt.Sprintf("one of %v", named)}
}

func finite(x float64) bool { return !math.IsInf(x, 0) && !math.IsNaN(x) }
