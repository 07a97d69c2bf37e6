package main

import (
	"fmt"
	"math"

	"github.com/guptarohit/asciigraph"

	"gqa/train"
)

// Size of a curve in characters.
const (
	curveWidth  = 60
	curveHeight = 8
)

// curve draws the loss over the steps of a run; with a teacher, the cross-entropy with the data. A column is the mean of its steps. It is
// empty if there are too few steps.
func curve(metrics []train.Metrics) string {
	var losses []float64
	kind := "loss"
	for _, m := range metrics {
		loss := float64(m.Loss)
		if m.CE != nil {
			loss, kind = *m.CE, "ce"
		}
		if m.Skipped == "" && !math.IsNaN(loss) && !math.IsInf(loss, 0) {
			losses = append(losses, loss)
		}
	}
	columns := min(curveWidth, len(losses))
	if columns < 2 {
		return ""
	}
	means := make([]float64, columns)
	for i := range means {
		lo, hi := i*len(losses)/columns, (i+1)*len(losses)/columns
		for _, x := range losses[lo:hi] {
			means[i] += x / float64(hi-lo)
		}
	}
	caption := fmt.Sprintf("%s, steps %d to %d", kind, metrics[0].Step, metrics[len(metrics)-1].Step)
	return asciigraph.Plot(means, asciigraph.Height(curveHeight), asciigraph.Precision(2), asciigraph.Caption(caption)) + "\n"
}
