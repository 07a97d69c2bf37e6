package configs

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Rope is rotary position embedding (Su et al. 2021, arXiv 2104.09864) on the first dims of every query and key head.
type Rope struct {
	Dim   int // as configured; if odd, one more dim is rotated, as in transformers
	Theta float64
	RopeScaling
}

// RopeScaling extends the positions that a model was trained on: config.json's rope_parameters (or rope_scaling).
type RopeScaling struct {
	Type            string // one of ropeTypes; empty means default
	Factor          float64
	OriginalContext float64

	LowFreqFactor, HighFreqFactor float64 // llama3

	BetaFast, BetaSlow              float64 // yarn
	MScale, MScaleAllDim, Attention float64 // yarn; 0 if not given
	Truncate                        bool    // yarn: round the correction range to whole dims

	ShortFactors, LongFactors []float64 // longrope: factors per plane, for lengths up to OriginalContext and beyond; uses Attention, too
}

// ropeTypes are the supported scalings, by transformers' names. dynamic is exact up to the trained context and rejected
// beyond it, since it changes with the length.
var ropeTypes = []string{"default", "linear", "dynamic", "llama3", "yarn", "longrope"}

// ropeScaling reads the scaling object; the field's values may rename its type.
func (r *resolver) ropeScaling(value any, field Field) (RopeScaling, error) {
	raw, ok := value.(map[string]any)
	if !ok {
		return RopeScaling{}, fmt.Errorf("is %s, want an object", literal(value))
	}
	for key, v := range raw {
		if _, nested := v.(map[string]any); nested {
			return RopeScaling{}, fmt.Errorf("has an object for %s: rotary embeddings that differ by layer are not supported", key)
		}
	}
	p := ropeObject{raw: raw}
	s := RopeScaling{
		Type: p.kind(field.Values), Factor: p.number("factor", 1), OriginalContext: p.number("original_max_position_embeddings", r.numbers["context"]),
		LowFreqFactor: p.number("low_freq_factor", 1), HighFreqFactor: p.number("high_freq_factor", 4),
		BetaFast: p.number("beta_fast", 32), BetaSlow: p.number("beta_slow", 1), MScale: p.number("mscale", 0),
		MScaleAllDim: p.number("mscale_all_dim", 0), Attention: p.number("attention_factor", 0), Truncate: raw["truncate"] != false,
	}
	if n, ok := r.numbers["rope_context"]; ok {
		s.OriginalContext = n
	}
	if s.Type == "longrope" {
		s.Factor = p.number("factor", r.numbers["context"]/s.OriginalContext)
		s.ShortFactors, s.LongFactors = p.list("short_factor"), p.list("long_factor")
	}
	return s, p.err
}

// windowRope returns the rotary embedding of sliding-window layers, or nil if it is the same in all layers.
func (r *resolver) windowRope() *Rope {
	theta, ok := r.numbers["window_rope_theta"]
	if !ok {
		return nil
	}
	return &Rope{Dim: int(r.numbers["rope_dim"]), Theta: theta, RopeScaling: r.scalings["window_rope_scaling"]}
}

// ropeObject reads the values of a rope scaling object; err is the first error.
type ropeObject struct {
	raw map[string]any
	err error
}

func (p *ropeObject) number(key string, other float64) float64 {
	v, ok := lookup(p.raw, key)
	if !ok {
		return other
	}
	n, ok := v.(float64)
	if !ok && p.err == nil {
		p.err = fmt.Errorf("has %s %s, want a number", key, literal(v))
	}
	return n
}

func (p *ropeObject) list(key string) []float64 {
	values, _ := p.raw[key].([]any)
	numbers := make([]float64, len(values))
	for i, v := range values {
		n, ok := v.(float64)
		if (!ok || n <= 0) && p.err == nil {
			p.err = fmt.Errorf("has %s in %s, want positive numbers", literal(v), key)
		}
		numbers[i] = n
	}
	return numbers
}

func (p *ropeObject) kind(values map[string]string) string {
	name := "default"
	for _, key := range []string{"type", "rope_type"} {
		if v, ok := lookup(p.raw, key); ok {
			name = fmt.Sprint(v)
		}
	}
	if mapped, ok := values[name]; ok {
		name = mapped
	}
	if !slices.Contains(ropeTypes, name) && p.err == nil {
		p.err = fmt.Errorf("has rope_type %q, want one of %v", name, ropeTypes)
	}
	return name
}

// LongInvFreq returns the inverse frequencies for sequences longer than OriginalContext (longrope: Ding et al. 2024,
// arXiv 2402.13753), or nil if they are the same.
func (r Rope) LongInvFreq() []float64 {
	if r.Type != "longrope" {
		return nil
	}
	r.ShortFactors = r.LongFactors
	return r.InvFreq()
}

// ScoreFactor returns DeepSeek's factor for scores: the square of YaRN's for MScaleAllDim.
func (r Rope) ScoreFactor() float64 {
	if r.Type == "" || r.Type == "default" || r.MScaleAllDim == 0 {
		return 1
	}
	m := r.mscale(r.MScaleAllDim)
	return m * m
}

// mscale is YaRN's attention factor, its equation 22, with a weight.
func (r Rope) mscale(weight float64) float64 {
	if r.Factor <= 1 {
		return 1
	}
	return 0.1*weight*math.Log(r.Factor) + 1
}

