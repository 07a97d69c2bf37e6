package spago

import (
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/device"
	"gqa/internal/ops"
)

// logitsRows is the minimum number of rows whose logits are computed at a time, since each time the whole head is read.
const logitsRows = 64

// Loss is a scalar of the graph whose value the device may still be computing.
type Loss struct {
	Tensor mat.Tensor
	ce, kl device.Number // sums over the rows; kl is nil without a teacher
	how    device.Distillation
	rows   int // number of rows with a target
	scale  float32
}

// Read waits for the loss, in nats per token, times its scale, and for its parts: the means over the rows with a
// target. It may be called at any time, even after Backward.
func (l Loss) Read() (value, crossEntropy, divergence float64) {
	ce, n := l.ce(), float64(l.rows)
	if l.kl == nil {
		return float64(float32(ce) * l.scale), ce / n, 0
	}
	kl := l.kl()
	both := float64(1-l.how.Weight)*ce + float64(l.how.Weight*l.how.Temperature*l.how.Temperature)*kl
	return float64(float32(both) * l.scale), ce / n, kl / n
}

// LinearCrossEntropy returns the mean over rows with target ≥ 0 of -log softmax(logits)[target], times scale. The
// logits, hidden·Wᵀ + b [tokens, vocab], are computed in blocks of rows (all at once if there are few). Each block is
// reduced to its loss and, if required, to the gradients of hidden, W and b, which the backward pass only has to pass
// on.
func (e *Engine) LinearCrossEntropy(hidden mat.Tensor, head ops.Linear[mat.Tensor], targets []int32, scale float32) Loss {
	return e.headLoss(&headLoss{Engine: e, targets: targets}, hidden, head, scale)
}

// Teacher is the input of LinearDistillation: hidden states of a teacher with its head, or the teacher's most probable
// tokens.
type Teacher struct {
	device.Distillation
	Hidden  device.Buffer // [rows, dim]
	W, Bias device.Buffer // of the head, [vocab, dim] and [vocab]; Bias may be omitted

	Soft device.Soft // of all rows, if Hidden is omitted
}

// TeacherOf returns a teacher with hidden states [rows, dim] in the device's memory and a head, which belongs to this engine.
func (e *Engine) TeacherOf(hidden device.Buffer, head ops.Linear[mat.Tensor], d device.Distillation) Teacher {
	t := Teacher{Distillation: d, Hidden: hidden, W: valueOf(head.W).data}
	if head.HasBias {
		t.Bias = valueOf(head.Bias).data
	}
	return t
}

// rows returns the teacher's predictions for rows [lo,hi), using logits as scratch space if needed.
func (t *Teacher) rows(d device.Device, logits device.Buffer, lo, hi, vocab int) device.Soft {
	if s := t.Soft; t.Hidden.None() {
		return device.Soft{K: s.K, IDs: s.IDs[lo*s.K : hi*s.K], LogP: s.LogP[lo*s.K : hi*s.K]}
	}
	dim, own := t.W.Len()/vocab, logits
	if t.Hidden.Format() != logits.Format() { // the teacher computes in another
		own = d.New(t.Hidden.Format(), (hi-lo)*vocab)
		defer d.Free(own)
	}
	d.Gemm(false, true, hi-lo, vocab, dim, 1, t.Hidden.Slice(lo*dim, hi*dim), dim, t.W, dim, 0, own, vocab)
	if !t.Bias.None() {
		d.AddRows(own, t.Bias, hi-lo, vocab)
	}
	if own.Format() != logits.Format() {
		d.Copy(logits, own)
	}
	return device.Soft{Logits: logits}
}

// LinearDistillation is LinearCrossEntropy with the loss of device.Distillation.
func (e *Engine) LinearDistillation(hidden mat.Tensor, head ops.Linear[mat.Tensor], targets []int32, t Teacher, scale float32) Loss {
	return e.headLoss(&headLoss{Engine: e, targets: targets, teacher: &t}, hidden, head, scale)
}

// headLoss records l for the logits that a head computes from hidden.
func (e *Engine) headLoss(l *headLoss, hidden mat.Tensor, head ops.Linear[mat.Tensor], scale float32) Loss {
	hidden = e.dense(hidden)
	operands := []mat.Tensor{hidden, head.W}
	if head.HasBias {
		operands = append(operands, head.Bias)
	}
	l.grads = make([]device.Buffer, len(operands))
	l.hidden, l.w = valueOf(hidden).ready(), use(valueOf(head.W))
	if head.HasBias {
		l.bias = use(valueOf(head.Bias)).data
	}
	for i, t := range operands {
		if e.noGrad || valueOf(t).frozen {
			continue
		}
		format := valueOf(t).gradFormat
		if i > 0 && l.atOnce() < len(l.targets) {
			format = device.F32 // blocks are added up
		}
		l.grads[i] = e.device.New(format, valueOf(t).Size())
		l.wanted = true
	}
	y := e.sum(1, 1)
	loss := l.run(y.data, scale)
	loss.Tensor = e.record(y, func(gy device.Buffer) {
		for i, t := range operands {
			if !valueOf(t).frozen { // even if there was no memory for it, as spago waits for every gradient
				e.device.ScaleBy(l.grads[i], gy)
				e.give(t, l.grads[i])
			}
		}
	}, operands...)
	return loss
}

