package report

import (
	"strings"
	"testing"
)

// measuredLoss gives a point the loss of a metric, with an interval of the difference from the baseline.
func measuredLoss(p Point, delta, half float64) Point {
	p.Metrics = map[string]Metric{"loss": {Value: p.Loss, Better: Lower, Delta: &delta, DeltaCI: &[2]float64{delta - half, delta + half}}}
	return p
}

// measuredTime does the same with the decode time.
func measuredTime(p Point, delta, half float64) Point {
	p.Metrics["decode_ms_per_token"] = Metric{Value: p.DecodeMsPerToken, Better: Lower, Unit: "ms", Delta: &delta, DeltaCI: &[2]float64{delta - half, delta + half}}
	return p
}

func TestRecommend(t *testing.T) {
	mha := point(8, "mha", 0, 2, 4)
	unmeasured := point(2, "align", 0, 2.5, 1)
	unmeasured.DecodeMsPerToken = 0
	elsewhere := point(2, "mean", 0, 2.05, 2)
	elsewhere.Batch = 4
	const nothing = "No point with a smaller KV cache was measured beside a baseline."
	for _, test := range []struct {
		name   string
		rules  *Rules
		points []Point
		want   string
	}{
		{"alone", nil, []Point{mha}, nothing},
		{"none but the control", nil, []Point{mha, point(8, "mean", 0.01, 1.9, 4)}, nothing},
		{
			"the smallest cache within 0.1 nats", nil,
			[]Point{mha, point(8, "mean", 0.004, 1.99, 1), point(4, "mean", 0, 2.01, 1), point(2, "align", 0.004, 2.0999, 2), point(1, "align", 0.004, 2.11, 1.9)},
			"Ship 2 groups: cache 4.0× smaller, 2.0× faster at batch 1, loss +0.100. The point is align after 0.4% of the original tokens.",
		},
		{
			"the better of two as small", nil,
			[]Point{mha, point(2, "mean", 0, 2.05, 2), point(2, "align", 0, 2.03, 2.1)},
			"Ship 2 groups: cache 4.0× smaller, 1.9× faster at batch 1, loss +0.030. The point is align without up-training.",
		},
		{
			"intervals", nil,
			[]Point{mha, measuredTime(measuredLoss(point(4, "mean", 0.05, 2.004, 2.1), 0.004, 0.006), -1.9, 0.2)},
			"Ship 4 groups: cache 2.0× smaller, 1.9× ± 0.1 faster at batch 1, loss +0.004 ± 0.006: within noise. The point is mean after 5% of the original tokens.",
		},
		{
			"an interval that reaches beyond the limit", nil,
			[]Point{mha, measuredLoss(point(4, "mean", 0.05, 2.08, 2), 0.08, 0.03)},
			"Ship 4 groups: cache 2.0× smaller, 2.0× faster at batch 1, loss +0.080 ± 0.030. The point is mean after 5% of the original tokens. " +
				"Its loss may exceed the limit of 0.1: the interval ends at +0.110.",
		},
		{
			"a speed-up that may be too small", &Rules{MaxLoss: 0.1, MaxKV: 1, MinSpeedup: 1.8},
			[]Point{mha, measuredTime(measuredLoss(point(4, "mean", 0.05, 2.004, 2.1), 0.004, 0.006), -1.9, 0.4)},
			"Ship 4 groups: cache 2.0× smaller, 1.9× ± 0.2 faster at batch 1, loss +0.004 ± 0.006: within noise. The point is mean after 5% of the original tokens. " +
				"Its speed-up may be below the limit of 1.8: the interval begins at 1.71.",
		},
		{
			"better, and not faster beyond noise", nil,
			[]Point{mha, measuredTime(measuredLoss(point(1, "mean", 0.1, 1.9, 3.9), -0.1, 0.02), -0.1, 0.3)},
			"Ship 1 group: cache 8.0× smaller, decode speed within noise at batch 1, loss −0.100 ± 0.020: better. The point is mean after 10% of the original tokens.",
		},
		{
			"none within 0.1 nats", nil,
			[]Point{mha, point(4, "mean", 0.004, 2.12, 2), point(1, "mean", 0.004, 3.2, 1), point(1, "mean", 0, 5, 1)},
			"No point meets the rules. The nearest is 4 groups (mean after 0.4% of the original tokens): cache 2.0× smaller, 2.0× faster at batch 1, loss +0.120. " +
				"Its loss is 0.02 nats above the limit of 0.1.",
		},
		{
			"neither timed nor within", nil,
			[]Point{mha, unmeasured},
			"No point meets the rules. The nearest is 2 groups (align without up-training): cache 4.0× smaller, loss +0.500. Its loss is 0.4 nats above the limit of 0.1.",
		},
		{
			"timed otherwise", nil,
			[]Point{mha, elsewhere},
			"Ship 2 groups: cache 4.0× smaller, loss +0.050. The point is mean without up-training.",
		},
		{
			"slower", nil,
			[]Point{mha, point(2, "mean", 0.1, 1.5, 5)},
			"Ship 2 groups: cache 4.0× smaller, 1.2× slower at batch 1, loss −0.500. The point is mean after 10% of the original tokens.",
		},
		{
			"a smaller cache is wanted",
			&Rules{MaxLoss: 1, MaxKV: 0.25},
			[]Point{mha, point(4, "mean", 0, 2.1, 2), point(2, "mean", 0, 2.9, 2)},
			"Ship 2 groups: cache 4.0× smaller, 2.0× faster at batch 1, loss +0.900. The point is mean without up-training.",
		},
		{
			"more speed is wanted than there is: the fewest broken rules first, then the loss",
			&Rules{MaxLoss: 0.5, MaxKV: 0.4, MinSpeedup: 3},
			[]Point{mha, point(4, "mean", 0, 2.1, 2), point(2, "mean", 0, 2.4, 2), point(1, "mean", 0, 2.45, 1.6)},
			"No point meets the rules. The nearest is 2 groups (mean without up-training): cache 4.0× smaller, 2.0× faster at batch 1, loss +0.400. " +
				"It decodes 2 times as fast, below the limit of 3.",
		},
		{
			"speed that is not known meets no rule about it",
			&Rules{MaxLoss: 1, MaxKV: 1, MinSpeedup: 1},
			[]Point{mha, unmeasured},
			"No point meets the rules. The nearest is 2 groups (align without up-training): cache 4.0× smaller, loss +0.500. " +
				"Its speed was not measured as the baseline's was.",
		},
	} {
		got := Report{Points: test.points, Rules: test.rules}.Recommend()
		if got.Text != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got.Text, test.want)
		}
		if got.Meets() != strings.HasPrefix(test.want, "Ship") {
			t.Errorf("%s: meets the rules: %v", test.name, got.Meets())
		}
	}
}