// InvFreq returns the inverse frequency of each rotated plane, scaled according to Type.
func (r Rope) InvFreq() []float64 {
	freqs := make([]float64, (r.Dim+1)/2)
	low, high := r.yarnRange()
	for i := range freqs {
		f := 1 / math.Pow(r.Theta, float64(2*i)/float64(r.Dim))
		switch r.Type {
		case "linear":
			f /= r.Factor
		case "llama3":
			f = r.llama3(f)
		case "yarn":
			ramp := math.Max(0, math.Min(1, (float64(i)-low)/(high-low)))
			f = f*(1-ramp) + f/r.Factor*ramp
		case "longrope":
			f /= r.ShortFactors[i]
		}
		freqs[i] = f
	}
	return freqs
}

// llama3 keeps high frequencies, divides low ones by Factor and interpolates between them (the rule published with
// Llama 3.1).
func (r Rope) llama3(f float64) float64 {
	wavelength := 2 * math.Pi / f
	switch {
	case wavelength > r.OriginalContext/r.LowFreqFactor:
		return f / r.Factor
	case wavelength < r.OriginalContext/r.HighFreqFactor:
		return f
	}
	smooth := (r.OriginalContext/wavelength - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
	return (1-smooth)*f/r.Factor + smooth*f
}

// yarnRange returns the planes between which YaRN interpolates from unscaled to scaled frequencies (Peng et al. 2023,
// arXiv 2309.00071, §3.2): those that turn BetaFast and BetaSlow times over the original context.
func (r Rope) yarnRange() (low, high float64) {
	plane := func(turns float64) float64 {
		return float64(r.Dim) * math.Log(r.OriginalContext/(turns*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high = plane(r.BetaFast), plane(r.BetaSlow)
	if r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = math.Max(low, 0), math.Min(high, float64(r.Dim-1))
	if low == high {
		high += 0.001
	}
	return low, high
}

// Scale returns the factor for cosines and sines: YaRN's attention factor (its equation 22) or LongRoPE's, otherwise 1.
func (r Rope) Scale() float64 {
	switch {
	case r.Type != "yarn" && r.Type != "longrope":
		return 1
	case r.Attention != 0:
		return r.Attention
	case r.Type == "longrope" && r.Factor <= 1:
		return 1
	case r.Type == "longrope":
		return math.Sqrt(1 + math.Log(r.Factor)/math.Log(r.OriginalContext))
	case r.MScale != 0 && r.MScaleAllDim != 0:
		return r.mscale(r.MScale) / r.mscale(r.MScaleAllDim)
	}
	return r.mscale(1)
}

func (a *Arch) checkRope() error {
	if err := a.Rope.check(a.HeadDim); err != nil || a.WindowRope == nil {
		return err
	}
	if a.Rope.Type == "longrope" || a.WindowRope.Type == "longrope" {
		return errors.New("config.json: longrope is not supported where rotary embeddings differ by layer")
	}
	return a.WindowRope.check(a.HeadDim)
}

func (r Rope) check(headDim int) error {
	switch {
	case r.Dim < 0 || r.Dim > headDim || (r.Dim+1)/2*2 > headDim:
		return fmt.Errorf("config.json: %d rotary dims, which go in pairs, do not fit a head dim of %d", r.Dim, headDim)
	case r.Theta <= 1:
		return fmt.Errorf("config.json: rope_theta is %g, want more than 1", r.Theta)
	case r.Type == "longrope":
		return r.checkLong()
	case r.Factor < 1 && r.Type != "default" && r.Type != "":
		return fmt.Errorf("config.json: rope factor is %g, want 1 or more", r.Factor)
	case r.Type == "llama3" && (r.LowFreqFactor <= 0 || r.HighFreqFactor <= r.LowFreqFactor):
		return fmt.Errorf("config.json: rope low_freq_factor %g and high_freq_factor %g, want 0 < low < high", r.LowFreqFactor, r.HighFreqFactor)
	case r.Type == "yarn" && (r.BetaSlow <= 0 || r.BetaFast < r.BetaSlow):
		return fmt.Errorf("config.json: rope beta_slow %g and beta_fast %g, want 0 < slow <= fast", r.BetaSlow, r.BetaFast)
	case (r.Type == "llama3" || r.Type == "yarn") && r.OriginalContext < 1:
		return fmt.Errorf("config.json: rope original_max_position_embeddings is %g, want 1 or more", r.OriginalContext)
	}
	return nil
}

func (r Rope) checkLong() error {
	planes := (r.Dim + 1) / 2
	switch {
	case len(r.ShortFactors) != planes || len(r.LongFactors) != planes:
		return fmt.Errorf("config.json: rope short_factor has %d numbers and long_factor %d, want %d: one for each rotated plane",
			len(r.ShortFactors), len(r.LongFactors), planes)
	case !(r.OriginalContext > 1):
		return fmt.Errorf("config.json: rope original_max_position_embeddings is %g, want more than 1", r.OriginalContext)
	case !(r.Factor > 0) || r.Attention < 0:
		return fmt.Errorf("config.json: rope factor is %g and attention_factor %g, want positive numbers", r.Factor, r.Attention)
	}
	return nil
}
