package infer

import (
	"gqa/internal/device"
	"gqa/internal/ops"
)

// Teacher is a decoder used as a trainer's teacher.
type Teacher struct{ d *Decoder }

// Teacher returns d as an engine.Teacher.
func (d *Decoder) Teacher() Teacher { return Teacher{d} }

// Hidden implements engine.Teacher.
func (t Teacher) Hidden(b ops.Batch) device.Buffer { return t.d.Hidden(b).Buffer }

// Head implements engine.Teacher.
func (t Teacher) Head() (w, bias device.Buffer) {
	head := t.d.model.Head()
	if head.HasBias {
		bias = head.Bias.Buffer
	}
	return head.W.Buffer, bias
}

// CrossEntropy writes the loss of each row of logits to losses, 0 where the target is negative.
func (d *Decoder) CrossEntropy(losses []float32, logits Mat, targets []int32) {
	out := d.eng.floats.take(logits.Rows)
	d.device.CrossEntropy(out, logits.Buffer, targets, logits.Rows, logits.Cols)
	copy(losses, d.device.Host(out))
}

// Divergence writes KL(teacher || d) of the predictions in each row to kl, in nats, 0 where the target is negative, given the logits of both,
// on devices that share their memory. It overwrites d's.
func (d *Decoder) Divergence(kl []float32, logits, teacher Mat, targets []int32) {
	out, unused := d.eng.floats.take(logits.Rows), d.eng.floats.take(logits.Rows)
	d.device.Distill(unused, out, logits.Buffer, targets, device.Soft{Logits: teacher.Buffer}, device.Distillation{Weight: 1, Temperature: 1},
		1, logits.Rows, logits.Cols)
	copy(kl, d.device.Host(out))
}

// TopLogP writes the k largest log-probabilities of each row [lo, hi) of the last Hidden, at a temperature, and their
// IDs.
func (d *Decoder) TopLogP(ids []int32, logP []float32, hidden Mat, lo, hi int, temperature float32, k int) {
	d.device.TopLogP(ids, logP, d.Head(hidden, lo, hi).Buffer, temperature, hi-lo, d.Arch.Vocab, k)
}
