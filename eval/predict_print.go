package eval

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"gqa/configs"
	"gqa/configs/hardware"
	"gqa/internal/units"
)

// WritePredictions writes what Predict returned for h and o as text: a table for every batch and context, and notes.
func WritePredictions(w io.Writer, h hardware.Hardware, o PredictOptions, rows []Prediction) error {
	fmt.Fprintf(w, "%s on %s (%s), weights %s, cache %s: predicted\n", rows[0].Shape, h.Name, h.Description, o.Weights, o.Cache)
	perTable := len(rows) / len(o.Batches) / len(o.Contexts)
	for table := range slices.Chunk(rows, perTable) {
		if err := writePredictions(w, table); err != nil {
			return err
		}
	}
	return writeNotes(w, rows)
}

func writePredictions(w io.Writer, rows []Prediction) error {
	r := rows[0]
	fmt.Fprintf(w, "\nbatch %d, context %d", r.Batch, r.Context)
	if r.PromptLen > 0 {
		fmt.Fprintf(w, ", prefill of %d × %d tokens", r.Batch, r.PromptLen)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\ngroups\theads/group\tprefill ms\tdecode ms/step\ttokens/s\tspeed-up\tKV/token\tKV cache\tweights\tlargest batch\ttensor parallel\t")
	for _, p := range rows {
		fmt.Fprintf(table, "%s%s\t%d%s\t%s\t%s\t%s\t%s×\t%s\t%s\t%s\t%d%s\t%s\t\n", p.groupsText(), mark(p.Published, "*"),
			p.GroupSize, mark(!p.CommonKernels, "!"), prefillText(p), units.Significant(p.DecodeMSPerStep), units.Significant(p.TokensPerS),
			units.Significant(r.DecodeMSPerStep/p.DecodeMSPerStep), units.Bytes(p.KVBytesPerToken), units.Bytes(p.KVBytes), units.Bytes(p.WeightBytes),
			p.MaxBatch, mark(!p.Fits, "!"), join(p.TensorParallel))
	}
	return table.Flush()
}

// groupsText returns the number of groups, or the sizes of latent attention.
func (p Prediction) groupsText() string {
	if p.Latent {
		return latentText(p.KVRank, p.RopeDim)
	}
	return strconv.Itoa(p.Groups)
}

func prefillText(p Prediction) string {
	if p.PromptLen == 0 {
		return "-"
	}
	return units.Significant(p.PrefillMS)
}

// mark returns sign, or a space as wide.
func mark(marked bool, sign string) string {
	if marked {
		return sign
	}
	return " "
}

func join(numbers []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(numbers), "[]"), " ", ",")
}

// writeNotes explains the marks of the tables.
func writeNotes(w io.Writer, rows []Prediction) (err error) {
	note := func(wanted func(p Prediction) bool, text string) {
		if slices.ContainsFunc(rows, wanted) {
			_, err = fmt.Fprintln(w, text)
		}
	}
	_, err = fmt.Fprintln(w)
	note(func(p Prediction) bool { return p.Published }, "* the model's own number of groups")
	note(func(p Prediction) bool { return !p.CommonKernels && !p.Latent },
		"! heads/group: decode kernels of serving software are usually compiled for 1, 2, 4 and 8")
	note(func(p Prediction) bool { return !p.CommonKernels && p.Latent }, fmt.Sprintf(
		"! heads/group, MLA: FlashMLA's decode kernels are for a latent of %d and a rotary key of %d", configs.KernelRank, configs.KernelRopeDim))
	note(func(p Prediction) bool { return !p.Fits },
		fmt.Sprintf("! largest batch: weights and cache of this batch take more than %.0f%% of the memory", 100*usableMemory))
	return err
}