// No point with the quality that the rules want has a smaller cache than the recommended one.
func TestRecommendationIsTheSmallest(t *testing.T) {
	r := sample(t)
	rec := r.Recommend()
	if !rec.Meets() || rec.Point.Groups != 2 || rec.Point.Method != "calibrated" || rec.Point.Alpha != 0.005 {
		t.Errorf("got %s: %s", rec.Point.Name(), rec.Text)
	}
	for _, p := range r.rows() {
		if p.deltaLoss() <= 0.1 && p.KVBytesPerToken < rec.Point.KVBytesPerToken {
			t.Errorf("%s is smaller than %s", p.Name(), rec.Point.Name())
		}
	}
}

// Of a time that differs by no more than noise, no ratio is given; of a loss the difference stays, and is marked.
func TestWithinNoise(t *testing.T) {
	p := measuredTime(measuredLoss(point(4, "mean", 0, 2.01, 3.8), 0.01, 0.02), -0.2, 0.3)
	p.Metrics["kv_bytes_per_token"] = Metric{Value: 4096, Unit: "bytes", Better: Lower}
	r := Report{Points: []Point{point(8, "mha", 0, 2, 4), p}}
	if got := render(t, r, "md"); !strings.Contains(got, "| 3.8 | within noise |") {
		t.Error(got)
	}
	page := render(t, r, "html")
	for _, want := range []string{"3.8<small>within noise</small>", `<small class="noise" title="within noise">&#43;0.010 ±` + "\u00a0" + `0.020</small>`, "<strong>within noise</strong> <span>decode speed</span>", "263<small>within noise</small>"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestRulesAreStated(t *testing.T) {
	for _, test := range []struct {
		rules Rules
		want  string
	}{
		{DefaultRules, "whose loss is at most 0.1 nats per token above the baseline's; of equally small ones"},
		{Rules{0.02, 0.5, 1.5}, "at most 0.02 nats per token above the baseline's, whose KV cache is at most 0.5 times the baseline's, and which decodes at least 1.5 times as fast;"},
	} {
		if got := test.rules.text(); !strings.Contains(got, test.want) {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestRatio(t *testing.T) {
	for _, test := range []struct {
		ratio ratio
		want  string
	}{
		{ratio{2, 2, 2}, "2.0× more"},
		{ratio{0.5, 0.5, 0.5}, "2.0× less"},
		{ratio{0.5, 0.4, 0.6}, "2.0× ± 0.4 less"},
		{ratio{1.5, 1.49, 1.51}, "1.50× ± 0.01 more"},
		{ratio{1.02, 1.02, 1.02}, "1.02× more"},
		{ratio{1, 1, 1}, "the same"},
		{ratioOf(Metric{Value: 8, Delta: new(-2.), DeltaCI: &[2]float64{-3, -1}}), "1.2× ± 0.1 less"},
		{ratioOf(Metric{Value: 10, Delta: new(2.), DeltaCI: &[2]float64{1, 3}}), "1.2× ± 0.1 more"},
		{ratioOf(Metric{Value: 1, Delta: new(-4.), DeltaCI: &[2]float64{-7, -1}}), "5.0× ± 3.0 less"},
	} {
		if got := test.ratio.words("more", "less"); got != test.want {
			t.Errorf("%v: got %q, want %q", test.ratio, got, test.want)
		}
	}
}

// Where a model was timed at several batches or contexts, it is compared with the baseline at the same.
func TestSettings(t *testing.T) {
	var r Report
	for _, batch := range []int{1, 8} {
		for _, p := range []Point{point(8, "mha", 0, 2, 4*float64(batch)), point(2, "mean", 0, 2.05, 1+float64(batch))} {
			p.Batch = batch
			r.Points = append(r.Points, p)
		}
	}
	if rec := r.Recommend(); !strings.Contains(rec.Text, "3.6× faster at batch 8") {
		t.Error(rec.Text)
	}
	g, ok := r.latencies()
	if !ok || len(g.Settings) != 2 || len(g.Rows) != 2 || g.Rows[1].Cells[0] != "2" || g.Rows[1].Cells[1] != "9" {
		t.Errorf("%v, %v", g, ok)
	}
	if text := render(t, r, "md"); !strings.Contains(text, "| g=2 mean | 2 | 9 |") || strings.Count(text, "██████████") != 2 {
		t.Error(text)
	}
}

func TestCurve(t *testing.T) {
	var tokens []int64
	var losses []float64
	for i := range 1000 {
		tokens, losses = append(tokens, int64(i+1)*10), append(losses, float64(i))
	}
	got := Curve(tokens, losses)
	if len(got) != 200 || got[0] != [2]float64{50, 2} || got[199] != [2]float64{10000, 997} {
		t.Errorf("%d steps, %v to %v", len(got), got[0], got[len(got)-1])
	}
	if got := Curve(tokens[:3], losses[:3]); len(got) != 3 || got[2] != [2]float64{30, 2} {
		t.Errorf("got %v", got)
	}
	if Curve(nil, nil) != nil {
		t.Error("a curve without steps")
	}
}
