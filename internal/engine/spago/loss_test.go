package spago

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"gqa/internal/cpu/blas"
	kernels "gqa/internal/cpu/nn"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/ops"
)

// The loss and its gradients do not depend on the division of rows into blocks.
func TestLinearCrossEntropyBlocks(t *testing.T) {
	const rows, vocab, dim = 2*logitsRows + 5, 1<<22/logitsRows + 7, 3 // more than the CPU computes at a time
	r := rand.New(rand.NewPCG(1, 2))
	normal := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	hidden := &nn.Param{Matrix: newValue(cpu.New(), device.HostF32(normal(rows*dim)), rows, dim)}
	w := &nn.Param{Matrix: newValue(cpu.New(), device.HostF32(normal(vocab*dim)), vocab, dim)}
	bias := &nn.Param{Matrix: newValue(cpu.New(), device.HostF32(normal(vocab)), vocab, 1)}
	targets := make([]int32, rows)
	for i := range targets {
		targets[i] = int32(i*997%vocab) - int32(i%5/4*vocab) // every fifth row is skipped
	}
	e := New(cpu.New())
	loss := e.LinearCrossEntropy(hidden, ops.Linear[mat.Tensor]{W: w, Bias: bias, HasBias: true}, targets, 2)
	err := e.Backward(loss.Tensor)
	got, _, _ := loss.Read() // at any time
	if err != nil {
		t.Fatal(err)
	}

	logits, losses := make([]float32, rows*vocab), make([]float32, rows)
	blas.Gemm(false, true, rows, vocab, dim, 1, Data(hidden).F32(), dim, Data(w).F32(), dim, 0, logits, vocab)
	kernels.AddRows(logits, Data(bias).F32(), rows, vocab)
	counted := rows - rows/5
	kernels.CrossEntropyGradient(losses, logits, targets, 2/float32(counted), rows, vocab)
	dx, dw, db := make([]float32, rows*dim), make([]float32, vocab*dim), make([]float32, vocab)
	blas.Gemm(false, false, rows, dim, vocab, 1, logits, vocab, Data(w).F32(), dim, 0, dx, dim)
	blas.Gemm(true, false, vocab, dim, rows, 1, logits, vocab, Data(hidden).F32(), dim, 0, dw, dim)
	kernels.SumRows(db, logits, rows, vocab)
	want := 0.0
	for _, x := range losses {
		want += 2 * float64(x) / float64(counted)
	}
	if math.Abs(got-want) > 1e-5*want {
		t.Errorf("loss %v, want %v", got, want)
	}
	for i, c := range []struct{ got, want []float32 }{{Grad(hidden).F32(), dx}, {Grad(w).F32(), dw}, {Grad(bias).F32(), db}} {
		if len(c.got) != len(c.want) {
			t.Fatalf("operand %d: a gradient of %d values, want %d", i, len(c.got), len(c.want))
		}
		for j, x := range c.got {
			if !near(x, float64(c.want[j])) {
				t.Fatalf("operand %d, value %d: gradient %v, want %v", i, j, x, c.want[j])
			}
		}
	}
}

// Without a tape the loss is the same and leaves no gradient; afterwards training goes on.
func TestNoGrad(t *testing.T) {
	x := newTrial(t, gptConfig)
	loss, want := x.step(t)
	for _, p := range x.params.List {
		p.ZeroGrad()
	}
	x.engine.NoGrad(func() {
		if got := x.loss().Item().F64(); got != loss {
			t.Errorf("the loss is %v, want %v", got, loss)
		}
	})
	if len(x.engine.tape) > 0 {
		t.Errorf("%d operators on the tape, want none", len(x.engine.tape))
	}
	x.engine.Reset()
	if _, again := x.step(t); !slices.EqualFunc(again, want, slices.Equal[[]float32]) {
		t.Error("other gradients after a pass without a tape")
	}
}
