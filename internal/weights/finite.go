package weights

import (
	"context"
	"errors"

	"gqa/checkpoints"
)

// CheckFinite reads the tensors of the architecture once, and returns the error about the first that holds NaN or an
// infinity. What else the checkpoint carries along, such as a mask, may hold them.
func (s *Source) CheckFinite(ctx context.Context, progress func(bytes int64)) error {
	if s.finite {
		return nil
	}
	found, err := s.NotFinite(ctx, 1, progress)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return found[0]
	}
	s.finite = true
	return nil
}

// NotFinite lists the tensors of the architecture that hold NaN or an infinity, most of them at most; 0: all. progress, if
// not nil, is told of the bytes as they are read.
func (s *Source) NotFinite(ctx context.Context, most int, progress func(bytes int64)) (found []*checkpoints.NotFiniteError, err error) {
	for _, t := range s.tensors() {
		var not *checkpoints.NotFiniteError
		switch err := t.CheckFinite(ctx); {
		case errors.As(err, &not):
			if found = append(found, not); len(found) == most {
				return found, nil
			}
		case err != nil:
			return nil, err
		}
		if progress != nil {
			progress(t.Bytes())
		}
	}
	return found, nil
}

// CheckTensor is CheckFinite of one tensor.
func (s *Source) CheckTensor(ctx context.Context, t *checkpoints.Tensor) error {
	if s.finite || !s.own[t.Name] {
		return nil
	}
	return t.CheckFinite(ctx)
}

// OwnBytes is the size of the tensors that NotFinite reads.
func (s *Source) OwnBytes() (n int64) {
	for _, t := range s.tensors() {
		n += t.Bytes()
	}
	return n
}

// tensors are those of the architecture.
func (s *Source) tensors() (all []*checkpoints.Tensor) {
	for _, name := range s.Names() {
		if t, _ := s.Tensor(name); s.own[name] {
			all = append(all, t)
		}
	}
	return all
}
