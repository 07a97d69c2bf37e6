package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gqa/internal/units"
)

// madeTitles are the first columns of a table: how a point was made. made returns their cells.
var madeTitles = []string{"Groups", "Method", "Up-trained tokens"}

func (p Point) made() []string { return []string{p.Cache(), p.recipe(), p.uptrained()} }

// Cache says what a cache holds: the number of KV heads, or the widths of a latent and of a rotary key.
func (p Point) Cache() string {
	if p.Latent != nil {
		return fmt.Sprintf("MLA, %d + %d", p.Latent.Rank, p.Latent.RopeDim)
	}
	return strconv.Itoa(p.Groups)
}

// uptrained returns the tokens of the up-training, and their share of the original pre-training.
func (p Point) uptrained() string {
	switch {
	case p.UptrainTokens == 0 && p.Alpha == 0:
		return "none"
	case p.Alpha == 0:
		return units.Count(p.UptrainTokens)
	}
	return fmt.Sprintf("%s (%s%%)", units.Count(p.UptrainTokens), units.Significant(100*p.Alpha))
}

// training describes the up-training in a few words.
func (p Point) training() string {
	switch {
	case p.Alpha > 0:
		return fmt.Sprintf("up-trained on %s tokens, α\u00a0=\u00a0%s%%", units.Count(p.UptrainTokens), units.Significant(100*p.Alpha))
	case p.UptrainTokens > 0:
		return fmt.Sprintf("up-trained on %s tokens", units.Count(p.UptrainTokens))
	}
	return "not up-trained"
}

// measures returns the figures that are measured, not chosen.
func (r Report) measures() []figureKind {
	return slices.DeleteFunc(r.figures(), figureKind.setup)
}

// setting is how the speed of a point was measured.
type setting struct{ batch, context int }

func (s setting) String() string { return fmt.Sprintf("batch %d, context %d", s.batch, s.context) }

func (p Point) setting() setting { return setting{p.Batch, p.Context} }

// settings returns the batches and contexts at which points were measured, the smaller first.
func (r Report) settings() []setting {
	var all []setting
	for _, p := range r.Points {
		all = append(all, p.setting())
	}
	slices.SortFunc(all, func(a, b setting) int {
		return cmp.Or(cmp.Compare(a.batch, b.batch), cmp.Compare(a.context, b.context))
	})
	return slices.Compact(all)
}

// timedAt lists the settings.
func (r Report) timedAt() string {
	var all []string
	for _, s := range r.settings() {
		all = append(all, s.String())
	}
	return strings.Join(all, "; ")
}

// grid is the decode time of each model at each batch and context.
type grid struct {
	Settings []setting
	Rows     []gridRow
}

type gridRow struct {
	Name  string
	Cells []string
}

// latencies returns the decode times; false if all points were measured at one batch and context.
func (r Report) latencies() (g grid, ok bool) {
	g.Settings = r.settings()
	at := map[string]int{}
	for _, p := range r.rows() {
		i, known := at[p.Name()]
		if !known {
			i = len(g.Rows)
			at[p.Name()] = i
			g.Rows = append(g.Rows, gridRow{p.Name(), slices.Repeat([]string{"–"}, len(g.Settings))})
		}
		g.Rows[i].Cells[slices.Index(g.Settings, p.setting())] = measured(p.DecodeMsPerToken)
	}
	return g, len(g.Settings) > 1
}

// notes explain what is less obvious in the tables.
const notes = "Loss is cross-entropy in nats per token. ± after a value is its standard error. Differences and ratios compare with the baseline, " +
	"the first row; ± after them is half of the 95% interval, where that is known: all models predict the same windows, so the interval " +
	"is much narrower than the errors of two losses. Up-trained tokens are also given as a share of the original pre-training (α). " +
	"A sweep measures with weights and cache in f32."

// measured formats a figure, or a dash if it is 0: not measured.
func measured(x float64) string {
	if x == 0 {
		return "–"
	}
	return units.Significant(x)
}

// bar draws a share of 1 as up to ten blocks.
func bar(share float64) string {
	const full = 10
	eighths := min(max(int(share*8*full+0.5), 1), 8*full)
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}
