// Package target writes the result of a conversion in a form that some program loads: the family's own tensors in
// safetensors files, those of another family that computes the same function, or one GGUF file. Package convert
// determines the weights of the result; a target lays them out as tensors and files, and obtains their values through a
// Reader.
package target

import (
	"context"
	"fmt"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// Name is the name of a target.
type Name string

// The targets.
const (
	Native   Name = "native"      // fewer KV heads, in the family's class, otherwise in a neighbour's, otherwise as Own
	Own      Name = "own"         // fewer KV heads in the family's own tensors, whatever loads them
	Expanded Name = "expanded"    // one KV head per head, pooled ones repeated: loads wherever such a model does, but saves no cache
	GGUF     Name = "gguf"        // fewer KV heads, as llama.cpp loads them
	MLA      Name = "mla"         // latent attention in this toolkit's own layout
	DeepSeek Name = "deepseek_v3" // latent attention, as transformers' DeepseekV3ForCausalLM loads it
)

// Names lists the targets.
var Names = []string{string(Native), string(Own), string(Expanded), string(GGUF), string(MLA), string(DeepSeek)}

// Target writes one result in one form. It is immutable: Write may be called several times.
type Target interface {
	// Layout describes what Write writes.
	Layout() *Layout
	// Write writes the result into the folder dir. It reports the number of bytes of tensor data as they are written,
	// Layout().Work in all. On error it may leave files behind.
	Write(ctx context.Context, dir string, r Reader, progress func(bytes int64)) error
}

// Layout is a result as a target lays it out.
type Layout struct {
	Arch      *configs.Arch      // as which the result is loaded
	Specs     []checkpoints.Spec // the tensors
	Computed  int                // number of tensors that are computed rather than copied
	Work      int64              // bytes of tensor data that Write reports
	SideFiles bool               // whether the source's tokenizer and other files belong beside the weights
	LoadsIn   []string           // the programs and classes that load the result
	Notes     []string           // where the program that loads the result computes something different from the source's class
}

// Result is the result of a conversion before a target lays it out.
type Result struct {
	Source    *weights.Source
	Arch      *configs.Arch     // the source's, with other KV heads or with latent attention
	Config    []byte            // config.json of Arch, if that is of another family
	Weights   []Weight          // in the order of Arch.Params
	DType     checkpoints.DType // of the float tensors; 0 keeps each tensor's own
	ShardSize int64             // maximum bytes of tensor data per file; 0 for no limit
}

// Weight describes how a weight of the result is computed.
type Weight struct {
	configs.Param               // of the result's architecture, before a target lays it out
	From          configs.Param // the source's weight with the same name
	Kind          Kind
}

// Kind is the way in which a weight of the result is derived from the source's.
type Kind int

// The kinds. Copied, Averaged and First weights are rows of the source's, or means of several: see Weight.Rows.
const (
	Copied   Kind = iota // the source's values
	Averaged             // each KV head is the mean of the KV heads of its group
	First                // each KV head is the first of its group
	Computed             // not rows of the source's: only a Reader has the values
)

// Changed reports whether the values differ from the source's.
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

// Reader provides the values of a result while it is written.
type Reader interface {
	// Read returns Weights[i] of the result in the forward pass's layout: [out, in], or [dim]. The caller may change the
	// values, which are valid until the next call. Calls must not overlap.
	Read(ctx context.Context, i int) ([]float32, error)
	// Check reads a tensor of the source before it is copied or used in a computation. It returns an error if the tensor
	// must not be used because an element is NaN or infinite. Calls may overlap.
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
	case MLA:
		return newLatent(r)
	case DeepSeek:
		return newStockLatent(r)
	}
	return nil, fmt.Errorf("target %q is unknown; want one of %v", name, Names)
}

// Check returns the reason why a target cannot hold r, or nil. It reads only headers and, for GGUF, the tokenizer.
func Check(name Name, r Result) error {
	_, err := New(name, r)
	return err
}

// loadsSource returns what loads a result that its own class loads as it loaded the source.
var loadsSource = []string{"gqa", "whatever loads the source"}

// bytesOf returns the size of the tensors.
func bytesOf(specs []checkpoints.Spec) (n int64) {
	for _, s := range specs {
		n += s.Bytes()
	}
	return n
}

// layered reports whether layers have their own numbers of KV heads, which no class of transformers supports.
func layered(a *configs.Arch) bool { return a.LayerKVHeads != nil }
