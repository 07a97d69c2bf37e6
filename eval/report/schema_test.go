package report

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// measuredReport is a report of version 2.
func measuredReport(t *testing.T) Report {
	t.Helper()
	r := sample(t)
	r.Version, r.Program, r.Date, r.Commands, r.Prompt = Version, "gqa-eval v1", "2026-12-01T10:00:00Z", []string{"gqa-eval sweep"}, "func"
	r.Rules = &Rules{MaxLoss: 0.05, MaxKV: 0.5, MinSpeedup: 1.5}
	for i := range r.Points {
		p := &r.Points[i]
		loss := Metric{Value: p.Loss, Stderr: p.LossStderr, N: 20440, Unit: "nats/token", Better: Lower}
		if i > 0 {
			delta := p.Loss - r.Points[0].Loss
			loss.Delta, loss.DeltaCI = &delta, &[2]float64{delta - 0.004, delta + 0.005}
		}
		p.Folder, p.Command, p.Continuation = "sweep/models/x", "gqa-convert", "text"
		p.Training, p.Layers = [][2]float64{{2048, 3.5}, {4096, 3}}, []LayerError{{"0", 0.01}}
		p.Metrics = map[string]Metric{"loss": loss, "token_accuracy": {Value: 0.5, N: 20440, Unit: "share of tokens", Better: Higher}}
	}
	return r
}

// The published schema and Read agree on what a report is, except for what only Read checks: that the loss is the metric loss, that
// an interval is one, that points differ, and that a baseline exists.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var second, first bytes.Buffer
	if err := measuredReport(t).json(&second); err != nil {
		t.Fatal(err)
	}
	if err := sample(t).json(&first); err != nil {
		t.Fatal(err)
	}
	baseline, err := os.ReadFile("../../docs/sweep/report.json")
	if err != nil {
		t.Fatal(err)
	}
	change := func(from, to string) string {
		if !strings.Contains(second.String(), from) {
			t.Fatalf("%s is not in %s", from, second.String())
		}
		return strings.Replace(second.String(), from, to, 1)
	}
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"version 2":         {second.String(), true},
		"version 1":         {first.String(), true},
		"the docs' sweep":   {string(baseline), true},
		"a later version":   {change(`"version": 2`, `"version": 3`), false},
		"a negative load":   {change(`"machine"`, `"load": -1, "machine"`), false},
		"a busy neighbour":  {change(`"machine"`, `"load": 0.4, "machine"`), true},
		"latent attention":  {change(`"groups"`, `"latent": {"kv_lora_rank": 96, "qk_rope_head_dim": 32}, "groups"`), true},
		"no rotary key":     {change(`"groups"`, `"latent": {"kv_lora_rank": 96, "qk_rope_head_dim": 0}, "groups"`), false},
		"latent by halves":  {change(`"groups"`, `"latent": {"kv_lora_rank": 96}, "groups"`), false},
		"an unknown key":    {change(`"groups"`, `"heads": 8, "groups"`), false},
		"no metrics":        {strings.Replace(first.String(), `{`, `{"version": 2,`, 1), false},
		"no unit":           {change(`"unit": "nats/token",`, ``), false},
		"another direction": {change(`"better": "lower"`, `"better": "less"`), false},
		"negative error":    {change(`"stderr": 0,`, `"stderr": -1,`), false},
		"a negative rule":   {change(`"max_loss": 0.05`, `"max_loss": -1`), false},
		"half a step":       {change("2048,", ""), false},
		"a negative layer":  {change(`"error": 0.01`, `"error": -0.01`), false},
		"no delta":          {regexp.MustCompile(`"delta": .*\n`).ReplaceAllString(second.String(), ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := jsonschema.UnmarshalJSON(strings.NewReader(c.text))
			if err == nil {
				err = schema.Validate(data)
			}
			if (err == nil) != c.ok {
				t.Errorf("the schema: %v", err)
			}
			if _, err := parse([]byte(c.text)); (err == nil) != c.ok {
				t.Errorf("Read: %v", err)
			}
		})
	}
}

// What only Read checks.
func TestMetricsAreChecked(t *testing.T) {
	for name, change := range map[string]func(p *Point, loss *Metric){
		"another loss": func(p *Point, _ *Metric) { p.Loss += 0.5 },
		"no interval":  func(_ *Point, loss *Metric) { loss.DeltaCI = &[2]float64{2, 1} },
	} {
		r := measuredReport(t)
		p := &r.Points[1]
		loss := p.Metrics["loss"]
		change(p, &loss)
		p.Metrics["loss"] = loss
		if err := r.check(); err == nil || !strings.Contains(err.Error(), "metrics") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
