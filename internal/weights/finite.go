package weights

import (
	"context"
	"errors"

	"gqa/checkpoints"
)

// CheckFinite reads the architecture's tensors once, and returns an error for the first that contains NaN or an
// infinity. Other tensors of the checkpoint, such as masks, may contain them. progress, if not nil, is called with the
// number of bytes read.
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

// NotFinite returns errors for the architecture's tensors that contain NaN or an infinity, at most most of them; 0:
// all. progress, if not nil, is called with the number of bytes read.
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

// CheckTensor is CheckFinite for a single tensor.
func (s *Source) CheckTensor(ctx context.Context, t *checkpoints.Tensor) error {
	if s.finite || !s.own[t.Name] {
		return nil
	}
	return t.CheckFinite(ctx)
}

// OwnBytes returns the total size of the tensors that NotFinite reads, in bytes.
func (s *Source) OwnBytes() (n int64) {
	for _, t := range s.tensors() {
		n += t.Bytes()
	}
	return n
}

// tensors returns the architecture's tensors.
func (s *Source) tensors() (all []*checkpoints.Tensor) {
	for _, name := range s.Names() {
		if t, _ := s.Tensor(name); s.own[name] {
			all = append(all, t)
		}
	}
	return all
}
