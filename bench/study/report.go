package main

import (
	"cmp"
	"fmt"
	"image/color"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// report writes prefix-tables.md and, for every model, number of groups and plot with curves, prefix-MODEL-gG-PLOT.svg.
func (s *Study) report(prefix string, results []Result) error {
	var text strings.Builder
	for _, model := range slices.Sorted(maps.Keys(s.Models)) {
		rs := of(results, model)
		if len(rs) == 0 {
			continue
		}
		fmt.Fprintf(&text, "### %s\n\n", model)
		s.starts(&text, rs)
		s.trained(&text, rs)
		for _, g := range distinct(rs, func(r Result) int { return r.Groups })[1:] { // without the model itself
			for name, p := range s.Plots {
				if err := p.curves(fmt.Sprintf("%s-%s-g%d-%s.svg", prefix, model, g, name), rs, g); err != nil {
					return err
				}
			}
		}
	}
	return os.WriteFile(prefix+"-tables.md", []byte(text.String()), 0o666)
}

// of is the results of a model.
func of(results []Result, model string) []Result {
	return slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.Model != model })
}

// distinct are the values of a key, from the largest.
func distinct[K cmp.Ordered](rs []Result, key func(Result) K) (all []K) {
	for _, r := range rs {
		if !slices.Contains(all, key(r)) {
			all = append(all, key(r))
		}
	}
	slices.SortFunc(all, func(a, b K) int { return cmp.Compare(b, a) })
	return all
}

