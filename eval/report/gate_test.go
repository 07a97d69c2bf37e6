package report

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
)

// gate compares two reports without scores.
func gate(report, baseline Report, limits Limits) error {
	v, err := Gate(Scored{Report: report}, Scored{Report: baseline}, limits)
	return cmp.Or(err, v.Err())
}

func TestGate(t *testing.T) {
	base := Report{Points: []Point{point(8, "mha", 0, 2, 4), point(2, "align", 0.01, 2.5, 2)}}
	for _, test := range []struct {
		name   string
		change func(p *Point)
		limits Limits
		want   []string // failures; none if the gate passes
	}{
		{"the same", func(*Point) {}, DefaultLimits, nil},
		{"better", func(p *Point) { p.Loss, p.DecodeMsPerToken, p.KVBytesPerToken = 1, 1, 1 }, DefaultLimits, nil},
		{"loss within the limit", func(p *Point) { p.Loss += 0.124 }, DefaultLimits, nil},
		{
			"loss beyond it",
			func(p *Point) { p.Loss += 0.126 }, DefaultLimits,
			[]string{"g=2 align α=0.01: loss: got 2.6260, want at most 2.6250 (baseline 2.5000)"},
		},
		{
			"loss within the error between windows",
			func(p *Point) { p.Loss += 0.13; p.LossStderr = 0.08 }, DefaultLimits,
			[]string{"g=2 align α=0.01: loss: got 2.6300, want at most 2.6250 (baseline 2.5000)"},
		},
		{
			"no rise allowed",
			func(p *Point) { p.Loss += 0.0001 },
			Limits{Tolerances: map[string]float64{"loss": 0}},
			[]string{"g=2 align α=0.01: loss: got 2.5001, want at most 2.5000 (baseline 2.5000)"},
		},
		{"a wider limit", func(p *Point) { p.Loss += 0.4 }, Limits{Tolerances: map[string]float64{"loss": 0.5}}, nil},
		{
			"one more byte",
			func(p *Point) { p.KVBytesPerToken++ }, DefaultLimits,
			[]string{"g=2 align α=0.01: kv_bytes_per_token: got 2049, want at most 2048 (baseline 2048)"},
		},
		{"slower within the limit", func(p *Point) { p.DecodeMsPerToken = 2.99 }, DefaultLimits, nil},
		{
			"slower beyond it",
			func(p *Point) { p.DecodeMsPerToken = 3.1 }, DefaultLimits,
			[]string{"g=2 align α=0.01: decode_ms_per_token: got 3.1, want at most 3 (baseline 2)"},
		},
		{"latency not looked at", func(p *Point) { p.DecodeMsPerToken, p.Batch = 31, 9 }, Limits{}, nil},
		{
			"latency not measured",
			func(p *Point) { p.DecodeMsPerToken = 0 }, DefaultLimits,
			[]string{"g=2 align α=0.01: decode_ms_per_token: the report has no such metric"},
		},
		{
			"latency of another batch",
			func(p *Point) { p.Batch = 8 }, DefaultLimits,
			[]string{"g=2 align α=0.01: decode_ms_per_token: measured at batch 8, context 128; want 1, 128, as the baseline"},
		},
		{"another alpha", func(p *Point) { p.Alpha = 0.02 }, DefaultLimits, nil},
		{"not up-trained", func(p *Point) { p.Alpha = 0 }, DefaultLimits, []string{"g=2 align α=0.01: the report has no such point"}},
		{"another method", func(p *Point) { p.Method = "mean" }, DefaultLimits, []string{"g=2 align α=0.01: the report has no such point"}},
		{
			"all at once",
			func(p *Point) { p.Loss, p.KVBytesPerToken, p.DecodeMsPerToken = 9, 9999, 99 }, DefaultLimits,
			[]string{
				"g=2 align α=0.01: decode_ms_per_token: got 99, want at most 3 (baseline 2)",
				"g=2 align α=0.01: kv_bytes_per_token: got 9999, want at most 2048 (baseline 2048)",
				"g=2 align α=0.01: loss: got 9.0000, want at most 2.6250 (baseline 2.5000)",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := Report{Points: slices.Clone(base.Points)}
			test.change(&report.Points[1])
			err := gate(report, base, test.limits)
			var closed *GateError
			if errors.As(err, &closed) != (test.want != nil) || err != nil && closed == nil {
				t.Fatalf("got %v, want failures %q", err, test.want)
			}
			if closed != nil && !slices.Equal(closed.Failures, test.want) {
				t.Errorf("\n got %q\nwant %q", closed.Failures, test.want)
			}
		})
	}
}

