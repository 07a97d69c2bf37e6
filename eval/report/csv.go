package report

import (
	"encoding/csv"
	"io"
	"slices"
	"strconv"
)

// csvColumn is a column of the CSV form: a name, and its text for a point, empty if the point has none.
type csvColumn struct {
	name string
	text func(row) string
}

// csv writes one row per point, in the order of the tables. A figure has a column of its own and, if they are known for some point,
// others for its standard error, its difference from the baseline and the bounds of that difference's 95% interval.
func (r Report) csv(w io.Writer) error {
	columns := []csvColumn{
		{"groups", func(p row) string { return strconv.Itoa(p.Groups) }},
		{"method", func(p row) string { return p.Method }},
		{"recipe", func(p row) string { return p.Recipe }},
		{"alpha", func(p row) string { return plain(p.Alpha) }},
		{"uptrain_tokens", func(p row) string { return strconv.FormatInt(p.UptrainTokens, 10) }},
		{"batch", func(p row) string { return strconv.Itoa(p.Batch) }},
		{"context", func(p row) string { return strconv.Itoa(p.Context) }},
		{"folder", func(p row) string { return p.Folder }},
	}
	rows := r.rows()
	if slices.ContainsFunc(rows, func(p row) bool { return p.Latent != nil }) {
		columns = append(columns, latentColumns...)
	}
	for _, f := range r.measures() {
		columns = append(columns, slices.DeleteFunc(csvColumns(f.Name), func(c csvColumn) bool {
			return !slices.ContainsFunc(rows, func(p row) bool { return c.text(p) != "" })
		})...)
	}
	out := csv.NewWriter(w)
	records := make([][]string, 1+len(rows))
	for _, c := range columns {
		records[0] = append(records[0], c.name)
		for i, p := range rows {
			records[1+i] = append(records[1+i], c.text(p))
		}
	}
	return out.WriteAll(records)
}

// latentColumns are there if some point has latent attention.
var latentColumns = []csvColumn{
	{"kv_lora_rank", ofLatent(func(l *Latent) int { return l.Rank })},
	{"qk_rope_head_dim", ofLatent(func(l *Latent) int { return l.RopeDim })},
}

func ofLatent(size func(*Latent) int) func(row) string {
	return func(p row) string {
		if p.Latent == nil {
			return ""
		}
		return strconv.Itoa(size(p.Latent))
	}
}

// csvColumns returns all columns that a figure may have.
func csvColumns(name string) []csvColumn {
	of := func(text func(m Metric) string) func(row) string {
		return func(p row) string {
			if m, ok := p.metric(name); ok {
				return text(m)
			}
			return ""
		}
	}
	bound := func(i int) func(Metric) string {
		return func(m Metric) string {
			if m.DeltaCI == nil {
				return ""
			}
			return plain(m.DeltaCI[i])
		}
	}
	return []csvColumn{
		{name, of(func(m Metric) string { return plain(m.Value) })},
		{name + "_stderr", of(func(m Metric) string {
			if m.Stderr == 0 {
				return ""
			}
			return plain(m.Stderr)
		})},
		{name + "_delta", of(func(m Metric) string {
			if m.Delta == nil {
				return ""
			}
			return plain(*m.Delta)
		})},
		{name + "_delta_low", of(bound(0))},
		{name + "_delta_high", of(bound(1))},
	}
}

// plain formats a number exactly.
func plain(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