// starts is the table of what was not up-trained: losses, and the share of the mean's damage that is undone.
func (s *Study) starts(w io.Writer, rs []Result) {
	rs = slices.DeleteFunc(slices.Clone(rs), func(r Result) bool { return r.Alpha > 0 })
	groups := distinct(rs, func(r Result) int { return r.Groups })
	if len(groups) < 2 {
		return
	}
	mha, _, _ := mean(rs, "mean", "", groups[0], 0)
	fmt.Fprintf(w, "As converted; the model itself: %.4f nats per token.\n\n| start |", mha)
	for _, g := range groups[1:] {
		fmt.Fprintf(w, " g = %d | undone |", g)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|---|", len(groups)-1))
	for _, start := range s.order(rs) {
		fmt.Fprintf(w, "| %s |", start)
		for _, g := range groups[1:] {
			worst, _, _ := mean(rs, "mean", "", g, 0)
			loss, sd, n := mean(rs, start, "", g, 0)
			if n == 0 {
				fmt.Fprint(w, " | |")
				continue
			}
			fmt.Fprintf(w, " %s | %.1f%% |", plusMinus(loss, sd, n), 100*(worst-loss)/(worst-mha))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

// trained is the table of the up-trainings.
func (s *Study) trained(w io.Writer, rs []Result) {
	rs = slices.DeleteFunc(slices.Clone(rs), func(r Result) bool { return r.Alpha == 0 })
	if len(rs) == 0 {
		return
	}
	alphas := distinct(rs, func(r Result) float64 { return r.Alpha })
	slices.Reverse(alphas)
	groups := distinct(rs, func(r Result) int { return r.Groups })
	ways := distinct(rs, func(r Result) string { return r.way() })
	slices.Reverse(ways)
	fmt.Fprint(w, "| start, loss | g |")
	for _, a := range alphas {
		fmt.Fprintf(w, " α = %s |", strconv.FormatFloat(a, 'g', -1, 64))
	}
	fmt.Fprintf(w, "\n|---|---|%s\n", strings.Repeat("---|", len(alphas)))
	for _, g := range groups {
		for _, start := range s.order(rs) {
			for _, way := range ways {
				row, any := fmt.Sprintf("| %s, %s | %d |", start, way, g), false
				for _, a := range alphas {
					x, sd, n := mean(rs, start, way, g, a)
					any = any || n > 0
					row += " " + plusMinus(x, sd, n) + " |"
				}
				if any {
					fmt.Fprintln(w, row)
				}
			}
		}
	}
	fmt.Fprintln(w)
}

// order is the starts of results as the study's file first names them in its grid.
func (s *Study) order(rs []Result) (names []string) {
	for _, g := range s.Grid {
		for _, start := range g.Starts {
			held := slices.ContainsFunc(rs, func(r Result) bool { return r.Start == start })
			if held && !slices.Contains(names, start) {
				names = append(names, start)
			}
		}
	}
	return names
}

// way is how a cell was up-trained: its loss, and its recipe where that is not the study's own.
func (c Cell) way() string {
	if c.Recipe == "" {
		return c.Loss
	}
	return c.Loss + ", " + c.Recipe
}

// mean is over the seeds of a cell, with the standard deviation.
func mean(rs []Result, start, way string, groups int, alpha float64) (loss, sd float64, n int) {
	var squares float64
	for _, r := range rs {
		if r.Start == start && r.Groups == groups && r.Alpha == alpha && r.way() == way {
			loss, squares, n = loss+r.ValidLoss, squares+r.ValidLoss*r.ValidLoss, n+1
		}
	}
	loss /= float64(n)
	if n > 1 {
		sd = math.Sqrt(max(0, squares-float64(n)*loss*loss) / float64(n-1))
	}
	return loss, sd, n
}

func plusMinus(x, sd float64, n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("%.4f", x)
	}
	return fmt.Sprintf("%.4f ± %.4f", x, sd)
}

// curves plots validation loss against tokens, a line for each start and loss at its longest run of the first seed, and for
// the model itself trained on.
func (q Plot) curves(path string, rs []Result, groups int) error {
	longest, heads := map[string]Result{}, distinct(rs, func(r Result) int { return r.Groups })[0]
	for _, r := range rs {
		if r.Groups != groups && r.Groups != heads || len(r.Curve) < 2 || !q.has(r.Cell) {
			continue
		}
		name := r.Start + ", " + r.way()
		if r.Groups == heads {
			name = "the model itself, " + r.way()
		}
		if r.Tokens > longest[name].Tokens || r.Tokens == longest[name].Tokens && r.Seed < longest[name].Seed {
			longest[name] = r
		}
	}
	if len(longest) == 0 {
		return nil
	}
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s, %d KV heads", rs[0].Model, groups)
	p.X.Label.Text, p.Y.Label.Text = "tokens, millions", "validation loss, nats per token"
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(ticks), plot.TickerFunc(ticks)
	// Names to the right of their lines: however wide a viewer's letters are, they do not run into them.
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.Padding = true, true, 3.9*vg.Inch, vg.Points(2)
	for i, name := range slices.Sorted(maps.Keys(longest)) {
		line, err := plotter.NewLine(points(longest[name].Curve))
		if err != nil {
			return err
		}
		line.Color, line.Dashes, line.Width = plotutil.Color(i%5), plotutil.Dashes(i/5), vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(name, line)
	}
	p.Y.Max += 0.05 * float64(len(longest)) * (p.Y.Max - p.Y.Min) // room for the names
	grid := plotter.NewGrid()
	grid.Horizontal, grid.Vertical = draw.LineStyle{Color: color.Gray{225}, Width: 0.5}, draw.LineStyle{}
	p.Add(grid)
	return p.Save(7*vg.Inch, 5*vg.Inch, path)
}

// ticks are five or more round numbers between lo and hi.
func ticks(lo, hi float64) (marks []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10(hi-lo)))
	for _, part := range []float64{1, 0.5, 0.2, 0.1} {
		if (hi-lo)/(step*part) >= 5 {
			step *= part
			break
		}
	}
	for i := math.Ceil(lo / step); i*step <= hi; i++ {
		marks = append(marks, plot.Tick{Value: i * step, Label: strconv.FormatFloat(i*step, 'g', 6, 64)})
	}
	return marks
}

func points(curve []Point) plotter.XYs {
	xys := make(plotter.XYs, len(curve))
	for i, c := range curve {
		xys[i] = plotter.XY{X: float64(c.Tokens) / 1e6, Y: c.Loss}
	}
	return xys
}