// Different windows have different losses; then the standard errors count, if such reports may be compared at all.
func TestGateBetweenCorpora(t *testing.T) {
	base := Report{Corpus: "a", Points: []Point{point(2, "align", 0, 2.5, 2)}}
	strict := Limits{Tolerances: map[string]float64{"loss": 0}}
	base.Points[0].LossStderr = 0.001
	for _, test := range []struct {
		corpus       string
		rise, stderr float64
		limits       Limits
		open         bool
	}{
		{"a", 0.0027, 0.001, strict, false},
		{"b", 0.0027, 0.001, strict, true}, // 1.96·√2·0.001 = 0.00277
		{"b", 0.0028, 0.001, strict, false},
		{"a", 0.05, 0.05, DefaultLimits, false},
		{"b", 0.05, 0.05, DefaultLimits, true},
		{"b", 0.0124, 0.001, DefaultLimits, true}, // 0.5% of 2.5
		{"b", 0.0126, 0.001, DefaultLimits, false},
	} {
		worse := base.Points[0]
		worse.Loss, worse.LossStderr = worse.Loss+test.rise, test.stderr
		report := Report{Corpus: test.corpus, Points: []Point{worse}}
		if err := gate(report, base, test.limits); test.corpus != "a" && !errors.As(err, new(OtherError)) {
			t.Errorf("%+v: got %v, want an OtherError", test, err)
		}
		test.limits.AllowOtherCorpus = true
		if err := gate(report, base, test.limits); (err == nil) != test.open {
			t.Errorf("%+v: got %v", test, err)
		}
	}
}

func TestGateOfAnotherModel(t *testing.T) {
	base := Report{Model: "a", Points: []Point{point(2, "mean", 0, 2, 2)}}
	other := base
	other.Model = "b"
	err := gate(other, base, DefaultLimits)
	if want := "the report is of the model b, the baseline of a"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := gate(other, base, Limits{AllowOtherModel: true}); err != nil {
		t.Error(err)
	}
}

// Times are compared on one machine only. On another the gate says so, once.
func TestGateOnAnotherMachine(t *testing.T) {
	base := Report{Machine: "a", Points: []Point{point(8, "mha", 0, 2, 4), point(2, "mean", 0, 2.5, 2)}}
	slow := Report{Machine: "b", Points: []Point{point(8, "mha", 0, 2, 40), point(2, "mean", 0, 2.5, 20)}}
	v, err := Gate(Scored{Report: slow}, Scored{Report: base}, DefaultLimits)
	notes := slices.DeleteFunc(v.Notes, func(note string) bool { return !strings.HasPrefix(note, "times are not compared: ") })
	if err != nil || v.Err() != nil || len(notes) != 1 {
		t.Errorf("%v, %v, notes %q", err, v.Err(), v.Notes)
	}
	slow.Machine = "a"
	if v, err = Gate(Scored{Report: slow}, Scored{Report: base}, DefaultLimits); err != nil || len(v.Failures()) != 2 {
		t.Errorf("the same machine: %v, %q", err, v.Failures())
	}
	slow.Load = 0.4
	for _, side := range [][2]Report{{slow, base}, {base, slow}} {
		v, err = Gate(Scored{Report: side[0]}, Scored{Report: side[1]}, DefaultLimits)
		if err != nil || v.Err() != nil || !slices.ContainsFunc(v.Notes, func(note string) bool { return strings.Contains(note, " 40% ") }) {
			t.Errorf("a busy neighbour: %v, %v, notes %q", err, v.Err(), v.Notes)
		}
	}
}

