package calibrate

import (
	"context"

	"gqa/internal/engine/spago"
	"gqa/internal/kernels"
)

// togetherBytes is the most that the weights of a model may take, in f32, for all its layers to be fitted at once.
const togetherBytes = 1 << 30

// Fits says whether the whole model can be in memory.
func (w *Walk) Fits() bool {
	n := 0
	for _, p := range w.params {
		n += p.Size()
	}
	return 4*n <= togetherBytes
}

// togetherSteps is how many steps all layers together are given for each that a layer was given alone. They cost about as much
// as one of every layer, and gain more: an error counts there as far as predictions change by it.
const togetherSteps = 4

// Together fits the attention of all layers at once, in place, so that the converted model predicts what the original does:
// the mean Kullback-Leibler divergence in nats, by descent of togetherSteps·steps, each on one batch. It comes after the walk's last layer: what
// the original predicts is known from there.
func (w *Walk) Together(ctx context.Context, all Weights, steps int) (Fit, error) {
	d := w.newDescent(1<<32, 0.006, 0.002)
	for layer := range w.src.Arch.Layers {
		if err := w.layer(layer); err != nil {
			return Fit{}, err
		}
		w.attachTo(d, layer, all)
	}
	d.loss = w.divergence
	return d.descend(ctx, togetherSteps*steps)
}

// divergence is that of the student from the original on batch i.
func (w *Walk) divergence(i int) (spago.Tensor, error) {
	last, err := w.get(teacherState, i)
	if err != nil {
		return nil, err
	}
	b, head := w.batches[i], w.teacher.Head()
	hidden := append([]float32(nil), spago.Values(w.teacher.End(w.engine, rows(last, b)))...)
	w.engine.Reset()
	dim, vocab := len(hidden)/len(b.IDs), w.src.Arch.Vocab
	logits := []float32{}
	t := spago.Teacher{Distillation: kernels.Distillation{Weight: 1, Temperature: 1}, Rows: func(lo, hi int) kernels.Soft {
		logits = append(logits[:0], make([]float32, (hi-lo)*vocab)...)
		kernels.Gemm(false, true, hi-lo, vocab, dim, 1, hidden[lo*dim:], dim, spago.Values(head.W), dim, 0, logits, vocab)
		if head.HasBias {
			kernels.AddRows(logits, spago.Values(head.Bias), hi-lo, vocab)
		}
		return kernels.Soft{Logits: logits}
	}}
	x := w.student.Start(w.engine, b)
	for layer := range w.src.Arch.Layers {
		x = w.student.Layer(layer, w.engine, x, b)
	}
	loss, _ := w.engine.LinearDistillation(w.student.End(w.engine, x), w.student.Head(), make([]int32, len(b.IDs)), t, 1)
	return loss, nil
}
