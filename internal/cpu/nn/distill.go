package nn

import (
	"math"
	"slices"
	"sync"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// Soft holds what a teacher predicts for some rows: all its logits, or only its K most probable tokens.
type Soft struct {
	Logits []float32 // [rows, vocab]; if nil, IDs and LogP are used

	K    int
	IDs  []int32   // [rows, K], different within a row
	LogP []float32 // [rows, K], log-probabilities at Distillation's temperature, ≤ 0
}

// Distillation is a loss that follows a teacher (Hinton et al. 2015, arXiv 1503.02531, section 2):
//
//	(1-Weight)·CE(target) + Weight·Temperature²·KL(teacher || student), both softmaxes of logits/Temperature in KL
//
// If Soft has only K tokens, the others are one event with the rest of the probability.
type Distillation struct {
	Weight      float32 // 0 to 1
	Temperature float32 // more than 0
}

// tailFloor avoids a division by zero for a student that is almost sure of a teacher's K tokens.
const tailFloor = 1e-6

// Distill writes the cross-entropy ce [rows] and the divergence kl [rows] of each row of logits [rows, vocab], in nats, and
// turns logits into scale times the gradient of the loss. Rows whose target is negative give 0.
func Distill(ce, kl, logits []float32, targets []int32, soft Soft, d Distillation, scale float32, rows, vocab int) {
	pool.For(rows, pool.Grain(vocab), func(lo, hi int) {
		w := distillers.Get().(*distiller)
		defer distillers.Put(w)
		w.Distillation, w.scale = d, scale
		w.kept = slices.Grow(w.kept[:0], soft.K)[:soft.K]
		for r := lo; r < hi; r++ {
			row := logits[r*vocab:][:vocab]
			switch {
			case targets[r] < 0:
				clear(row)
				ce[r], kl[r] = 0, 0
			case soft.Logits != nil:
				ce[r], kl[r] = w.row(row, soft.Logits[r*vocab:][:vocab], targets[r])
			default:
				ce[r], kl[r] = w.topRow(row, soft.IDs[r*soft.K:][:soft.K], soft.LogP[r*soft.K:][:soft.K], targets[r])
			}
		}
	})
}

// distiller is one task's scratch.
type distiller struct {
	Distillation
	scale   float32
	q, p, e [expBlock]float32
	kept    []float32 // the student's probabilities of a teacher's K tokens
}

var distillers = sync.Pool{New: func() any { return new(distiller) }}

// row computes a row of Distill from a whole row of the teacher's logits.
func (w *distiller) row(z, teacher []float32, target int32) (ce, kl float32) {
	s := w.softmax(z)
	top := simd.Max(teacher)
	sum, cross := w.expSum(teacher, top, w.Temperature), 0.0
	picked := z[target]
	for i := 0; i < len(z); i += expBlock {
		part, other := z[i:min(i+expBlock, len(z))], teacher[i:min(i+expBlock, len(z))]
		p := w.p[:len(part)]
		w.exp(p, other, top, w.Temperature)
		simd.Scale(p, float32(1/sum))
		cross += float64(simd.Dot(p, other)) - float64(simd.Dot(p, part))
		w.gradient(part, s, 1)
		simd.Axpy(-w.klScale(), p, part)
	}
	z[target] -= (1 - w.Weight) * w.scale
	t := float64(w.Temperature)
	kl = float32((cross-float64(top)+float64(s.top))/t - math.Log(sum) + math.Log(s.soft))
	return s.crossEntropy(picked), max(kl, 0)
}

// topRow computes a row of Distill from a teacher's most probable tokens.
func (w *distiller) topRow(z []float32, ids []int32, logP []float32, target int32) (ce, kl float32) {
	s := w.softmax(z)
	pTail, qTail, sum := 1.0, 1.0, 0.0
	for j, id := range ids {
		logQ := float64(z[id]-s.top)/float64(w.Temperature) - math.Log(s.soft)
		p, q := math.Exp(float64(logP[j])), math.Exp(logQ)
		sum += p * (float64(logP[j]) - logQ)
		pTail, qTail = pTail-p, qTail-q
		w.kept[j] = float32(q)
	}
	pTail, qTail = max(pTail, 0), max(qTail, tailFloor)
	if pTail > 0 {
		sum += pTail * math.Log(pTail/qTail)
	}
	ratio := float32(pTail / qTail) // of the tail's gradient, q - q·pTail/qTail
	ce = s.crossEntropy(z[target])
	for i := 0; i < len(z); i += expBlock {
		w.gradient(z[i:min(i+expBlock, len(z))], s, 1-ratio)
	}
	for j, id := range ids {
		z[id] += w.klScale() * (w.kept[j]*ratio - float32(math.Exp(float64(logP[j]))))
	}
	z[target] -= (1 - w.Weight) * w.scale
	return ce, max(float32(sum), 0)
}

// klScale returns the factor of the divergence's gradient in a logit: Weight·Temperature², and 1/Temperature from logits/Temperature.
func (w *distiller) klScale() float32 { return w.scale * w.Weight * w.Temperature }

// student describes the softmaxes of a row: its largest logit, and the sums of exponentials below it at temperature 1 and Temperature.
type student struct {
	top        float32
	hard, soft float64
}

func (s student) crossEntropy(picked float32) float32 {
	return float32(float64(s.top)+math.Log(s.hard)) - picked
}

func (w *distiller) softmax(z []float32) student {
	s := student{top: simd.Max(z)}
	s.hard = w.expSum(z, s.top, 1)
	s.soft = s.hard
	if w.Temperature != 1 {
		s.soft = w.expSum(z, s.top, w.Temperature)
	}
	return s
}

// expSum returns Σ exp((x - top)/temperature).
func (w *distiller) expSum(x []float32, top, temperature float32) float64 {
	sum := 0.0
	for i := 0; i < len(x); i += expBlock {
		part := x[i:min(i+expBlock, len(x))]
		sum += float64(w.exp(w.e[:len(part)], part, top, temperature))
	}
	return sum
}

// exp computes y = exp((x - top)/temperature) and returns its sum.
func (w *distiller) exp(y, x []float32, top, temperature float32) float32 {
	if temperature == 1 {
		return simd.ExpSum(y, x, top)
	}
	simd.Affine(y, x, 1/temperature, -top/temperature)
	return simd.ExpSum(y, y, 0)
}

// gradient turns a part of a row into (1-Weight)·softmax(z) + tail·Weight·Temperature·softmax(z/Temperature), times scale.
func (w *distiller) gradient(z []float32, s student, tail float32) {
	q := w.q[:len(z)]
	w.exp(q, z, s.top, w.Temperature)
	soft := tail * w.klScale() / float32(s.soft)
	hard := (1 - w.Weight) * w.scale / float32(s.hard)
	if w.Temperature == 1 {
		simd.Affine(z, q, soft+hard, 0)
		return
	}
	w.exp(w.e[:len(z)], z, s.top, 1)
	simd.Affine(z, q, soft, 0)
	simd.Axpy(hard, w.e[:len(z)], z)
}

// DistillRef is the definition of Distill, in float64.
func DistillRef(ce, kl, logits []float32, targets []int32, soft Soft, d Distillation, scale float32, rows, vocab int) {
	w, t := float64(d.Weight), float64(d.Temperature)
	for r := range rows {
		z := logits[r*vocab:][:vocab]
		ce[r], kl[r] = 0, 0
		if targets[r] < 0 {
			clear(z)
			continue
		}
		hard, q := softmaxRef(z, 1), softmaxRef(z, t)
		p := make([]float64, vocab)
		if soft.Logits != nil {
			p = softmaxRef(soft.Logits[r*vocab:][:vocab], t)
		} else {
			topRef(p, q, soft.IDs[r*soft.K:][:soft.K], soft.LogP[r*soft.K:][:soft.K])
		}
		divergence := 0.0
		for i := range z {
			if p[i] > 0 {
				divergence += p[i] * math.Log(p[i]/q[i])
			}
			z[i] = float32(float64(scale) * ((1-w)*hard[i] + w*t*(q[i]-p[i])))
		}
		z[targets[r]] -= float32(float64(scale) * (1 - w))
		ce[r], kl[r] = float32(-math.Log(hard[targets[r]])), float32(divergence)
	}
}

// topRef fills p from a teacher's most probable tokens; the others share the rest as the student's q has it.
func topRef(p, q []float64, ids []int32, logP []float32) {
	pTail, qTail := 1.0, 1.0
	for j, id := range ids {
		p[id] = math.Exp(float64(logP[j]))
		pTail, qTail = pTail-p[id], qTail-q[id]
	}
	for i := range p {
		if p[i] == 0 {
			p[i] = max(pTail, 0) * q[i] / max(qTail, tailFloor)
		}
	}
}

func softmaxRef(x []float32, temperature float64) []float64 {
	y, top, sum := make([]float64, len(x)), float64(slices.Max(x)), 0.0
	for i, v := range x {
		y[i] = math.Exp((float64(v) - top) / temperature)
		sum += y[i]
	}
	for i := range y {
		y[i] /= sum
	}
	return y
}
