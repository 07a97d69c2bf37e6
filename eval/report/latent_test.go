package report

import (
	"errors"
	"html"
	"slices"
	"strings"
	"testing"
)

// latentReport has groups and latent attention of the same sizes.
func latentReport(losses ...float64) Report {
	r := Report{Model: "m", Corpus: "c", Machine: "x", Points: []Point{point(8, "mha", 0, 2, 4), point(2, "mean", 0, 3, 1), point(1, "mean", 0, 4, 0.5)}}
	for i, groups := range []int{2, 1} {
		p := withRecipe(point(groups, "mla", 0, losses[i], 2), "mla+refine=150")
		p.Latent = &Latent{Rank: 48 * groups, RopeDim: 16 * groups}
		r.Points = append(r.Points, p)
	}
	return r
}

// Every form shows the sizes of latent attention, beside the groups whose cache is as large.
func TestLatentPoints(t *testing.T) {
	r := latentReport(2.0625, 2.5)
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	const ship = "Ship MLA, 96 + 32"
	for format, want := range map[string][]string{
		"md":    {"**" + ship + ": cache 4.0× smaller", "| 2 | mean | none |", "| MLA, 96 + 32 | mla+refine=150 | none |", "| MLA, 48 + 16 |"},
		"csv":   {",folder,kv_lora_rank,qk_rope_head_dim,loss", "2,mla,mla+refine=150,0,0,1,128,,96,32,2.0625,", "2,mean,,0,0,1,128,,,,3,"},
		"html":  {ship, `data-sort="2"><span class="key" aria-hidden="true">KV heads</span><span class="value">MLA, 96 + 32</span>`, `"size":"96+32"`, `"size":"8"`},
		"json":  {`"latent": {`, `"kv_lora_rank": 96`},
		"junit": {`name="96+32 mla+refine=150"`},
		"svg":   {">96+32<", ">g=2<"},
	} {
		got := strings.ReplaceAll(html.UnescapeString(render(t, r, format)), "\u00a0", " ")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: want %q in\n%s", format, w, got)
			}
		}
	}
	var order []string
	for _, p := range r.rows() {
		order = append(order, p.Name())
	}
	if want := []string{"g=8 mha", "g=2 mean", "96+32 mla+refine=150", "g=1 mean", "48+16 mla+refine=150"}; !slices.Equal(order, want) {
		t.Errorf("rows %q, want %q", order, want)
	}
	worse := latentReport(2.5, 2.6)
	if page := render(t, worse, "html"); !strings.Contains(html.UnescapeString(page), "The nearest is MLA, 96 + 32: ") {
		t.Error("the page does not name the nearest point")
	}
	if page := render(t, Report{Points: r.Points[:3]}, "csv"); strings.Contains(page, "kv_lora_rank") {
		t.Error("columns of latent attention without any")
	}
}

// The gate compares latent attention with that of the same recipe and size, not with groups.
func TestGateOfLatentPoints(t *testing.T) {
	base := latentReport(2.0625, 2.5)
	if err := gate(latentReport(2.0625, 2.5), base, DefaultLimits); err != nil {
		t.Error(err)
	}
	var closed *GateError
	err := gate(latentReport(2.5, 2.5), base, DefaultLimits)
	if !errors.As(err, &closed) || len(closed.Failures) != 1 || !strings.HasPrefix(closed.Failures[0], "96+32 mla+refine=150: loss: got 2.5000") {
		t.Errorf("worse: %q", closed.Failures)
	}
	err = gate(Report{Model: "m", Corpus: "c", Machine: "x", Points: base.Points[:4]}, base, DefaultLimits)
	if !errors.As(err, &closed) || !slices.Equal(closed.Failures, []string{"48+16 mla+refine=150: the report has no such point"}) {
		t.Errorf("without: %+v", err)
	}
}
