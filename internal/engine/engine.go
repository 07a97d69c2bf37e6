// Package engine is what training asks of the engines below it.
package engine

import (
	"gqa/internal/device"
	"gqa/internal/ops"
)

// Trainer is a model in training on some device, with its optimizer. It is for one goroutine.
type Trainer interface {
	// Accumulate runs a micro-batch forward and backward and adds share times the gradient of its loss to the gradients.
	// targets is what each row should predict; a negative one does not count. With a lesson the loss also follows a teacher.
	Accumulate(b ops.Batch, targets []int32, lesson *Lesson, share float32) (Loss, error)
	// GradNorm is the norm of all gradients as one vector.
	GradNorm() float64
	// Step makes step n, from 1, on gradients of that norm, and forgets them.
	Step(n int, lr, norm float64)
	// Evaluate is the mean loss of a batch over the rows that count, without training on it.
	Evaluate(b ops.Batch, targets []int32) float64
	// Averaged runs f with the model as the result has it: the average of its weights, if one is kept.
	Averaged(f func())
	// Finite says whether weights, averages and the optimizer's state hold finite numbers only.
	Finite() bool
	// Result is a weight of the model as it would end here, by the forward pass's name: [rows, cols], for reading only.
	Result(name string) []float32
	// State lists what the next step needs beside the result.
	State() []State
	// Err returns the first error of the device, such as that its memory does not suffice. After one, results mean nothing.
	Err() error
	// Close gives the trainer's memory back.
	Close() error
}

// State is a tensor of a trainer's, by a name of its own.
type State struct {
	Name  string
	Shape []int
	Get   func() []float32       // for reading only
	Set   func(values []float32) // takes a copy
}

// Loss is a loss that the device may still be computing.
type Loss interface {
	// Read waits for the loss, in nats per token times its share, and for its parts: cross-entropy and divergence from the
	// teacher, without the share.
	Read() (value, crossEntropy, divergence float64)
}

// Lesson is what a teacher says of the rows of a micro-batch, and how the loss follows it.
type Lesson struct {
	device.Distillation
	Teacher Teacher // which reads the same batch; nil: the most probable tokens are known

	K    int
	IDs  []int32   // [rows, K]
	LogP []float32 // [rows, K], at Temperature
}

// Teacher is a model on the trainer's device.
type Teacher interface {
	// Hidden runs a batch: [rows, dim], which is valid until the next pass.
	Hidden(b ops.Batch) device.Buffer
	// Head is the weight [vocab, dim] and the bias [vocab] of what turns hidden rows into logits; the bias may be left out.
	Head() (w, bias device.Buffer)
}
