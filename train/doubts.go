package train

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"

	"gqa/configs/recipe"
	"gqa/internal/file"
)

// Doubts returns a description of each setting of a recipe that is allowed but probably a mistake.
func Doubts(r recipe.Recipe) (all []string) {
	if s := r.Schedule; r.Steps < s.Warmup {
		all = append(all, fmt.Sprintf("the warm-up takes %d steps and the run only %d: it ends at %.2g of the peak learning rate; set schedule.warmup to %d, or more steps",
			s.Warmup, r.Steps, s.At(r.Steps, r.Steps), r.Steps/10))
	}
	if o := r.Optimizer; o.Moments == recipe.MomentsBF16 && o.Beta2 > 0.99 {
		all = append(all, fmt.Sprintf("optimizer.beta2 is %v: in bfloat16, an average that changes by less than a 256th in a step stays as it is; set optimizer.moments to 8bit or f32, or beta2 to 0.99 or less", o.Beta2))
	}
	if r.Valid != "" && slices.ContainsFunc(corpusPaths(&r), func(path string) bool { return sameContent(path, r.Valid) }) {
		all = append(all, fmt.Sprintf("%s is given to train on and to validate on: the validation loss will not show how well the model does on other text", r.Valid))
	}
	return all
}

// sameContent reports whether two paths lead to the same file or folder, or to files with identical content.
func sameContent(a, b string) bool {
	if a == b {
		return true
	}
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	if err != nil {
		return false
	}
	return os.SameFile(x, y) || x.Mode().IsRegular() && y.Mode().IsRegular() && x.Size() == y.Size() && sameBytes(a, b)
}

// sameBytes reports whether two files of equal size have the same content. It stops at the first difference, which
// usually comes early in different texts.
func sameBytes(a, b string) bool {
	f, err := file.Open(a)
	if err != nil {
		return false
	}
	defer f.Close()
	g, err := file.Open(b)
	if err != nil {
		return false
	}
	defer g.Close()
	x, y := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, errX := io.ReadFull(f, x)
		m, errY := io.ReadFull(g, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false
		}
		if errX != nil || errY != nil {
			return endOfFile(errX) && endOfFile(errY)
		}
	}
}

func endOfFile(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
