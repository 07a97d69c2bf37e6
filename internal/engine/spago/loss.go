package spago

import (
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/kernels"
	"gqa/internal/ops"
)

const (
	logitsBlock = 1 << 22 // logits in work at a time: 16 MiB
	logitsRows  = 64      // the fewest rows in work: each time the head is read as a whole
)

// LinearCrossEntropy is the mean over rows with target ≥ 0 of -log softmax(logits)[target], times scale: a scalar. Of the
// logits, hidden·Wᵀ + b [tokens, vocab], a block of rows exists at a time (all where they are few): it becomes its loss and, if one
// is wanted, the gradient of hidden, W and b, which the backward pass only has to hand on.
func (e *Engine) LinearCrossEntropy(hidden mat.Tensor, head ops.Linear[mat.Tensor], targets []int32, scale float32) mat.Tensor {
	return e.headLoss(&headLoss{Engine: e, targets: targets}, hidden, head, scale)
}

// Teacher is what LinearDistillation follows: Rows is what the teacher says of rows [lo,hi), valid until it is asked again.
type Teacher struct {
	kernels.Distillation
	Rows func(lo, hi int) kernels.Soft
}

// Parts are the means of a distillation's loss over the rows that count, in nats.
type Parts struct{ CrossEntropy, Divergence float64 }

// LinearDistillation is LinearCrossEntropy with kernels.Distill's loss.
func (e *Engine) LinearDistillation(hidden mat.Tensor, head ops.Linear[mat.Tensor], targets []int32, t Teacher, scale float32) (mat.Tensor, Parts) {
	l := &headLoss{Engine: e, targets: targets, teacher: &t}
	loss := e.headLoss(l, hidden, head, scale)
	return loss, l.parts
}

// headLoss records l over a head's logits of hidden.
func (e *Engine) headLoss(l *headLoss, hidden mat.Tensor, head ops.Linear[mat.Tensor], scale float32) mat.Tensor {
	operands := []mat.Tensor{hidden, head.W}
	if head.HasBias {
		operands = append(operands, head.Bias)
	}
	l.grads = make([][]float32, len(operands))
	l.hidden, l.w = valueOf(hidden), valueOf(head.W)
	if head.HasBias {
		l.bias = valueOf(head.Bias).data
	}
	for i, t := range operands {
		if !e.still && !valueOf(t).frozen {
			l.grads[i] = e.alloc(len(valueOf(t).data))
			l.wanted = true
		}
	}
	y := newValue([]float32{l.run(scale)}, 1, 1)
	return e.record(y, func(gy []float32) {
		for i, t := range operands {
			if l.grads[i] != nil {
				l.flow(gy[0], t, l.grads[i])
			}
		}
	}, operands...)
}

// headLoss is one call of LinearCrossEntropy or LinearDistillation.
type headLoss struct {
	*Engine
	hidden, w *value
	bias      []float32
	targets   []int32
	teacher   *Teacher // nil: cross-entropy
	parts     Parts    // where there is a teacher
	wanted    bool
	grads     [][]float32 // of hidden, W and b; nil where not wanted
}

// run returns the loss and fills the gradients that are wanted.
func (l *headLoss) run(scale float32) float32 {
	rows, vocab := len(l.targets), l.w.rows()
	counted := 0
	for _, t := range l.targets {
		if t >= 0 {
			counted++
		}
	}
	scale /= float32(max(counted, 1))
	blocks := (rows-1)/max(logitsBlock/vocab, logitsRows) + 1
	size := (rows + blocks - 1) / blocks
	logits, losses, divergences := l.alloc(size*vocab), l.alloc(rows), l.alloc(rows)
	for lo := 0; lo < rows && !l.stopped(); lo += size {
		l.block(logits, losses, divergences, lo, min(lo+size, rows), scale)
	}
	loss := sum(losses)
	if l.teacher != nil {
		n, kl, d := float64(max(counted, 1)), sum(divergences), l.teacher.Distillation
		l.parts = Parts{CrossEntropy: loss / n, Divergence: kl / n}
		loss = float64(1-d.Weight)*loss + float64(d.Weight*d.Temperature*d.Temperature)*kl
	}
	l.free(logits)
	l.free(losses)
	l.free(divergences)
	return float32(loss) * scale
}

func sum(values []float32) float64 {
	total := 0.0
	for _, x := range values {
		total += float64(x)
	}
	return total
}

// block is rows [lo,hi): scale is of the gradient.
func (l *headLoss) block(logits, losses, divergences []float32, lo, hi int, scale float32) {
	rows, vocab, dim := hi-lo, l.w.rows(), l.w.cols()
	logits, losses = logits[:rows*vocab], losses[lo:hi]
	x, targets := l.hidden.data[lo*dim:hi*dim], l.targets[lo:hi]
	l.gemm(false, true, rows, vocab, dim, x, dim, l.w.data, dim, 0, logits, vocab)
	if l.bias != nil {
		kernels.AddRows(logits, l.bias, rows, vocab)
	}
	switch t := l.teacher; {
	case t != nil:
		kernels.Distill(losses, divergences[lo:hi], logits, targets, t.Rows(lo, hi), t.Distillation, scale, rows, vocab)
	case l.wanted:
		kernels.CrossEntropyGradient(losses, logits, targets, scale, rows, vocab)
	default:
		kernels.CrossEntropy(losses, nil, logits, targets, rows, vocab)
	}
	if !l.wanted {
		return
	}
	if dx := l.grads[0]; dx != nil {
		l.gemm(false, false, rows, dim, vocab, logits, vocab, l.w.data, dim, 0, dx[lo*dim:], dim)
	}
	if dw := l.grads[1]; dw != nil {
		l.gemm(true, false, vocab, dim, rows, logits, vocab, x, dim, float32(min(lo, 1)), dw, dim)
	}
	if l.bias != nil && l.grads[2] != nil {
		if lo == 0 {
			clear(l.grads[2])
		}
		kernels.SumRows(l.grads[2], logits, rows, vocab)
	}
}

// flow gives an operand its gradient, times that of the loss.
func (l *headLoss) flow(g float32, operand mat.Tensor, grad []float32) {
	if g != 1 {
		kernels.Scale(grad, g)
	}
	l.give(operand, grad)
}
