package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/xml"
	"html"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/plot"
)

func render(t *testing.T, r Report, format string) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Render(&out, format); err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return out.String()
}

// wellFormed parses an XML text completely and counts its elements by name.
func wellFormed(t *testing.T, text string) map[string]int {
	t.Helper()
	elements := map[string]int{}
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return elements
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	err := sample(t).Render(io.Discard, "pdf")
	if want := `unknown format "pdf"; want one of html, md, csv, json, junit, png, svg`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	bad := Report{Points: []Point{point(1, "mean", 0, math.NaN(), 1)}}
	for _, format := range Formats() {
		if err := bad.Render(io.Discard, format); err == nil || !strings.Contains(err.Error(), "loss is NaN") {
			t.Errorf("%s: %v", format, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "report")
	if err := bad.Write(dir); err == nil {
		t.Error("a report with NaN was written")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused report left its folder")
	}
}

func TestWriteMakesEveryFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "report")
	want := sample(t)
	for range 2 { // the second time replaces the first
		if err := want.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := []string{"junit.xml", "report.csv", "report.html", "report.json", "report.md", "tradeoff.png", "tradeoff.svg"}; !slices.Equal(names, want) {
		t.Errorf("files %v, want %v", names, want)
	}
	if got, err := Read(dir); err != nil || !reflect.DeepEqual(got.Points, want.Points) {
		t.Errorf("read back: %v, %v", got, err)
	}
}

func TestMarkdown(t *testing.T) {
	r := Report{Model: "a|b", Corpus: "c\nd", Machine: "<m>", Program: "gqa-eval v1", Commands: []string{"gqa-eval sweep"}, Points: []Point{
		point(2, "align", 0.004, 2.12, 2), point(8, "mha", 0, 2, 4),
	}}
	r.Points[0].Folder, r.Points[0].Command = "a`folder", "gqa-convert\ngqa-train run"
	got := render(t, r, "md")
	for _, want := range []string{
		"# Quality against decode latency: a\\|b\n", "Folder: `` a`folder ``\n",
		"Corpus: c d. Machine: &lt;m>. Timed at batch 1, context 128. Measured by gqa-eval v1. Command: `gqa-eval sweep`.\n", "```sh\ngqa-convert\ngqa-train run\n```\n",
		"| 8 | mha | none | 2.0000 ± 0.0010 |  | 5 | 4 |  | 250 | 9 | 8 KiB | ██████████ | 1k |\n" +
			"| 2 | align | 0 (0.4%) | 2.1200 ± 0.0010 | +0.120 | 5 | 2 | 2.0× faster | 500 | 9 | 2 KiB | ██▌ 4.0× less | 1k |\n",
		escape(r.Recommend().Text), "at most 0.1 nats per token above the baseline's",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "![") {
		t.Error("an image, which the summary of a CI job cannot show")
	}
	for _, line := range strings.Split(got, "\n") {
		if strings.HasPrefix(line, "|") && strings.Count(line, " |") != 13 {
			t.Errorf("%d cells, want 13: %s", strings.Count(line, " |"), line)
		}
	}
}

// A metric that this package does not know is in every form.
func TestEveryFormShowsANewMetric(t *testing.T) {
	r := measuredReport(t)
	for i := range r.Points {
		m := Metric{Value: 0.25 + float64(i)/100, Stderr: 0.01, N: 400, Unit: "share of items", Better: Higher}
		if delta := float64(i) / 100; i > 0 {
			m.Delta, m.DeltaCI = &delta, &[2]float64{delta - 0.002, delta + 0.004}
		}
		r.Points[i].Metrics["passkey_2k"] = m
	}
	for format, want := range map[string][]string{
		"md":    {"| Passkey 2k (%) | Δ Passkey 2k |", "| 26.0 ± 1.0 | +1.0 ± 0.3 |"},
		"csv":   {",passkey_2k,passkey_2k_stderr,passkey_2k_delta,passkey_2k_delta_low,passkey_2k_delta_high,", ",0.26,0.01,0.01,0.008,0.014"},
		"html":  {`data-name="passkey_2k">Passkey 2k (%)`, "26.0<small>+1.0 ±\u00a00.3", `"name":"passkey_2k","label":"Passkey 2k","unit":"share of items","better":"higher"`},
		"junit": {`<property name="passkey_2k" value="0.26">`, `<property name="passkey_2k.delta_ci" value="0.008 to 0.014">`},
	} {
		got := html.UnescapeString(render(t, r, format))
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: want %q", format, w)
			}
		}
	}
}

// The CSV form has a row for each point, and no column that is empty for all.
func TestCSV(t *testing.T) {
	r := sample(t)
	records, err := csv.NewReader(strings.NewReader(render(t, r, "csv"))).ReadAll()
	if err != nil || len(records) != len(r.Points)+1 {
		t.Fatalf("%d records of %d points, %v", len(records), len(r.Points), err)
	}
	at := func(record []string, name string) string { return record[slices.Index(records[0], name)] }
	if first := records[1]; at(first, "loss") != "1.7254" || at(first, "loss_delta") != "" || at(first, "params") != plain(float64(r.Points[0].Params)) {
		t.Errorf("the baseline is %q", first)
	}
	for i, name := range records[0][8:] {
		if !slices.ContainsFunc(records[1:], func(record []string) bool { return record[8+i] != "" }) {
			t.Errorf("column %s is empty", name)
		}
	}
}

