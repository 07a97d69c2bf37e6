package convert

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"gqa/checkpoints"
)

// flaws are the tensors found to hold NaN or infinities that are copied all the same.
type flaws struct {
	refused bool // they are an error instead
	lock    sync.Mutex
	found   []*checkpoints.NotFiniteError
}

// vet reads a tensor of the source before it is copied or computed with. One of the architecture's that is not finite is an
// error if it is computed with, else it is remembered.
func (p *Plan) vet(ctx context.Context, t *checkpoints.Tensor, computed bool) error {
	err := p.Source.CheckTensor(ctx, t)
	var not *checkpoints.NotFiniteError
	if computed || p.flaws.refused || !errors.As(err, &not) {
		return err
	}
	p.flaws.lock.Lock()
	defer p.flaws.lock.Unlock()
	p.flaws.found = append(p.flaws.found, not)
	return nil
}

// tell warns of what was found, in one line.
func (f *flaws) tell() {
	if len(f.found) == 0 {
		return
	}
	first := slices.MinFunc(f.found, func(a, b *checkpoints.NotFiniteError) int { return strings.Compare(a.Tensor, b.Tensor) })
	slog.Warn("the checkpoint holds numbers that are not finite; they were copied as they are, and the result is of no more use than the source",
		"tensors", len(f.found), "first", first.Tensor, "value", first.Element())
}
