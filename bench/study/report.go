package main

import (
	"cmp"
	"fmt"
	"image/color"
	"maps"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// report updates the tables of prefix.md and writes prefix-MODEL-gG-PLOT.svg for every model, number of groups and plot
// with curves.
func (s *Study) report(prefix string, results []Result) error {
	if err := s.writeTables(prefix+".md", results); err != nil {
		return err
	}
	for _, model := range slices.Sorted(maps.Keys(s.Models)) {
		rs := of(results, model)
		if len(rs) == 0 {
			continue
		}
		for _, g := range distinct(rs, func(r Result) int { return r.Groups })[1:] { // without the model itself
			for name, p := range s.Plots {
				if err := p.curves(fmt.Sprintf("%s-%s-g%d-%s.svg", prefix, model, g, name), rs, g); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// of returns the results of a model.
func of(results []Result, model string) []Result {
	return slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.Model != model })
}

// distinct returns the distinct values of a key, largest first.
func distinct[K cmp.Ordered](rs []Result, key func(Result) K) (all []K) {
	for _, r := range rs {
		if !slices.Contains(all, key(r)) {
			all = append(all, key(r))
		}
	}
	slices.SortFunc(all, func(a, b K) int { return cmp.Compare(b, a) })
	return all
}

// way describes how a cell was up-trained: its loss, and its recipe if that is not the study's default.
func (c Cell) way() string {
	if c.Recipe == "" {
		return c.Loss
	}
	return c.Loss + ", " + c.Recipe
}

// curves plots validation loss against tokens, with one line for each of the longest runs.
func (q Plot) curves(path string, rs []Result, groups int) error {
	longest := q.longest(rs, groups)
	if len(longest) == 0 {
		return nil
	}
	p := canvas(fmt.Sprintf("%s, %d KV heads", rs[0].Model, groups))
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

// longest returns the longest runs of the first seed by start and loss: those of a number of groups, and of the original
// model.
func (q Plot) longest(rs []Result, groups int) map[string]Result {
	longest, own := map[string]Result{}, heads(rs)
	for _, r := range rs {
		if r.Groups != groups && r.Groups != own || len(r.Curve) < 2 || !q.has(r.Cell) {
			continue
		}
		name := r.Start + ", " + r.way()
		if r.Groups == own {
			name = "the model itself, " + r.way()
		}
		if r.Tokens > longest[name].Tokens || r.Tokens == longest[name].Tokens && r.Seed < longest[name].Seed {
			longest[name] = r
		}
	}
	return longest
}

// canvas returns a plot without lines.
func canvas(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "tokens, millions", "validation loss, nats per token"
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(ticks), plot.TickerFunc(ticks)
	// Names are to the right of their lines, so that they do not overlap, whatever the width of a viewer's font.
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.Padding = true, true, 3.9*vg.Inch, vg.Points(2)
	return p
}

// ticks returns five or more round numbers between lo and hi.
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