func TestHTMLIsSelfContainedAndAccessible(t *testing.T) {
	r := sample(t)
	r.Model = "<script>alert(1)</script>"
	r.Points[0].Continuation = "</script><script>alert(2)</script>"
	got := render(t, r, "html")
	for _, want := range []string{
		`<html lang="en">`, "<title>", "prefers-color-scheme: dark", `role="img"`, `data-name="loss">Loss (nats/token)</th>`, `<th scope="row" role="rowheader" data-sort="8">`,
		"currentColor", "Go standard library", "AMD EPYC", `class="best"`, "default-src &#39;none&#39;",
		"at most 0.1 nats per token above the baseline", "KV cache per token",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q", want)
		}
	}
	for _, bad := range []string{"alert(1)</script>", "alert(2)</script>", " src=", "<link", "@import", "url(http", inkHex} {
		if strings.Contains(got, bad) {
			t.Errorf("holds %q", bad)
		}
	}
	if scripts := strings.Count(got, "<script"); scripts != 3 || strings.Count(got, "&#39;sha256-") != 2 {
		t.Errorf("%d scripts, want the data, the library and the page's own, of which the policy names two", scripts)
	}
	if rows := strings.Count(got, "<tr"); rows != len(r.Points)+1 {
		t.Errorf("%d table rows, want %d", rows, len(r.Points)+1)
	}
	if len(got) > 1_500_000 {
		t.Errorf("%d bytes", len(got))
	}
}

// The policy allows the scripts only as they are: the page must hold them byte for byte.
func TestHTMLPolicyNamesTheScripts(t *testing.T) {
	got := render(t, sample(t), "html")
	for _, script := range []string{chartLibrary, pageScript} {
		if !strings.Contains(got, "<script>"+script+"</script>") {
			t.Errorf("a script is not as it was: %.60s", script)
		}
	}
}

// The chart library is what its checksums say.
func TestChartLibrary(t *testing.T) {
	sums, err := os.ReadFile("html/vendor/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(sums)), "\n")
	for _, line := range lines {
		sum, name, _ := strings.Cut(line, "  ")
		text, err := os.ReadFile(filepath.Join("html/vendor", name))
		if got := sha256.Sum256(text); err != nil || hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s: %x, want %s; run make charts", name, got, sum)
		}
	}
	if len(lines) != 2 {
		t.Errorf("%d files", len(lines))
	}
}

func TestJUnit(t *testing.T) {
	r := sample(t)
	r.Machine = `"<&>`
	text := render(t, r, "junit")
	elements := wellFormed(t, text)
	if elements["testcase"] != len(r.Points) || elements["testsuite"] != 1 {
		t.Errorf("elements %v, want %d test cases", elements, len(r.Points))
	}
	var suite junitSuite
	if err := xml.Unmarshal([]byte(text), &suite); err != nil {
		t.Fatal(err)
	}
	first := suite.Cases[0]
	for _, want := range []junitProperty{{"groups", "8"}, {"method", "mha"}, {"loss", "1.7254"}, {"kv_bytes_per_token", "12288"}, {"machine", r.Machine}} {
		if !slices.Contains(first.Properties, want) {
			t.Errorf("no property %v in %v", want, first.Properties)
		}
	}
	if suite.Tests != len(r.Points) || first.Name != "g=8 mha" {
		t.Errorf("%d tests, the first %q", suite.Tests, first.Name)
	}
}

func TestFigures(t *testing.T) {
	unmeasured := sample(t)
	for i := range unmeasured.Points {
		unmeasured.Points[i].DecodeMsPerToken = 0
	}
	many := Report{Model: strings.Repeat("long ", 99), Points: []Point{point(8, "mha", 0, 2, 4)}}
	for _, method := range []string{"mean", "first", "random", "align", "calibrated", "other", "more"} {
		for i, alpha := range []float64{0, 0.001, 0.01, 0.05, 0.1, 0.2} {
			many.Points = append(many.Points, point(4, method, alpha, 3-float64(i)/10, 2), point(1, method, alpha, 4-float64(i)/10, 1))
		}
	}
	for name, r := range map[string]Report{
		"sample": sample(t), "one point": {Points: []Point{point(1, "mean", 0, 1, 1)}}, "unmeasured": unmeasured, "many": many,
		"equal losses": {Points: []Point{point(8, "mha", 0, 1, 1), point(1, "mean", 0, 1, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			svg := render(t, r, "svg")
			elements := wellFormed(t, svg)
			if elements["title"] != 1 || strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
				t.Errorf("elements %v; NaN or Inf in the SVG: %v", elements, strings.Contains(svg, "NaN"))
			}
			for _, p := range r.Points {
				if want := ">g=4<"; p.Groups == 4 && strings.Count(svg, want) < 2 {
					t.Errorf("%s is not named in both panels", p.Name())
				}
			}
			image, err := png.Decode(strings.NewReader(render(t, r, "png")))
			if err != nil || image.Bounds().Dx() < 1000 {
				t.Errorf("PNG: %v, %v", image, err)
			}
		})
	}
}

