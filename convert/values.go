package convert

import (
	"context"
	"fmt"
	"io"

	"gqa/checkpoints"
	"gqa/internal/weights"
)

// BadValue is a tensor that holds NaN or an infinity.
type BadValue struct {
	Tensor string `json:"tensor"`
	Index  []int  `json:"index"` // of the first
	Value  string `json:"value"`
}

// InspectValues reads the weights and lists the tensors that hold NaN or infinities; more than limit bytes are not read, and
// said to be unread. progress is told of the bytes as they are read.
func (in *Inspection) InspectValues(ctx context.Context, src *weights.Source, limit int64, progress func(bytes int64)) error {
	if in.Unread = src.OwnBytes(); in.Unread > limit {
		return nil
	}
	in.Unread = 0
	found, err := src.NotFinite(ctx, 0, progress)
	for _, f := range found {
		in.NotFinite = append(in.NotFinite, BadValue{f.Tensor, f.Index, fmt.Sprint(f.Value)})
	}
	return err
}

// printValues says what a person should know of the values.
func (in *Inspection) printValues(w io.Writer) {
	if in.Unread > 0 {
		fmt.Fprintf(w, "values      not read (%s of weights); --check looks for NaN and infinities in all of them\n", bytesText(in.Unread))
	}
	const most = 5
	for i, f := range in.NotFinite {
		if i == most {
			fmt.Fprintf(w, "            and in %d more tensors\n", len(in.NotFinite)-most)
			break
		}
		label := "not finite"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "%-12s%s: %s at %s\n", label, f.Tensor, f.Value, checkpoints.IndexText(f.Index))
	}
}
