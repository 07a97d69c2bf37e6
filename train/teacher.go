package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/device"
	"gqa/internal/engine"
	"gqa/internal/engine/infer"
	"gqa/internal/weights"
)

// teacher is the model whose predictions a run follows.
type teacher struct {
	device.Distillation
	device    device.Device
	model     *infer.Decoder
	objective data.Objective
	sum       uint32 // of its weights
	cacheDir  string // the recipe's; empty if there is none
	cacheKey  predictionsKey
	cache     *predictions // nil if the model reads every batch anew
	validLoss *float64     // see evaluate; nil until it is known
}

// errTeacher is wrapped by the error for a teacher whose predictions are not finite.
var errTeacher = errors.New("the teacher's weights or activations are too large")

// openTeacher reads the recipe's teacher, which must fit the model being trained. It returns nil if there is none.
func openTeacher(ctx context.Context, dev device.Device, r *recipe.Recipe, arch *configs.Arch, d *trainingData) (*teacher, error) {
	path := r.Distill.Teacher
	if path == "" {
		return nil, nil
	}
	src, err := weights.Open(path, weights.Options{})
	if err != nil {
		return nil, fmt.Errorf("teacher: %w", err)
	}
	defer src.Close()
	if src.Arch.Vocab != arch.Vocab {
		return nil, fmt.Errorf("teacher: %s has a vocabulary of %d, the model one of %d: it must be the model's own, most often the checkpoint that was converted",
			path, src.Arch.Vocab, arch.Vocab)
	}
	src.TellNotes()
	sum := modelSum{config: src.Config}
	m, err := infer.Build(dev, infer.Formats{}, src.Arch, sum.through(src.Weights(ctx)))
	if err != nil {
		return nil, fmt.Errorf("teacher: %w", err)
	}
	t := &teacher{
		Distillation: device.Distillation{Weight: float32(r.Distill.KLWeight()), Temperature: float32(r.Distill.Temperature)},
		device:       dev,
		model:        m,
		objective:    d.Objective,
		sum:          sum.crc(),
	}
	if err := t.model.CheckLength(r.SeqLen); err != nil {
		return nil, fmt.Errorf("teacher: seq_len: %w", err)
	}
	if !slices.Equal(src.Arch.Sites(), arch.Sites()) {
		return nil, fmt.Errorf("teacher: %s attends at %v, the model at %v: they do not predict the same", path, src.Arch.Sites(), arch.Sites())
	}
	if r.Distill.Cache == "" {
		return t, nil
	}
	t.cacheDir, t.cacheKey = r.Distill.Cache, predictionsKey{
		Teacher: t.sum, Data: d.fingerprint, SeqLen: d.rows(), Seed: r.Seed,
		Vocab: arch.Vocab, TopK: min(r.Distill.TopK, arch.Vocab), Temperature: r.Distill.Temperature,
	}
	return t, nil
}

// openCache opens the recipe's cache, if it names one, and creates it if necessary. It is called after all other checks.
func (t *teacher) openCache() (err error) {
	if t != nil && t.cacheDir != "" {
		t.cache, err = openPredictions(t.cacheDir, t.cacheKey)
	}
	return err
}

// read returns the teacher's predictions for windows, which begin with the run's window number first. They are valid
// until the next call. Without a teacher read returns nil.
func (t *teacher) read(first int, windows [][]int32) (*engine.Lesson, error) {
	switch {
	case t == nil:
		return nil, nil
	case t.cache == nil:
		return &engine.Lesson{Distillation: t.Distillation, Teacher: t.model.Teacher()}, nil
	}
	said, err := t.recall(first, windows)
	return &engine.Lesson{Distillation: t.Distillation, K: said.K, IDs: said.IDs, LogP: said.LogP}, err
}

// recall reads predictions through the cache. The model runs only on windows that are not in the cache yet.
func (t *teacher) recall(first int, windows [][]int32) (device.Soft, error) {
	soft, missing := t.cache.room(len(windows)), []int(nil)
	for i := range windows {
		held, err := t.cache.load(first+i, t.cache.window(soft, i))
		if err != nil {
			return soft, err
		}
		if !held {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return soft, nil
	}
	batch := make([][]int32, len(missing))
	for i, w := range missing {
		batch[i] = windows[w]
	}
	b, _ := t.objective.Batch(batch)
	hidden := t.model.Hidden(b)
	for i, w := range missing {
		n := hidden.Rows / len(missing)
		part := t.cache.window(soft, w)
		t.predict(part, hidden, i*n, n)
		if err := t.device.Err(); err != nil { // these are no predictions
			return soft, err
		}
		if err := t.cache.store(first+w, part); err != nil {
			return soft, err
		}
	}
	return soft, nil
}

// evaluate returns the teacher's own mean loss over all predictions of the windows, measured once. It returns nil without
// a teacher, or if the loss is not finite.
func (t *teacher) evaluate(windows [][]int32, batch int) (*float64, error) {
	if t == nil {
		return nil, nil
	}
	if t.validLoss != nil {
		return t.validLoss, nil
	}
	const rows = 256 // of logits in memory at a time
	losses, sum, all := make([]float32, rows), 0.0, 0
	for part := range slices.Chunk(windows, batch) {
		b, targets := t.objective.Batch(part)
		hidden := t.model.Hidden(b)
		for lo := 0; lo < len(targets); lo += rows {
			hi := min(lo+rows, len(targets))
			t.model.CrossEntropy(losses, t.model.Head(hidden, lo, hi), targets[lo:hi])
			for i, target := range targets[lo:hi] {
				if target >= 0 {
					sum, all = sum+float64(losses[i]), all+1
				}
			}
		}
	}
	if err := t.device.Err(); err != nil {
		return nil, err
	}
	if mean := sum / float64(max(all, 1)); isFinite(mean) {
		t.validLoss = &mean
	}
	return t.validLoss, nil
}

// release frees the memory of the last pass, which a smaller one does not need.
func (t *teacher) release() {
	if t != nil {
		t.model.Release()
	}
}

// predict fills soft with the most probable tokens of rows [lo, lo+n).
func (t *teacher) predict(soft device.Soft, hidden infer.Mat, lo, n int) {
	const logits = 1 << 22 // in memory at a time: 16 MiB
	vocab := t.model.Arch.Vocab
	step := max(1, logits/vocab)
	for at := 0; at < n; at += step {
		end := min(at+step, n)
		t.model.TopLogP(soft.IDs[at*soft.K:end*soft.K], soft.LogP[at*soft.K:end*soft.K], hidden, lo+at, lo+end, t.Temperature, soft.K)
	}
	roundHalf(soft.LogP)
}

// roundHalf rounds to the precision of the cache, so that a run gets the same numbers from the model and from the cache.
func roundHalf(x []float32) {
	for i, v := range x {
		if x[i] = checkpoints.F16ToF32(checkpoints.F32ToF16(v)); math.IsInf(float64(x[i]), -1) {
			x[i] = -65504 // the smallest f16 value
		}
	}
}

// Close closes the cache. Without a teacher or a cache it does nothing.
func (t *teacher) Close() error {
	if t == nil || t.cache == nil {
		return nil
	}
	return t.cache.Close()
}