// The curves of two recipes differ in colour and shape, and these are the same in every report. Each is in the legend and
// has its name beside it in both panels if there is room.
func TestCurves(t *testing.T) {
	r := Report{Points: []Point{point(8, "mha", 0, 2, 4)}}
	for i, recipe := range []string{"calibrated+similar+kl", "mean", "mean+kl", "other"} {
		method, _, _ := strings.Cut(recipe, "+")
		for _, groups := range []int{4, 2} {
			p := withRecipe(point(groups, method, 0, 4+float64(i)/4, float64(groups)/2), recipe)
			trained := p
			trained.Alpha, trained.Loss = 0.001, p.Loss-1.5
			r.Points = append(r.Points, p, trained)
		}
	}
	r.Points = slices.DeleteFunc(r.Points, func(p Point) bool { return p.Recipe == "mean+kl" && p.Alpha == 0 })
	var names []string
	looks := map[color.Color]string{}
	for _, s := range r.series() {
		names = append(names, s.name+": "+s.label)
		recipe, _, _ := strings.Cut(s.name, ",")
		if had, ok := looks[s.color]; ok && had != recipe {
			t.Errorf("%s is drawn as %s", recipe, had)
		}
		looks[s.color] = recipe
	}
	want := []string{
		"mha (baseline): ", "mean, as converted: as converted", "mean, α = 0.1%: mean", "mean+kl, α = 0.1%: mean+kl",
		"calibrated+similar+kl, as converted: as converted", "calibrated+similar+kl, α = 0.1%: calibrated+similar+kl", "other, as converted: as converted", "other, α = 0.1%: other",
	}
	if !slices.Equal(names, want) {
		t.Errorf("curves %q, want %q", names, want)
	}
	if looks[hues[0].color] != "mean" || looks[hues[1].color] != "calibrated+similar+kl" {
		t.Errorf("colours %v", looks)
	}
	r.Points = slices.DeleteFunc(r.Points, func(p Point) bool { return p.Method == "other" })
	svg := render(t, r, "svg")
	for name, most := range map[string]int{">mean<": 2, ">calibrated+similar+kl<": 2, ">as converted<": 4, ">mean+kl<": 2} { // in both panels
		if got := strings.Count(svg, name); got > most || got < most/2 {
			t.Errorf("%s stands %d times, want %d, or fewer where there is no room", name, got, most)
		}
	}
}

func TestLossScaleTicks(t *testing.T) {
	for _, scale := range []lossScale{{1.7254, 0.2}, {3, 1e-3}, {2, 4}} {
		lo, hi := scale.warp(scale.base-scale.unit), scale.warp(scale.base+20*scale.unit)
		ticks := scale.Ticks(lo, hi)
		if len(ticks) < 4 || len(ticks) > 18 {
			t.Errorf("%v: %d ticks", scale, len(ticks))
		}
		for _, tick := range ticks {
			if tick.Value < lo || tick.Value > hi {
				t.Errorf("%v: tick %s lies outside", scale, tick.Label)
			}
		}
	}
}

// Each loss is shown with its perplexity: e^1.7254 = 5.615, e^2.7254 = 15.26.
func TestLossScaleTickLabels(t *testing.T) {
	scale := lossScale{1.7254, 0.5}
	var labels []string
	for _, tick := range scale.Ticks(scale.warp(1.6), scale.warp(4)) {
		labels = append(labels, tick.Label)
	}
	for _, want := range []string{"1.725 (ppl 5.61)", "+0.5 (ppl 9.26)", "+1 (ppl 15.3)"} {
		if !slices.Contains(labels, want) {
			t.Errorf("labels %q, want %q", labels, want)
		}
	}
	if got := perplexityText(1e6); got != " (ppl 1.8e+308)" {
		t.Errorf("a loss beyond counting: %q", got)
	}
}

func TestRoundTicks(t *testing.T) {
	for _, test := range []struct{ lo, hi float64 }{{1.2, 3.5}, {0, 1}, {0.99, 1.01}, {-0.3, 5}, {17, 900}, {-0.001, 0.001}} {
		ticks := roundTicks{}.Ticks(test.lo, test.hi)
		if n := len(ticks); n < 3 || n > 11 {
			t.Errorf("[%v, %v]: %d ticks", test.lo, test.hi, n)
		}
		if slices.ContainsFunc(ticks, func(tick plot.Tick) bool { return tick.Label == "-0" }) {
			t.Errorf("[%v, %v]: a tick at -0", test.lo, test.hi)
		}
	}
}
