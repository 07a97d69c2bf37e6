package eval

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"gqa/internal/units"
)

// Print writes the figures as text.
func (l *Latency) Print(w io.Writer) error {
	fmt.Fprintf(w, "batch %d, context %d, %s, %s\n", l.Batch, l.Context, l.processor(), l.formatsText())
	if l.PromptLen > 0 {
		fmt.Fprintf(w, "prefill   %.2f ms%s for %d × %d tokens\n", l.PrefillMS, l.plus("%.2f", l.PrefillLow, l.PrefillHigh), l.Batch, l.PromptLen)
	}
	if l.encodes {
		fmt.Fprintln(w, "decode    none: every token sees all others, and there is no KV cache")
		return printNotes(w, l.Notes)
	}
	fmt.Fprintf(w, "decode    %.3f ms/step%s, %.4f ms/token, %.0f tokens/s\n",
		l.DecodeMSPerStep, l.plus("%.3f", l.DecodeLow, l.DecodeHigh), l.DecodeMSPerTok, l.TokensPerS)
	cross := ""
	if l.CrossBytesToken > 0 {
		cross = fmt.Sprintf(" and %d per source token", l.CrossBytesToken)
	}
	fmt.Fprintf(w, "KV cache  %d bytes/token%s (%s), %.1f MiB read per step; weights %.1f MiB (%s)\n",
		l.KVBytesPerToken, cross, keptText(l.kept), float64(l.KVBytes)/(1<<20), float64(l.WeightBytes)/(1<<20), formatNames[l.weights])
	if l.RooflineMS > 0 {
		note := ""
		if l.RooflineShare > 1 {
			note = " (more than 100%: the processor's cache holds some of it, or other load slowed down the measurement of the roofline)"
		}
		fmt.Fprintf(w, "roofline  %.3f ms/step: at %.0f%% of it%s\n", l.RooflineMS, 100*l.RooflineShare, note)
	}
	return printNotes(w, l.Notes)
}

func printNotes(w io.Writer, notes []string) error {
	text := ""
	for _, n := range notes {
		text += "note      " + n + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// processor describes what computed.
func (l *Latency) processor() string { return cmp.Or(l.Device, count(l.Threads, "thread")) }

func (l *Latency) formatsText() string {
	if l.weights == l.kept.Format && l.kept.Window == 0 {
		return formatNames[l.weights]
	}
	return fmt.Sprintf("weights %s, cache %s", formatNames[l.weights], keptText(l.kept))
}

// plus formats an interval in parentheses; nothing if there was only one round.
func (l *Latency) plus(format string, low, high float64) string {
	if l.Rounds < 2 {
		return ""
	}
	return fmt.Sprintf(" ("+format+" to "+format+")", low, high)
}

// Print writes a table for each batch and context.
func (l *Latencies) Print(w io.Writer) error {
	first := l.Cells[0]
	fmt.Fprintf(w, "Medians of %d rounds, in which all took turns, with 95%% intervals; %s, weights %s.\n", first.Rounds, first.processor(), formatNames[first.weights])
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, c := range l.Cells {
		if i == 0 || !c.comparable(l.Cells[i-1]) {
			fmt.Fprintf(table, "\nbatch %d, context %d\n", c.Batch, c.Context)
			c.printHeader(table)
		}
		c.printRow(table)
	}
	if err := table.Flush(); err != nil || len(l.Notes) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return printNotes(w, l.Notes)
}

func (l *Latency) printHeader(w io.Writer) {
	header := "model\tKV heads\tcache\tKV read per step\t"
	if l.PromptLen > 0 {
		header += fmt.Sprintf("prefill of %d tokens, ms\t", l.PromptLen)
	}
	header += "decode ms/step\ttokens/s\t"
	if l.RooflineMS > 0 {
		header += "of the roofline\t"
	}
	fmt.Fprintln(w, header+"compared with the first")
}

func (l *Latency) printRow(w io.Writer) {
	heads := strconv.Itoa(l.KVHeads)
	if l.KVHeads == latent {
		heads = "MLA"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", l.Model, heads, keptText(l.kept), units.Bytes(l.KVBytes))
	if l.PromptLen > 0 {
		fmt.Fprintf(w, "%.4g%s\t", l.PrefillMS, l.plus("%.4g", l.PrefillLow, l.PrefillHigh))
	}
	if l.encodes {
		fmt.Fprint(w, "-\t-\t")
	} else {
		fmt.Fprintf(w, "%.4g%s\t%.0f\t", l.DecodeMSPerStep, l.plus("%.4g", l.DecodeLow, l.DecodeHigh), l.TokensPerS)
	}
	if l.RooflineMS > 0 {
		fmt.Fprintf(w, "%.0f%%\t", 100*l.RooflineShare)
	}
	fmt.Fprintln(w, l.Speedup)
}

// String describes a ratio: "1.92 times as fast (1.88 to 1.97)" or "within noise". A nil Ratio is "-".
func (r *Ratio) String() string {
	switch {
	case r == nil:
		return "-"
	case !r.Resolved:
		return "within noise"
	}
	return fmt.Sprintf("%.3g times as fast (%.3g to %.3g)", r.Value, r.Low, r.High)
}

// count formats a number of things: "1 thread", "2 threads".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
