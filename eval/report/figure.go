package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gqa/internal/units"
)

// figureKind is what all values of a figure have in common: of a metric, or of a key that every point has.
type figureKind struct {
	Name   string `json:"name"`
	Label  string `json:"label"`
	Unit   string `json:"unit"`
	Better string `json:"better"` // Lower or Higher
}

// knownFigures are listed in reading order. Others, which need no entry here, stand where the empty name is.
var knownFigures = []figureKind{
	{"loss", "Loss", "nats/token", Lower},
	{Name: ""},
	{"token_accuracy", "Token accuracy", "share of tokens", Higher},
	{"kl", "KL to the teacher", "nats/token", Lower},
	{"top1_agreement", "Top-1 agreement", "share of tokens", Higher},
	{"bits_per_byte", "Bits per byte", "bits/byte", Lower},
	{"perplexity", "Perplexity", "", Lower},
	{"decode_ms_per_token", "Decode time per token", "ms", Lower},
	{"decode_tokens_per_s", "Decode speed", "tokens/s", Higher},
	{"prefill_ms", "Prefill time", "ms", Lower},
	{"kv_bytes_per_token", "KV cache per token", "bytes", Lower},
	{"params", "Parameters", "count", Lower},
	{"groups", "KV heads", "", Lower},
	{"uptrain_tokens", "Up-training tokens", "count", Lower},
	{"alpha", "Up-training share", "share", Lower},
}

// own returns the figures that every point has keys for. A time that was not measured is 0 and left out.
func (p Point) own() map[string]float64 {
	all := map[string]float64{
		"loss": p.Loss, "perplexity": p.Perplexity, "decode_ms_per_token": p.DecodeMsPerToken, "decode_tokens_per_s": p.DecodeTokensPerS,
		"prefill_ms": p.PrefillMs, "kv_bytes_per_token": float64(p.KVBytesPerToken), "params": float64(p.Params),
		"groups": float64(p.Groups), "uptrain_tokens": float64(p.UptrainTokens), "alpha": p.Alpha,
	}
	maps.DeleteFunc(all, func(name string, x float64) bool { return timed(name) && x == 0 })
	return all
}

// figures returns the figures that some point has, in reading order.
func (r Report) figures() []figureKind {
	found := map[string]figureKind{}
	for _, p := range r.Points {
		for name := range p.own() {
			found[name] = figureKind{Name: name}
		}
	}
	for _, p := range r.Points {
		for name, m := range p.Metrics {
			found[name] = figureKind{name, titleOf(name), m.Unit, m.Better}
		}
	}
	for _, f := range knownFigures {
		if had, ok := found[f.Name]; ok {
			found[f.Name] = figureKind{f.Name, f.Label, cmp.Or(had.Unit, f.Unit), cmp.Or(had.Better, f.Better)}
		}
	}
	place := func(f figureKind) int {
		at := func(name string) int {
			return slices.IndexFunc(knownFigures, func(k figureKind) bool { return k.Name == name })
		}
		if i := at(f.Name); i >= 0 {
			return i
		}
		return at("")
	}
	return slices.SortedFunc(maps.Values(found), func(a, b figureKind) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.Name, b.Name))
	})
}

// titleOf makes a title of the name of a metric: "passkey_2k" becomes "Passkey 2k".
func titleOf(name string) string {
	first, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(first)) + strings.ReplaceAll(name[size:], "_", " ")
}

// setup reports whether the figure says how a point was made, not what was measured: the table's first columns show it.
func (f figureKind) setup() bool {
	return slices.Contains([]string{"groups", "uptrain_tokens", "alpha"}, f.Name)
}

// percent reports whether the figure is a share, which is shown in percent.
func (f figureKind) percent() bool { return strings.HasPrefix(f.Unit, "share") }

// logarithm reports whether the figure is the logarithm of a likelihood, of which small differences matter.
func (f figureKind) logarithm() bool {
	return strings.HasPrefix(f.Unit, "nats") || strings.HasPrefix(f.Unit, "bits")
}

// relative reports whether differences of the figure are given as a ratio, as those of times and sizes are.
func (f figureKind) relative() bool {
	return slices.Contains([]string{"ms", "s", "bytes", "tokens/s", "count"}, f.Unit)
}

// Title is the label with the unit of the values.
func (f figureKind) Title() string {
	switch {
	case f.percent():
		return f.Label + " (%)"
	case f.Unit == "" || f.Unit == "bytes" || f.Unit == "count" || strings.EqualFold(strings.ReplaceAll(f.Unit, "/", " per "), f.Label):
		return f.Label
	}
	return f.Label + " (" + f.Unit + ")"
}

