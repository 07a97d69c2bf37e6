package weights

import (
	"fmt"
	"io"
	"slices"

	"gqa/checkpoints"
	"gqa/configs"
)

// ByName returns a function that looks up weights in a map; nil for missing names.
func ByName(all map[string][]float32) func(name string) []float32 {
	return func(name string) []float32 { return all[name] }
}

// Write stores weights (keyed by the forward pass's names, f32) in dir, laid out as arch's family requires, in dtype.
// It requests a weight when it writes a tensor that contains part of it.
func Write(dir string, arch *configs.Arch, dtype checkpoints.DType, weight func(name string) []float32, o checkpoints.WriteOptions) error {
	return WriteMixed(dir, arch, dtype, nil, weight, o)
}

// WriteMixed is Write with other dtypes for some tensors, by their names.
func WriteMixed(
	dir string, arch *configs.Arch, dtype checkpoints.DType, others map[string]checkpoints.DType, weight func(name string) []float32, o checkpoints.WriteOptions,
) error {
	tensors, err := arch.Tensors()
	if err != nil {
		return err
	}
	params, err := arch.Params()
	if err != nil {
		return err
	}
	parts := make(map[string][]configs.Param, len(tensors))
	for _, p := range params {
		for _, name := range p.Tensors() {
			parts[name] = append(parts[name], p)
		}
	}
	specs := make([]checkpoints.Spec, len(tensors))
	for i, t := range tensors {
		specs[i] = checkpoints.Spec{Name: t.Name, DType: dtype, Shape: t.Shape}
		if other, ok := others[t.Name]; ok {
			specs[i].DType = other
		}
	}
	return checkpoints.Write(dir, specs, o, func(s checkpoints.Spec, w io.Writer) error {
		stored, err := assemble(s, parts[s.Name], weight)
		if err != nil {
			return err
		}
		return WriteFloats(w, stored, s.DType)
	})
}

func assemble(s checkpoints.Spec, parts []configs.Param, weight func(name string) []float32) ([]float32, error) {
	size := s.Elements()
	stored := make([]float32, size)
	for _, p := range parts {
		values := weight(p.Name)
		if len(values) != p.Size() {
			return nil, fmt.Errorf("tensor %s: weight %s has %d values, want %v", s.Name, p.Name, len(values), p.Shape)
		}
		if i := slices.Index(p.Parts, s.Name); i >= 0 {
			copy(stored, values[i*size:])
			continue
		}
		p.Put(stored, values)
	}
	return stored, nil
}

// WriteFloats writes values in dtype, little-endian, in chunks of bounded size. It is an error if a value is not
// finite.
func WriteFloats(w io.Writer, values []float32, dtype checkpoints.DType) error {
	const piece = 1 << 16
	buf := make([]byte, min(piece, len(values))*dtype.Size())
	for len(values) > 0 {
		n := min(piece, len(values))
		if err := checkpoints.EncodeFinite(buf[:n*dtype.Size()], values[:n], dtype); err != nil {
			return err
		}
		if _, err := w.Write(buf[:n*dtype.Size()]); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}
