package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"gqa/internal/units"
)

// Recommendation answers which point to ship, in words.
type Recommendation struct {
	// Headline is the answer: "Ship 4 groups". Facts are what the point costs and saves. Text is all of it in words.
	Headline string
	Facts    []Fact
	Text     string
	// Rules states by which rules the point was chosen, Broken the rules that it breaks: then it is only the nearest. Doubt says why it may
	// not meet the rules although its measured values do; it may be empty.
	Rules  string
	Broken []string
	Doubt  string
	// Point is the point to ship, or the nearest, and Made how it was made. Named is false if there is none.
	Named bool
	Point Point
	Made  string
}

// Meets reports whether there is a point that meets the rules.
func (rec Recommendation) Meets() bool { return rec.Named && len(rec.Broken) == 0 }

// Fact is a figure of the recommended point beside the baseline's.
type Fact struct {
	Value string // "2.0×"
	What  string // "smaller KV cache"
	Note  string // "4 KiB per token instead of 8 KiB"
	text  string // in a sentence: "cache 2.0× smaller"
}

// Recommend names the point to ship by the rules of the report.
func (r Report) Recommend() Recommendation {
	rules := r.rules()
	rec := Recommendation{Rules: rules.text()}
	rows := r.converted()
	if len(rows) == 0 {
		rec.Headline = "Nothing to compare"
		rec.Text = "No point with a smaller KV cache was measured beside a baseline."
		return rec
	}
	best := rows[0]
	if i := slices.IndexFunc(rows, func(p row) bool { return len(rules.broken(p)) == 0 }); i >= 0 {
		best = rows[i]
	} else {
		best = slices.MinFunc(rows, func(a, b row) int {
			return cmp.Or(cmp.Compare(len(rules.broken(a)), len(rules.broken(b))), cmp.Compare(a.deltaLoss(), b.deltaLoss()))
		})
	}
	rec.Named, rec.Point, rec.Facts, rec.Broken = true, best.Point, best.facts(), rules.broken(best)
	rec.Made = best.recipe() + " " + best.uptraining()
	rec.Headline = "Ship " + best.CacheText()
	if !rec.Meets() {
		rec.Headline = "No point meets the rules"
	}
	if rec.Meets() {
		rec.Doubt = strings.Join(rules.doubts(best), ". ")
	}
	rec.Text = rec.sentence()
	return rec
}

// sentence puts the recommendation into words.
func (rec Recommendation) sentence() string {
	var facts []string
	for _, f := range rec.Facts {
		facts = append(facts, f.text)
	}
	what := strings.Join(facts, ", ")
	if rec.Meets() {
		text := fmt.Sprintf("%s: %s. The point is %s.", rec.Headline, what, rec.Made)
		if rec.Doubt != "" {
			text += " " + rec.Doubt + "."
		}
		return text
	}
	return fmt.Sprintf("%s. The nearest is %s (%s): %s. %s.", rec.Headline, rec.Point.CacheText(), rec.Made, what, strings.Join(rec.Broken, ". "))
}

// rules returns the rules of the report.
func (r Report) rules() Rules {
	if r.Rules == nil {
		return DefaultRules
	}
	return *r.Rules
}

// text states the rules.
func (r Rules) text() string {
	text := fmt.Sprintf("Recommended is the point with the smallest KV cache whose loss is at most %s nats per token above the baseline's", units.Significant(r.MaxLoss))
	if r.MaxKV != 1 {
		text += fmt.Sprintf(", whose KV cache is at most %s times the baseline's", units.Significant(r.MaxKV))
	}
	if r.MinSpeedup > 0 {
		text += fmt.Sprintf(", and which decodes at least %s times as fast", units.Significant(r.MinSpeedup))
	}
	return text + "; of equally small ones, the one with the lowest loss. " +
		"If none meets the rules, the nearest is the one that breaks the fewest, and of these the one with the lowest loss."
}

// converted returns the points that save KV cache against the baseline: the smallest cache first, then the lowest loss, then the fastest.
func (r Report) converted() []row {
	rows := slices.DeleteFunc(r.rows(), func(p row) bool { return p.KVBytesPerToken >= p.base.KVBytesPerToken })
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.KVBytesPerToken, b.KVBytesPerToken), cmp.Compare(a.Loss, b.Loss), cmp.Compare(b.speedup(), a.speedup()))
	})
	return rows
}

