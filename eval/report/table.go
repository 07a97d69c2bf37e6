package report

import (
	"fmt"
	"math"
	"strconv"

	"gqa/internal/units"
)

// column is one column of the table of points.
type column struct {
	Title string
	cell  func(row) string
}

// columns are the table's columns, in order. The Markdown and HTML forms share them.
var columns = []column{
	{"Groups", func(r row) string { return strconv.Itoa(r.Groups) }},
	{"Method", func(r row) string { return r.recipe() }},
	{"Up-trained tokens", uptrainedCell},
	{"Loss (nats)", func(r row) string { return fmt.Sprintf("%.4f ± %.4f", r.Loss, r.LossStderr) }},
	{"Δ loss (95%)", func(r row) string { return r.deltaText(4) }},
	{"Perplexity", func(r row) string { return units.Significant(r.Perplexity) }},
	{"Decode ms/token", func(r row) string { return measured(r.DecodeMsPerToken) }},
	{"Speed-up", func(r row) string { return times(r.speedup()) }},
	{"Tokens/s", func(r row) string { return measured(r.DecodeTokensPerS) }},
	{"Prefill ms", func(r row) string { return measured(r.PrefillMs) }},
	{"KV bytes/token (f32)", func(r row) string { return units.Bytes(r.KVBytesPerToken) }},
	{"KV less", func(r row) string { return times(r.lessKV()) }},
	{"KV cache (f32)", func(r row) string {
		return fmt.Sprintf("%s, %d × %d", units.Bytes(r.kvBytes()), r.Batch, r.Context)
	}},
	{"Params", func(r row) string { return units.Count(r.Params) }},
}

func uptrainedCell(r row) string {
	if r.Alpha == 0 {
		if r.UptrainTokens == 0 {
			return "none"
		}
		return units.Count(r.UptrainTokens)
	}
	return fmt.Sprintf("%s (%s%%)", units.Count(r.UptrainTokens), units.Significant(100*r.Alpha))
}

// notes explain the conclusion and the table's less obvious columns.
const notes = rule + " Loss is cross-entropy per token with its standard error; Δ loss, speed-up and “KV less” compare with the baseline, " +
	"the first row. Δ loss is the point's loss minus the baseline's, with its 95% interval if that is known: both models predict the same " +
	"windows, so the interval is much narrower than the errors of the two losses. Up-trained tokens are also given as a share of the " +
	"original pre-training (α). " +
	"“KV cache” is the whole cache at batch × context. A sweep measures with weights and cache in f32."

// cells returns the text of the table's rows, the baseline first.
func (r Report) cells() [][]string {
	var table [][]string
	for _, row := range r.rows() {
		var line []string
		for _, c := range columns {
			line = append(line, c.cell(row))
		}
		table = append(table, line)
	}
	return table
}

// measured formats a figure, or a dash if it is 0: not measured.
func measured(x float64) string {
	if x == 0 {
		return "–"
	}
	return units.Significant(x)
}

// times formats a ratio: 3.1×, or a dash if it is not known.
func times(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return strconv.FormatFloat(x, 'f', 2, 64) + "×"
}

// ratioText formats a ratio in words: "1.8× faster decode"; below 1, its inverse with the word for the other direction.
func ratioText(x float64, more, less string) string {
	if x < 1 {
		x, more = 1/x, less
	}
	return strconv.FormatFloat(x, 'f', 1, 64) + "× " + more
}
