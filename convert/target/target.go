// Package target writes the result of a conversion in the form that some program loads: the family's own tensors in safetensors
// files, those of another family that computes the same, or one GGUF file. What the weights of the result are is decided by
// package convert; a target lays them out as tensors and files, and reads them from whoever computes them.
package target

import (
	"context"
	"fmt"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// Name names a target.
type Name string

// The targets.
const (
	Native   Name = "native"   // fewer KV heads, in the family's class, else in a neighbour's, else as Own
	Own      Name = "own"      // fewer KV heads in the family's own tensors, whatever loads them
	Expanded Name = "expanded" // a KV head for each head, pooled ones repeated: loads wherever such a model does, saves no cache
	GGUF     Name = "gguf"     // fewer KV heads, as llama.cpp loads them
)

// Names lists the targets.
var Names = []string{string(Native), string(Own), string(Expanded), string(GGUF)}

// Target writes one result in one form. It is immutable: Write may be called several times.
type Target interface {
	// Layout returns what Write writes.
	Layout() *Layout
	// Write writes the result into the folder dir, and reports the bytes of tensor data as they are written, Layout().Work in
	// all. It may leave files behind when it fails.
	Write(ctx context.Context, dir string, r Reader, progress func(bytes int64)) error
}

// Layout is a result as a target lays it out.
type Layout struct {
	Arch      *configs.Arch      // as what the result is loaded
	Specs     []checkpoints.Spec // the tensors
	Computed  int                // how many of them are computed rather than copied
	Work      int64              // bytes of tensor data that Write reports
	SideFiles bool               // whether the source's tokenizer and other files belong beside the weights
	LoadsIn   []string           // what loads the result
	Notes     []string           // where what loads the result computes something else than the source's class
}

// Result is the result of a conversion before a target lays it out.
type Result struct {
	Source    *weights.Source
	Arch      *configs.Arch     // the source's, with other KV heads
	Weights   []Weight          // in the order of Arch.Params
	DType     checkpoints.DType // of the float tensors; 0 keeps each tensor's own
	ShardSize int64             // most bytes of tensor data per file; 0: no limit
}

// Weight says what a weight of the result is made of.
type Weight struct {
	configs.Param               // of the result's architecture, before a target lays it out
	From          configs.Param // the source's weight of the same name
	Kind          Kind
}

// Kind says how a weight of the result comes from the source's.
type Kind int

// The kinds. Copied, Averaged and First weights are rows of the source's, or means of some of them: see Weight.Rows.
const (
	Copied   Kind = iota // the source's values
	Averaged             // each KV head is the mean of the KV heads of its group
	First                // each KV head is the first of its group
	Computed             // no rows of the source's: only a Reader has the values
)

// Changed reports whether the values are others than the source's.
func (w Weight) Changed() bool { return w.Kind != Copied }

// Rows returns the rows of the source's tensor w.From.Tensor whose mean is row r of w; w must not be Computed.
func (w Weight) Rows(r int) []int {
	if w.Kind == Copied {
		return []int{storedRow(w.From, r)}
	}
	size, headRows := w.From.KVHeads/w.KVHeads, w.Shape[0]/w.KVHeads // heads of a group, rows of a head
	group, dim := r/headRows, r%headRows
	if w.Kind == First {
		return []int{storedRow(w.From, group*size*headRows+dim)}
	}
	rows := make([]int, size)
	for i := range rows {
		rows[i] = storedRow(w.From, (group*size+i)*headRows+dim)
	}
	return rows
}

// Reader gives the values of a result while it is written.
type Reader interface {
	// Read returns Weights[i] of the result as a forward pass reads it: [out, in], or [dim]. The values are valid, and may be
	// changed, until the next call. Calls must not overlap.
	Read(ctx context.Context, i int) ([]float32, error)
	// Check reads a tensor of the source before it is copied, or computed with, and returns an error if it must not be because
	// an element is NaN or infinite. Calls may overlap.
	Check(ctx context.Context, t *checkpoints.Tensor, computed bool) error
}

// New lays r out for a target. The error says why the target cannot hold r.
func New(name Name, r Result) (Target, error) {
	switch name {
	case Native:
		return newNative(r)
	case Own:
		return newOwn(r, false)
	case Expanded:
		return newExpanded(r)
	case GGUF:
		return newGGUF(r)
	}
	return nil, fmt.Errorf("target %q is unknown; want one of %v", name, Names)
}

// Check returns the reason why a target cannot hold r, or nil. It reads nothing but headers and, for GGUF, the tokenizer.
func Check(name Name, r Result) error {
	_, err := New(name, r)
	return err
}

// loadsSource is what loads a result that its own class loads as it loaded the source.
var loadsSource = []string{"gqa", "whatever loads the source"}

// bytesOf returns the size of the tensors.
func bytesOf(specs []checkpoints.Spec) (n int64) {
	for _, s := range specs {
		n += s.Bytes()
	}
	return n
}

// layered reports whether layers have numbers of KV heads of their own, which no class of transformers loads.
func layered(a *configs.Arch) bool { return a.LayerKVHeads != nil }
