package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// markdown writes what reads well in the summary of a CI job, where files beside it cannot be shown.
func (r Report) markdown(w io.Writer) error {
	var out strings.Builder
	rec := r.Recommend()
	fmt.Fprintf(&out, "# Quality against decode latency: %s\n\n", escape(r.Model))
	fmt.Fprintf(&out, "**%s**\n\n", escape(rec.Text))
	if rec.Point.Folder != "" {
		fmt.Fprintf(&out, "Folder: %s\n\n", code(rec.Point.Folder))
	}
	if rec.Point.Command != "" {
		fmt.Fprintf(&out, "Command:\n\n%s\n", block(rec.Point.Command))
	}
	titles, rows := r.markdownTable()
	writeTable(&out, titles, len(madeTitles), rows)
	if g, ok := r.latencies(); ok {
		writeGrid(&out, g)
	}
	fmt.Fprintf(&out, "\n%s %s\n\n", escape(rec.Rules), notes)
	fmt.Fprintf(&out, "Corpus: %s. Machine: %s. Timed at %s.", escape(r.Corpus), escape(r.Machine), r.timedAt())
	for _, about := range []struct{ what, text string }{{"Measured by", r.Program}, {"Date:", r.Date}} {
		if about.text != "" {
			fmt.Fprintf(&out, " %s %s.", about.what, escape(about.text))
		}
	}
	for _, command := range r.Commands {
		fmt.Fprintf(&out, " Command: %s.", code(command))
	}
	out.WriteString("\n")
	_, err := io.WriteString(w, out.String())
	return err
}

// markdownTable returns a row for each point, the baseline first: the values of the figures, and where they have one the difference
// from the baseline in a column of its own.
func (r Report) markdownTable() (titles []string, cells [][]string) {
	rows, measures := r.rows(), r.measures()
	titles = slices.Clone(madeTitles)
	for _, p := range rows {
		cells = append(cells, p.made())
	}
	add := func(title string, cell func(row) string) {
		titles = append(titles, title)
		for i, p := range rows {
			cells[i] = append(cells[i], cell(p))
		}
	}
	for _, f := range measures {
		add(f.Title(), func(p row) string { return p.figureText(f) })
		switch {
		case f.Name == "kv_bytes_per_token":
			add("Δ "+f.Label, func(p row) string { return strings.TrimSpace(bar(1/p.lessKV()) + " " + p.differenceText(f)) })
		case slices.ContainsFunc(rows, func(p row) bool { return p.differs(f) }):
			add("Δ "+f.Label, func(p row) string { return p.differenceText(f) })
		}
	}
	return titles, cells
}

// differs reports whether the point's difference in the figure says more than the two values do.
func (p row) differs(f figureKind) bool {
	m, ok := p.metric(f.Name)
	return ok && m.Delta != nil && (m.DeltaCI != nil || f.Name == "loss" || f.Name == "decode_ms_per_token")
}

// writeTable writes a table of which the first columns, up to left, are text.
func writeTable(out *strings.Builder, titles []string, left int, rows [][]string) {
	rule := slices.Repeat([]string{"---:"}, len(titles))
	for i := 1; i < min(left, len(rule)); i++ {
		rule[i] = ":---"
	}
	for _, line := range append([][]string{titles, rule}, rows...) {
		var cells []string
		for _, cell := range line {
			cells = append(cells, escape(cell))
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
}

// writeGrid writes the decode times at several batches and contexts.
func writeGrid(out *strings.Builder, g grid) {
	titles := []string{"Decode ms/token"}
	for _, s := range g.Settings {
		titles = append(titles, s.String())
	}
	var rows [][]string
	for _, line := range g.Rows {
		rows = append(rows, append([]string{line.Name}, line.Cells...))
	}
	out.WriteString("\n")
	writeTable(out, titles, 0, rows)
}

// escape prevents a text from being parsed as Markdown or from starting a new line.
func escape(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "<", "&lt;", "[", `\[`).Replace(text)
}

// code marks a text as code, in more backticks than it has.
func code(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	ticks := fence(text, 1)
	if len(ticks) > 1 {
		text = " " + text + " "
	}
	return ticks + text + ticks
}

// block marks lines as a block of commands.
func block(text string) string {
	ticks := fence(text, 3)
	return ticks + "sh\n" + strings.TrimSpace(text) + "\n" + ticks + "\n"
}

// fence returns at least so many backticks that a text does not have in a row.
func fence(text string, least int) string {
	ticks := strings.Repeat("`", least)
	for strings.Contains(text, ticks) {
		ticks += "`"
	}
	return ticks
}
