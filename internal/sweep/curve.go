package sweep

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/internal/limits"
)

// Curve is what is done at each number of groups: the merge of the heads, or latent attention with a cache of the same size, and the loss
// of the up-training.
type Curve struct {
	Method   convert.Method
	Grouping convert.Grouping
	Refine   int         // steps of fitting; 0 for none
	Loss     recipe.Loss // of the up-training: CE, or KL or Mixed with the original as teacher; empty means the recipe's
}

// Methods lists the methods that a curve can name.
var Methods = append(slices.Clone(convert.Methods), string(convert.MethodLatent))

// uptrainings are the losses that a curve can name.
var uptrainings = []recipe.Loss{recipe.CE, recipe.KL, recipe.Mixed}

// ParseCurve parses a method followed by options: mean, calibrated+similar+kl, calibrated+similar+refine=300+kl.
func ParseCurve(text string) (Curve, error) {
	method, rest, more := strings.Cut(text, "+")
	c := Curve{Method: convert.Method(method), Grouping: convert.Contiguous}
	if !slices.Contains(Methods, method) {
		return c, fmt.Errorf("%q is unknown; want one of %v", method, Methods)
	}
	for more {
		var part string
		part, rest, more = strings.Cut(rest, "+")
		if err := c.add(part); err != nil {
			return c, fmt.Errorf("%s: %w", text, err)
		}
	}
	return c, nil
}

// add applies an option that follows the method.
func (c *Curve) add(part string) error {
	steps, refine := strings.CutPrefix(part, "refine=")
	switch {
	case part == string(convert.Similar) && c.latent():
		return fmt.Errorf("latent attention has no groups that heads could be %s in; want refine=STEPS, ce, kl or mixed", part)
	case part == string(convert.Similar):
		c.Grouping = convert.Similar
	case slices.Contains(uptrainings, recipe.Loss(part)):
		c.Loss = recipe.Loss(part)
	case refine:
		n, err := strconv.Atoi(steps)
		if err != nil || n < 1 || n > limits.Count {
			return fmt.Errorf("refine is %q, want a number of steps, such as 300, and at most %d", steps, limits.Count)
		}
		c.Refine = n
	default:
		return fmt.Errorf("%q is unknown; want similar, refine=STEPS, ce, kl or mixed", part)
	}
	return nil
}

// String returns the curve in the form that ParseCurve parses.
func (c Curve) String() string {
	if c.Loss == "" {
		return c.conversion()
	}
	return c.conversion() + "+" + string(c.Loss)
}

// conversion returns the part of the name that describes the merge of the heads.
func (c Curve) conversion() string {
	name := string(c.Method)
	if c.Grouping == convert.Similar {
		name += "+similar"
	}
	if c.Refine > 0 {
		name += "+refine=" + strconv.Itoa(c.Refine)
	}
	return name
}

// MarshalText returns String as bytes.
func (c Curve) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText parses text with ParseCurve.
func (c *Curve) UnmarshalText(text []byte) (err error) {
	*c, err = ParseCurve(string(text))
	return err
}

// latent reports whether the curve's conversions have latent attention.
func (c Curve) latent() bool { return c.Method == convert.MethodLatent }

// reads reports whether the curve's conversions can use text.
func (c Curve) reads() bool {
	return c.latent() || convert.Options{Method: c.Method, Grouping: c.Grouping, Refine: c.Refine}.Merges()
}

// options returns the options of the curve's conversion of a to groups KV heads, or to latent attention that caches as many bytes, with the
// text if it can use it. With the model's own number of KV heads, nothing changes.
func (c Curve) options(a *configs.Arch, groups int, text *calibrate.Data) convert.Options {
	o := convert.Options{Goal: convert.Groups(groups), Method: c.Method, Grouping: c.Grouping, Refine: c.Refine}
	switch {
	case c.latent() && groups == a.KVHeads:
		return convert.Options{Goal: o.Goal, Method: convert.Mean, Grouping: c.Grouping}
	case c.latent():
		o.Goal = convert.LatentAttention(convert.LatentGoal{Bytes: a.WithKVHeads(groups).KVBytesPerToken(2), Equal: true})
		o.Target = convert.MLA
	}
	if o.Merges() {
		o.Calibration = text
	}
	return o
}

// check returns the reason why src cannot be converted in the curve's way.
func (c Curve) check(src *convert.Source, groups int, text *calibrate.Data) error {
	if c.latent() {
		if _, err := convert.NewPlan(src, paper.options(src.Arch, groups, nil)); err != nil { // groups whose bytes are meant
			return err
		}
		if err := src.Arch.CheckLatent(); err != nil {
			return fmt.Errorf("method %s: the attention cannot become latent: %w", c.Method, err)
		}
	}
	_, err := convert.NewPlan(src, c.options(src.Arch, groups, text))
	if err != nil && c.latent() {
		return fmt.Errorf("method %s with the cache of %d groups: %w", c.Method, groups, err)
	}
	return err
}

// recipe returns the recipe of the curve's up-trainings, in which the original model may be the teacher.
func (c Curve) recipe(r recipe.Recipe, model string) recipe.Recipe {
	if c.Loss == "" {
		return r
	}
	if r.Distill.Loss = c.Loss; c.Loss == recipe.CE {
		r.Distill.Teacher, r.Distill.Cache = "", ""
		return r
	}
	r.Distill.Teacher = cmp.Or(r.Distill.Teacher, model)
	return r
}

// recipeName returns what identifies a point of the curve besides its method; empty if the method is sufficient.
func (c Curve) recipeName() string {
	if name := c.String(); name != string(c.Method) {
		return name
	}
	return ""
}