// broken returns the rules that a point breaks, in words.
func (r Rules) broken(p row) (broken []string) {
	if over := p.deltaLoss() - r.MaxLoss; over > 0 {
		broken = append(broken, fmt.Sprintf("Its loss is %.2g nats above the limit of %s", over, units.Significant(r.MaxLoss)))
	}
	if share := 1 / p.lessKV(); share > r.MaxKV {
		broken = append(broken, fmt.Sprintf("Its KV cache is %s times the baseline's, above the limit of %s", units.Significant(share), units.Significant(r.MaxKV)))
	}
	if r.MinSpeedup == 0 {
		return broken
	}
	switch speedup := p.speedup(); {
	case math.IsNaN(speedup):
		broken = append(broken, "Its speed was not measured as the baseline's was")
	case speedup < r.MinSpeedup:
		broken = append(broken, fmt.Sprintf("It decodes %s times as fast, below the limit of %s", units.Significant(speedup), units.Significant(r.MinSpeedup)))
	}
	return broken
}

// doubts returns the rules that a point may break although its measured values do not, in words.
func (r Rules) doubts(p row) (doubts []string) {
	if loss, _ := p.metric("loss"); loss.DeltaCI != nil && loss.DeltaCI[1] > r.MaxLoss {
		doubts = append(doubts, fmt.Sprintf("Its loss may exceed the limit of %s: the interval ends at %s", units.Significant(r.MaxLoss), signed(loss.DeltaCI[1], 3)))
	}
	if r.MinSpeedup == 0 {
		return doubts
	}
	if m, _ := p.metric("decode_ms_per_token"); m.Delta != nil {
		if slowest := ratioOf(m).inverse().low; slowest < r.MinSpeedup {
			doubts = append(doubts, fmt.Sprintf("Its speed-up may be below the limit of %s: the interval begins at %s", units.Significant(r.MinSpeedup), units.Significant(slowest)))
		}
	}
	return doubts
}

// facts returns what a point saves and costs.
func (p row) facts() []Fact {
	cache := p.lessKV()
	facts := []Fact{{
		Value: fmt.Sprintf("%.1f×", cache), What: "smaller KV cache",
		Note: fmt.Sprintf("%s per token instead of %s", units.Bytes(p.KVBytesPerToken), units.Bytes(p.base.KVBytesPerToken)),
		text: fmt.Sprintf("cache %.1f× smaller", cache),
	}}
	if f, ok := p.speedFact(); ok {
		facts = append(facts, f)
	}
	return append(facts, p.lossFact())
}

// speedFact returns how much faster the point decodes; false if that is not known.
func (p row) speedFact() (f Fact, ok bool) {
	if math.IsNaN(p.speedup()) {
		return f, false
	}
	m, _ := p.metric("decode_ms_per_token")
	at := fmt.Sprintf("at batch %d", p.Batch)
	f.Note = fmt.Sprintf("%s and context %d: %s ms per token instead of %s", at, p.Context, units.Significant(p.DecodeMsPerToken), units.Significant(p.base.DecodeMsPerToken))
	r := ratioOf(m).inverse()
	switch {
	case r.noise():
		f.Value, f.What, f.text = "within noise", "decode speed", "decode speed within noise "+at
	case r.value < 1:
		f.Value, f.What, f.text = r.inverse().number(), "slower decoding", r.inverse().number()+" slower "+at
	default:
		f.Value, f.What, f.text = r.number(), "faster decoding", r.number()+" faster "+at
	}
	return f, true
}

// lossFact returns how much worse the point's predictions are.
func (p row) lossFact() Fact {
	m, _ := p.metric("loss")
	f := Fact{Value: p.differenceText(figureKind{Unit: "nats/token", Name: "loss"}), What: "loss, nats per token"}
	f.Note = fmt.Sprintf("%.4f instead of %.4f", p.Loss, p.base.Loss)
	f.text = "loss " + f.Value
	switch {
	case m.noise():
		f.What, f.text = f.What+": within noise", f.text+": within noise"
	case m.DeltaCI != nil && m.DeltaCI[1] < 0:
		f.What, f.text = f.What+": better", f.text+": better"
	}
	return f
}

// CacheText returns "1 group", "4 groups", or "MLA, 112 + 16" for latent attention.
func (p Point) CacheText() string {
	switch {
	case p.Latent != nil:
		return p.Cache()
	case p.Groups == 1:
		return "1 group"
	}
	return fmt.Sprintf("%d groups", p.Groups)
}
