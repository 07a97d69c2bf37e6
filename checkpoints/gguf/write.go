package gguf

import (
	"fmt"
	"io"
	"strings"

	"gqa/checkpoints"
)

// Write writes path, which must not exist, with keys and tensors in the order given. data is called once for each tensor, by
// as many goroutines at a time as there are workers, and must write exactly its bytes: little-endian, row-major. Shapes are
// given outermost dimension first, as everywhere in this toolkit; the file has them the other way round. On an error no file
// stays; an error of data is returned as it is.
func Write(path string, keys []Key, tensors []checkpoints.Spec, workers int, data func(s checkpoints.Spec, w io.Writer) error) error {
	head, err := encodeHead(keys, tensors)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return checkpoints.WriteLaid(path, head, tensors, alignment, workers, data)
}

// encodeHead is everything before the first tensor's data, padded.
func encodeHead(keys []Key, tensors []checkpoints.Spec) ([]byte, error) {
	b := appendU32([]byte(magic), version)
	b = appendU64(appendU64(b, uint64(len(tensors))), uint64(len(keys)))
	b, err := appendKeys(b, keys)
	if err != nil {
		return nil, err
	}
	names, offset := map[string]bool{}, int64(0)
	for _, s := range tensors {
		if names[s.Name] {
			return nil, fmt.Errorf("tensor %s is there twice", s.Name)
		}
		names[s.Name] = true
		if err := checkTensor(s); err != nil {
			return nil, err
		}
		b = appendTensor(b, s, offset)
		offset += s.Bytes() + padding(s.Bytes())
	}
	return append(b, make([]byte, padding(int64(len(b))))...), nil
}

func appendKeys(b []byte, keys []Key) (_ []byte, err error) {
	seen := map[string]bool{}
	for _, k := range keys {
		if seen[k.Name] || k.Name == "" {
			return nil, fmt.Errorf("key %q is empty or there twice", k.Name)
		}
		seen[k.Name] = true
		if b, err = appendKey(b, k); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func checkTensor(s checkpoints.Spec) error {
	_, known := tensorTypes[s.DType]
	switch {
	case s.Name == "" || len(s.Name) > maxName || strings.ContainsRune(s.Name, 0):
		return fmt.Errorf("tensor name %q: want 1 to %d bytes", s.Name, maxName)
	case !known:
		return fmt.Errorf("tensor %s is %v, want F32, F16 or BF16", s.Name, s.DType)
	case len(s.Shape) < 1 || len(s.Shape) > maxDims || s.Bytes() == 0:
		return fmt.Errorf("tensor %s has shape %v, want 1 to %d dimensions, none empty", s.Name, s.Shape, maxDims)
	}
	return nil
}

// appendTensor encodes where a tensor lies: offset bytes after the start of all tensors' data.
func appendTensor(b []byte, s checkpoints.Spec, offset int64) []byte {
	b = appendU32(appendString(b, s.Name), uint32(len(s.Shape)))
	for i := len(s.Shape) - 1; i >= 0; i-- {
		b = appendU64(b, uint64(s.Shape[i]))
	}
	return appendU64(appendU32(b, tensorTypes[s.DType]), uint64(offset))
}
