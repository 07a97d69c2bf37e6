package sweep

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/internal/limits"
)

// Curve is what is done at each number of groups: the merge of the heads, and the loss of the up-training.
type Curve struct {
	Method   convert.Method
	Grouping convert.Grouping
	Refine   int         // steps of fitting; 0 for none
	Loss     recipe.Loss // of the up-training: CE, or KL or Mixed with the original as teacher; empty means the recipe's
}

// uptrainings are the losses that a curve can name.
var uptrainings = []recipe.Loss{recipe.CE, recipe.KL, recipe.Mixed}

// ParseCurve parses a method followed by options: mean, calibrated+similar+kl, calibrated+similar+refine=300+kl.
func ParseCurve(text string) (Curve, error) {
	method, rest, more := strings.Cut(text, "+")
	c := Curve{Method: convert.Method(method), Grouping: convert.Contiguous}
	if !slices.Contains(convert.Methods, method) {
		return c, fmt.Errorf("%q is unknown; want one of %v", method, convert.Methods)
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

// reads reports whether the curve's conversions can use text.
func (c Curve) reads() bool { return c.options(1, nil).Merges() }

// options returns the options of the curve's conversions to groups KV heads, with the text if they can use it.
func (c Curve) options(groups int, text *calibrate.Data) convert.Options {
	o := convert.Options{Goal: convert.Groups(groups), Method: c.Method, Grouping: c.Grouping, Refine: c.Refine}
	if o.Merges() {
		o.Calibration = text
	}
	return o
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
