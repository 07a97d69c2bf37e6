// Package engine defines what training needs from an engine.
package engine

import (
	"gqa/internal/device"
	"gqa/internal/ops"
)

// Trainer is a model in training on some device, with its optimizer. It must be used by one goroutine.
type Trainer interface {
	// Accumulate runs a micro-batch forward and backward and adds share times the gradient of its loss to the
	// gradients. targets holds the token to predict for each row; rows with a negative target are ignored. With a
	// lesson the loss includes the divergence from a teacher.
	Accumulate(b ops.Batch, targets []int32, lesson *Lesson, share float32) (Loss, error)
	// Final says that the next call of Accumulate or Idle is the step's last: where several processes train a model, gradients are summed
	// over them as soon as they are complete.
	Final()
	// Idle takes the place of a call of Accumulate that other processes make. Only a Trainer that sums gradients after each call needs
	// it, and each process must have called Accumulate before in the step.
	Idle() error
	// Settle waits for what other processes have computed. All must call it before one of them calls Evaluate.
	Settle()
	// Divides reports whether each process has only a part of the weights: then all must call Evaluate as often as each other.
	Divides() bool
	// Step performs step n, counted from 1, and clears the gradients. It returns the norm of all gradients as one vector, which the
	// device may still be computing. If that is not finite, nothing but the gradients has changed.
	Step(n int, lr float64) (norm device.Number)
	// Guard sets a function that decides, given the norm of a step's gradient, whether the step is made. Otherwise only the gradients
	// change. The device must have computed the norm then, so steps take longer. nil makes all steps.
	Guard(allow func(norm float64) bool)
	// Evaluate returns the mean loss of a batch over the rows with a target, without training on it.
	Evaluate(b ops.Batch, targets []int32) float64
	// Averaged runs f with the model in the state of the result: with averaged weights, if there is an average.
	Averaged(f func())
	// Finite reports whether weights, averages and the optimizer's state are finite.
	Finite() bool
	// Lead runs f, in which Result and State's Get may be called, on rank 0 of several processes. On the others it gives rank 0 their parts
	// of what it asks for, and does not call f. All must call it.
	Lead(f func() error) error
	// Result returns a weight of the result if training ended now, by the forward pass's name: [rows, cols], read-only.
	Result(name string) []float32
	// State returns the tensors that the next step needs besides the result.
	State() []State
	// Economise sets how a step saves memory. It must not be called within a step, unless that is abandoned first.
	Economise(Economy)
	// Abandon forgets what an unfinished step has computed.
	Abandon()
	// Err returns the first error of the device, for example that its memory is exhausted, or of the connection to other processes. Results are meaningless after one.
	Err() error
	// Close releases the trainer's memory.
	Close() error
}

// Economy is how a step saves memory.
type Economy struct {
	Recompute    ops.Recompute
	MicroBatches int // number of times that Accumulate is called in a step
}

// State is a named tensor of a trainer.
type State struct {
	Name  string
	Shape []int
	Get   func() []float32       // read-only
	Set   func(values []float32) // copies values
}

// Loss is a loss that the device may still be computing.
type Loss interface {
	// Read waits for the loss, in nats per token times its share, and returns it with its parts: cross-entropy and
	// divergence from the teacher, without the share.
	Read() (value, crossEntropy, divergence float64)
}

// Lesson is a teacher's predictions for the rows of a micro-batch, and their part in the loss.
type Lesson struct {
	device.Distillation
	Teacher Teacher // reads the same batch; nil if the most probable tokens are given

	K    int
	IDs  []int32   // [rows, K]
	LogP []float32 // [rows, K], at Temperature
}

// Teacher is a model on the trainer's device.
type Teacher interface {
	// Hidden runs a batch and returns the hidden states [rows, dim], valid until the next pass.
	Hidden(b ops.Batch) device.Buffer
	// Head returns the weight [vocab, dim] and the bias [vocab], which may be omitted, that map hidden states to
	// logits.
	Head() (w, bias device.Buffer)
}
