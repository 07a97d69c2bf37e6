package convert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert/offload"
)

// reader computes the weights of a result one by one for a target: see [target.Reader].
type reader struct {
	*Plan
	store      *offload.Store // the weights that a merge computed, by the names of Arch.Params
	stored     []float32      // the source's tensor that was read last; its memory is reused
	storedName string         // its name; empty if stored may have been changed since
	lock       sync.Mutex
	notFinite  []*checkpoints.NotFiniteError // of tensors that were copied nevertheless
}

// Read returns weight i of the result.
func (r *reader) Read(ctx context.Context, i int) ([]float32, error) {
	w := r.result.Weights[i]
	if r.merged[w.Name] {
		return r.mergedWeight(w.Param)
	}
	values, err := r.source(ctx, w.From)
	if err != nil {
		return nil, err
	}
	if r.Pool != nil {
		return poolWith(r.Pool, values, w.From.KVHeads, w.KVHeads), nil
	}
	return pool(r.poolBy(w.Param), values, w.From.KVHeads, w.KVHeads, w.Bias, w.Name, r.Seed), nil
}

// mergedWeight returns a weight of the result that the merge computed.
func (r *reader) mergedWeight(w configs.Param) ([]float32, error) {
	values, ok, err := r.store.Get(w.Name)
	if err == nil && (!ok || len(values) != w.Size()) {
		err = fmt.Errorf("tensor %s: the merge gave %d values of %s, want %v", w.Tensor, len(values), w.Name, w.Shape)
	}
	return values, err
}

// source returns a weight of the source. Consecutive weights of a fused tensor need only one read.
func (r *reader) source(ctx context.Context, p configs.Param) ([]float32, error) {
	if p.Parts != nil {
		return r.Source.Read(ctx, p)
	}
	if r.storedName != p.Tensor {
		var err error
		r.storedName = ""
		if r.stored, err = r.Source.ReadTensor(ctx, p.Tensor, r.stored); err != nil {
			return nil, err
		}
	}
	if p.Rows != nil || p.Transposed {
		r.storedName = p.Tensor
		return p.Take(r.stored), nil
	}
	r.storedName = "" // the caller may change the values
	return r.stored, nil
}

// Check reads a tensor of the source before it is copied or used in a computation. If a tensor of the architecture is not
// finite, Check returns an error if the tensor is used in a computation and otherwise remembers it.
func (r *reader) Check(ctx context.Context, t *checkpoints.Tensor, computed bool) error {
	err := r.Source.CheckTensor(ctx, t)
	var not *checkpoints.NotFiniteError
	if computed || !errors.As(err, &not) {
		return err
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.notFinite = append(r.notFinite, not)
	return nil
}

// warn logs one line about the tensors that hold NaN or infinities and were copied nevertheless.
func (r *reader) warn() {
	if len(r.notFinite) == 0 {
		return
	}
	first := slices.MinFunc(r.notFinite, func(a, b *checkpoints.NotFiniteError) int { return strings.Compare(a.Tensor, b.Tensor) })
	slog.Warn("the checkpoint holds numbers that are not finite; they were copied unchanged, so the result is no more usable than the source",
		"tensors", len(r.notFinite), "first", first.Tensor, "value", first.Element())
}
