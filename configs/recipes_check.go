package configs

import (
	"fmt"
	"math"
	"slices"
)

// Resolve works Steps out from Alpha and OriginalTokens where it is 0, or Alpha from Steps, and validates the recipe.
func (r *Recipe) Resolve() error {
	if err := r.validateSizes(); err != nil {
		return err
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
	if r.Distill.Loss == CE { // of the data alone
		r.Distill.Teacher, r.Distill.Cache = "", ""
	}
	return r.Validate()
}

// limit is one condition on a key's value.
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

// Validate checks a resolved recipe; the error names the key, its value and what is wanted.
func (r *Recipe) Validate() error {
	if err := r.validateSizes(); err != nil {
		return err
	}
	o, s := r.Optimizer, r.Schedule
	return check(append([]limit{
		{"steps", r.Steps, r.Steps >= 1, "at least 1"},
		{"schedule.warmup", s.Warmup, s.Warmup >= 0, "0 or more steps"},
		{"schedule.final", s.Final, s.Final >= 0 && s.Final <= 1, "0 to 1, a fraction of optimizer.lr"},
		oneOf("schedule.kind", s.Kind, Cosine, Linear, Constant),
		oneOf("optimizer.name", o.Name, AdamW, Muon),
		{"optimizer.lr", o.LR, o.LR > 0 && finite(o.LR), "more than 0"},
		{"optimizer.attention_rate", o.AttentionRate, o.AttentionRate >= 0 && finite(o.AttentionRate), "0 or more times optimizer.lr"},
		{"optimizer.beta1", o.Beta1, o.Beta1 >= 0 && o.Beta1 < 1, "0 or more and below 1"},
		{"optimizer.beta2", o.Beta2, o.Beta2 >= 0 && o.Beta2 < 1, "0 or more and below 1"},
		{"optimizer.eps", o.Eps, o.Eps > 0 && finite(o.Eps), "more than 0"},
		{"optimizer.weight_decay", o.WeightDecay, o.WeightDecay >= 0 && finite(o.WeightDecay), "0 or more"},
		{"optimizer.clip", o.Clip, o.Clip >= 0 && finite(o.Clip), "0 (no limit) or more"},
		{"optimizer.average", o.Average, o.Average >= 0 && o.Average < 1, "0 (no average) or more and below 1, such as 0.999"},
		oneOf("optimizer.decay", o.Decay, DecayMatrices, DecayAll),
		oneOf("export_dtype", r.ExportDType, "keep", "f32", "bf16", "f16"),
		oneOf("distill.loss", r.Distill.Loss, CE, KL, Mixed),
	}, r.Distill.limits()...))
}

func (d Distill) limits() []limit {
	return []limit{
		{"distill.loss", d.Loss, d.Teacher != "" || d.Loss == CE, "ce, as there is no teacher: name one with distill.teacher"},
		{"distill.cache", d.Cache, d.Teacher != "" || d.Cache == "", "none, as there is no teacher"},
		{"distill.weight", d.Weight, d.Weight >= 0 && d.Weight <= 1, "0 to 1, the divergence's share of the loss"},
		{"distill.temperature", d.Temperature, d.Temperature > 0 && finite(d.Temperature), "more than 0"},
		{"distill.top_k", d.TopK, d.TopK >= 1, "at least 1 token"},
	}
}

func (r *Recipe) validateSizes() error {
	if r.Model == "" || r.Data == "" {
		return fmt.Errorf("model and data must be given: the checkpoint to train and the corpus to train it on")
	}
	return check([]limit{
		{"steps", r.Steps, r.Steps >= 0, "at least 1"},
		{"alpha", r.Alpha, r.Alpha >= 0 && finite(r.Alpha), "0 or more"},
		{"original_tokens", r.OriginalTokens, r.OriginalTokens >= 0, "0 (not known) or more"},
		{"batch", r.Batch, r.Batch >= 1, "at least 1 window"},
		{"seq_len", r.SeqLen, r.SeqLen >= 2, "at least 2 tokens: one to read and one to predict"},
		{"accumulate", r.Accumulate, r.Accumulate >= 1, "at least 1 micro-batch"},
		{"valid_every", r.ValidEvery, r.ValidEvery >= 0, "0 (at the end only) or more steps"},
		{"valid_windows", r.ValidWindows, r.ValidWindows >= 0, "0 (all) or more windows"},
		{"save_every", r.SaveEvery, r.SaveEvery >= 0, "0 (at the end only) or more steps"},
		{"keep", r.Keep, r.Keep >= 0, "0 (all) or more checkpoints"},
		{"log_every", r.LogEvery, r.LogEvery >= 1, "at least 1 step"},
		{"threads", r.Threads, r.Threads >= 0, "0 (one per core) or more"},
	})
}

func oneOf[T ~string](key string, value T, allowed ...T) limit {
	return limit{key, fmt.Sprintf("%q", value), slices.Contains(allowed, value), fmt.Sprintf("one of %v", allowed)}
}

func finite(x float64) bool { return !math.IsInf(x, 0) && !math.IsNaN(x) }