// headLoss is a call of LinearCrossEntropy or LinearDistillation.
type headLoss struct {
	*Engine
	hidden, w *value
	bias      device.Buffer
	targets   []int32
	teacher   *Teacher // nil for cross-entropy
	wanted    bool
	grads     []device.Buffer // of hidden, W and b; omitted where not required
}

// run writes the loss to y, returns it without its tensor, and computes the required gradients.
func (l *headLoss) run(y device.Buffer, scale float32) Loss {
	rows, vocab := len(l.targets), l.w.rows
	counted := 0
	for _, t := range l.targets {
		if t >= 0 {
			counted++
		}
	}
	scale /= float32(max(counted, 1))
	size := l.atOnce()
	logits, losses, divergences := l.activations(size*vocab), l.alloc(rows), l.alloc(rows)
	var teacher device.Buffer // its logits
	if l.teacher != nil && !l.teacher.Hidden.None() {
		teacher = l.activations(size * vocab)
	}
	for lo := 0; lo < rows; lo += size {
		l.block(logits, teacher, losses, divergences, lo, min(lo+size, rows), scale)
	}
	loss := l.total(y, losses, divergences, scale, max(counted, 1))
	for _, b := range []device.Buffer{logits, teacher, losses, divergences} {
		l.free(b)
	}
	return loss
}

// atOnce returns the number of rows of a block.
func (l *headLoss) atOnce() int {
	rows := len(l.targets)
	blocks := (rows-1)/max(l.device.LogitsAtOnce()/l.w.rows, logitsRows) + 1
	return (rows + blocks - 1) / blocks
}

// total sums over the rows.
func (l *headLoss) total(y, losses, divergences device.Buffer, scale float32, counted int) Loss {
	loss := Loss{ce: l.device.Sum(device.Term{X: losses, Weight: 1}), rows: counted, scale: scale}
	if l.teacher == nil {
		l.device.Total(y, scale, device.Term{X: losses, Weight: 1})
		return loss
	}
	loss.how = l.teacher.Distillation
	loss.kl = l.device.Sum(device.Term{X: divergences, Weight: 1})
	l.device.Total(y, scale, device.Term{X: losses, Weight: float64(1 - loss.how.Weight)},
		device.Term{X: divergences, Weight: float64(loss.how.Weight * loss.how.Temperature * loss.how.Temperature)})
	return loss
}

// block computes rows [lo,hi); scale is for the gradient.
func (l *headLoss) block(logits, teacher, losses, divergences device.Buffer, lo, hi int, scale float32) {
	d, rows, vocab, dim := l.device, hi-lo, l.w.rows, l.w.cols
	logits, losses = logits.Slice(0, rows*vocab), losses.Slice(lo, hi)
	x, targets := l.hidden.data.Slice(lo*dim, hi*dim), l.targets[lo:hi]
	d.Gemm(false, true, rows, vocab, dim, 1, x, dim, l.w.operand(), dim, 0, logits, vocab)
	if !l.bias.None() {
		d.AddRows(logits, l.bias, rows, vocab)
	}
	switch t := l.teacher; {
	case t != nil:
		d.Distill(losses, divergences.Slice(lo, hi), logits, targets, t.rows(d, teacher, lo, hi, vocab), t.Distillation, scale, rows, vocab)
	case l.wanted:
		d.CrossEntropyGradient(losses, logits, targets, scale, rows, vocab)
	default:
		d.CrossEntropy(losses, logits, targets, rows, vocab)
	}
	if !l.wanted {
		return
	}
	if dx := l.grads[0]; !dx.None() {
		d.Gemm(false, false, rows, dim, vocab, 1, logits, vocab, l.w.operand(), dim, 0, dx.From(lo*dim), dim)
	}
	if dw := l.grads[1]; !dw.None() {
		d.Gemm(true, false, vocab, dim, rows, 1, logits, vocab, x, dim, float32(min(lo, 1)), dw, dim)
	}
	if !l.bias.None() && !l.grads[2].None() {
		if lo == 0 {
			d.Clear(l.grads[2])
		}
		d.SumRows(l.grads[2], logits, rows, vocab)
	}
}