// text formats a value, with a number of digits that a difference of size least is visible in.
func (f figureKind) text(x, least float64) string {
	switch {
	case f.percent():
		return strconv.FormatFloat(100*x, 'f', decimals(100*least, 1), 64)
	case f.Unit == "bytes":
		return units.Bytes(int64(math.Round(x)))
	case f.Unit == "count":
		return units.Count(int64(math.Round(x)))
	case f.logarithm():
		return strconv.FormatFloat(x, 'f', decimals(least, 4), 64)
	}
	return units.Significant(x)
}

// decimals returns how many decimals show a number of size least with one digit, or two if the first is 1; at least few, and at most 6.
func decimals(least float64, few int) int {
	if least <= 0 {
		return few
	}
	return max(few, min(6, -int(math.Floor(math.Log10(least/2)))))
}

// metric returns a figure of the point, with its difference from the baseline.
func (r row) metric(name string) (Metric, bool) {
	m, ok := r.Metrics[name]
	if !ok {
		if m.Value, ok = r.own()[name]; !ok {
			return m, false
		}
		if name == "loss" {
			m.Stderr = r.LossStderr
		}
	}
	if base, ok := r.base.own()[name]; ok && m.Delta == nil && !r.isBase() && (!timed(name) || r.setting() == r.base.setting()) {
		delta := m.Value - base
		m.Delta = &delta
	}
	return m, true
}

// timed reports whether an own figure of points depends on batch and context.
func timed(name string) bool {
	return slices.Contains([]string{"decode_ms_per_token", "decode_tokens_per_s", "prefill_ms"}, name)
}

// figureText returns the value of a figure with its standard error.
func (r row) figureText(f figureKind) string {
	value, stderr := r.figureTexts(f)
	if stderr != "" {
		stderr = " ± " + stderr
	}
	return value + stderr
}

// figureTexts returns the value of a figure and its standard error, which is empty if it is not known.
func (r row) figureTexts(f figureKind) (value, stderr string) {
	m, ok := r.metric(f.Name)
	switch {
	case !ok:
		return "–", ""
	case m.Stderr > 0:
		stderr = f.text(m.Stderr, m.Stderr)
	}
	return f.text(m.Value, m.Stderr), stderr
}

// differenceText returns how a figure differs from the baseline's, with half of its 95% interval: "+0.110 ± 0.008", or
// "2.5× ± 0.1 faster" for times and sizes, if that is more than noise. It is empty for the baseline itself.
func (r row) differenceText(f figureKind) string {
	m, ok := r.metric(f.Name)
	if _, own := r.Metrics[f.Name]; !own && f.Name == "decode_tokens_per_s" { // as the time, of which the error may be known
		f.Unit = "ms"
		m, ok = r.metric("decode_ms_per_token")
	}
	if !ok || m.Delta == nil {
		return ""
	}
	switch {
	case f.relative() && m.noise() && *m.Delta != 0:
		return "within noise"
	case f.Unit == "ms" || f.Unit == "s":
		return ratioOf(m).words("slower", "faster")
	case f.Unit == "tokens/s":
		return ratioOf(m).words("faster", "slower")
	case f.relative():
		return ratioOf(m).words("more", "less")
	}
	half := m.half()
	scale, few := 1.0, 0
	switch {
	case f.percent():
		scale, few = 100, 1
	case f.logarithm():
		few = 3
	case half == 0:
		return signedText(*m.Delta, units.Significant(math.Abs(*m.Delta)))
	}
	text := signed(scale**m.Delta, decimals(scale*half, few))
	if half > 0 {
		text += fmt.Sprintf(" ± %.*f", decimals(scale*half, few), scale*half)
	}
	return text
}

// half returns half the width of the interval of the difference; 0 if it is not known.
func (m Metric) half() float64 {
	if m.DeltaCI == nil {
		return 0
	}
	return (m.DeltaCI[1] - m.DeltaCI[0]) / 2
}

// noise reports whether the interval of the difference is known and includes 0.
func (m Metric) noise() bool { return m.DeltaCI != nil && m.DeltaCI[0] <= 0 && m.DeltaCI[1] >= 0 }

// signed formats a difference with its sign.
func signed(x float64, digits int) string {
	return signedText(x, strconv.FormatFloat(math.Abs(x), 'f', digits, 64))
}

func signedText(x float64, size string) string {
	if x < 0 {
		return "−" + size
	}
	return "+" + size
}