// An up-trained point has a wider tolerance, also if a comparison does not know its alpha.
func TestTolerances(t *testing.T) {
	for tokens, want := range map[int64]float64{0: 0.0125, 9: 0.125} {
		p := point(2, "runs/two", 0, 2.5, 2)
		p.UptrainTokens = tokens
		base := Scored{Report: Report{Points: []Point{p}}}
		v, err := Gate(base, base, DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, c := range v.Checks {
			got[c.Metric] = c.Tolerance
		}
		if all := map[string]float64{"loss": want, "kv_bytes_per_token": 0, "decode_ms_per_token": 1}; !maps.Equal(got, all) {
			t.Errorf("%d tokens: %v, want %v", tokens, got, all)
		}
	}
}

func TestGateErrorCounts(t *testing.T) {
	for n, want := range map[int]string{
		1: "1 figure of the baseline's 3 points not reached",
		2: "2 figures of the baseline's 3 points not reached",
	} {
		if got := (&GateError{make([]string, n), 3}).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestGatePrefersTheMostAlikePoint(t *testing.T) {
	base := Report{Points: []Point{point(2, "mean", 0.01, 2, 2)}}
	worse := point(2, "mean", 0.02, 3, 3)
	otherBatch := point(2, "mean", 0.01, 3, 3)
	otherBatch.Batch = 4
	if err := gate(Report{Points: []Point{worse, otherBatch, base.Points[0]}}, base, DefaultLimits); err != nil {
		t.Error(err)
	}
}

// A baseline from before recipes existed is compared with points whose recipe is their method; one with recipes is
// compared with points of these recipes.
func TestGateOfRecipes(t *testing.T) {
	mean, advised := point(2, "mean", 0.01, 3, 2), withRecipe(point(2, "calibrated", 0.01, 2, 2), "calibrated+similar+kl")
	plain := point(2, "calibrated", 0.01, 2.5, 2)
	for _, test := range []struct {
		name             string
		report, baseline []Point
		want             string
	}{
		{"an old baseline", []Point{mean, advised}, []Point{mean}, ""},
		{"the same recipes", []Point{mean, advised}, []Point{mean, advised}, ""},
		{"a recipe is gone", []Point{mean, plain}, []Point{mean, advised}, "g=2 calibrated+similar+kl α=0.01: the report has no such point"},
		{"a recipe is not its method", []Point{advised}, []Point{plain}, "g=2 calibrated α=0.01: the report has no such point"},
		{"each with its own", []Point{plain, advised}, []Point{advised, plain}, ""},
	} {
		err := gate(Report{Points: test.report}, Report{Points: test.baseline}, DefaultLimits)
		var closed *GateError
		if errors.As(err, &closed) != (test.want != "") || closed != nil && !slices.Equal(closed.Failures, []string{test.want}) {
			t.Errorf("%s: %+v, want %q", test.name, err, test.want)
		}
	}
}

func TestGateRefuses(t *testing.T) {
	good := Report{Points: []Point{point(2, "mean", 0, 2, 2)}}
	bad := Report{Points: []Point{point(2, "mean", 0, math.Inf(1), 2)}}
	for _, test := range []struct {
		report, baseline Report
		limits           Limits
		want             string
	}{
		{good, Report{}, DefaultLimits, "baseline: the report holds no points"},
		{Report{}, good, DefaultLimits, "the report holds no points"},
		{bad, good, DefaultLimits, "loss is +Inf"},
		{good, good, Limits{MaxLatencyIncrease: -1}, "the limit for times is -1"},
		{good, good, Limits{Tolerances: map[string]float64{"loss": math.NaN()}}, "the tolerance for loss is NaN"},
		{good, good, Limits{Tolerances: map[string]float64{"lose": 1}}, `a tolerance for "lose", but the baseline has no such metric; it has kv_bytes_per_token, loss`},
	} {
		var closed *GateError
		err := gate(test.report, test.baseline, test.limits)
		if err == nil || errors.As(err, &closed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}
