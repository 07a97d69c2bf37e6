package configs

import (
	"fmt"
	"math"
	"slices"
)

// Rope is rotary position embedding (Su et al. 2021, arXiv 2104.09864) on the first dims of every query and key head.
type Rope struct {
	Dim   int // as configured; an odd number rotates one dim more, as transformers does
	Theta float64
	RopeScaling
}

// RopeScaling stretches the positions that a model was trained on: config.json's rope_parameters (or rope_scaling).
type RopeScaling struct {
	Type            string // one of ropeTypes; empty is default
	Factor          float64
	OriginalContext float64

	LowFreqFactor, HighFreqFactor float64 // llama3

	BetaFast, BetaSlow              float64 // yarn
	MScale, MScaleAllDim, Attention float64 // yarn; 0 is not given
	Truncate                        bool    // yarn: correction range in whole dims
}

// ropeTypes are the scalings that are known: transformers' names. dynamic is exact up to the trained context and refused
// beyond it, since it changes with the length.
var ropeTypes = []string{"default", "linear", "dynamic", "llama3", "yarn"}

func parseRopeScaling(value any, context float64) (RopeScaling, error) {
	raw, ok := value.(map[string]any)
	if !ok {
		return RopeScaling{}, fmt.Errorf("is %s, want an object", literal(value))
	}
	var err error
	number := func(key string, other float64) float64 {
		v, ok := lookup(raw, key)
		if !ok {
			return other
		}
		n, ok := v.(float64)
		if !ok && err == nil {
			err = fmt.Errorf("has %s %s, want a number", key, literal(v))
		}
		return n
	}
	s := RopeScaling{
		Type: "default", Factor: number("factor", 1), OriginalContext: number("original_max_position_embeddings", context),
		LowFreqFactor: number("low_freq_factor", 1), HighFreqFactor: number("high_freq_factor", 4),
		BetaFast: number("beta_fast", 32), BetaSlow: number("beta_slow", 1), MScale: number("mscale", 0),
		MScaleAllDim: number("mscale_all_dim", 0), Attention: number("attention_factor", 0), Truncate: raw["truncate"] != false,
	}
	for _, key := range []string{"type", "rope_type"} {
		if v, ok := lookup(raw, key); ok {
			s.Type = fmt.Sprint(v)
		}
	}
	if !slices.Contains(ropeTypes, s.Type) {
		return s, fmt.Errorf("has rope_type %q, want one of %v", s.Type, ropeTypes)
	}
	return s, err
}

// InvFreq returns the inverse frequency of each rotated plane, scaled as Type says.
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
		}
		freqs[i] = f
	}
	return freqs
}

// llama3 keeps high frequencies, divides low ones by Factor and blends between (Llama 3.1's published rule).
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

// yarnRange returns the planes between which YaRN blends from unscaled to scaled frequencies (Peng et al. 2023, arXiv
// 2309.00071, §3.2): those that turn BetaFast and BetaSlow times over the original context.
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

// Scale is what cosines and sines are multiplied with: YaRN's attention factor (its equation 22), else 1.
func (r Rope) Scale() float64 {
	mscale := func(m float64) float64 {
		if r.Factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(r.Factor) + 1
	}
	switch {
	case r.Type != "yarn":
		return 1
	case r.Attention != 0:
		return r.Attention
	case r.MScale != 0 && r.MScaleAllDim != 0:
		return mscale(r.MScale) / mscale(r.MScaleAllDim)
	}
	return mscale(1)
}

func (r Rope) check(headDim int) error {
	switch {
	case r.Dim < 0 || r.Dim > headDim || (r.Dim+1)/2*2 > headDim:
		return fmt.Errorf("config.json: %d rotary dims, which go in pairs, do not fit a head dim of %d", r.Dim, headDim)
	case r.Theta <= 1:
		return fmt.Errorf("config.json: rope_theta is %g, want more than 1", r.Theta)
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
