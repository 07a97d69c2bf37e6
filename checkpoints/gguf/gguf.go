// Package gguf writes and reads GGUF, the single-file model format of llama.cpp (version 3 of its specification, docs/gguf.md in the
// ggml repository): typed keys, then tensors, each at a multiple of 32 bytes. It knows the format and no architecture.
package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"gqa/checkpoints"
)

const (
	magic     = "GGUF"
	version   = 3
	alignment = 32 // alignment of every tensor's start in bytes: the format's default
	maxName   = 63 // longest tensor name that ggml keeps, in bytes
	maxDims   = 4
)

// Key is one metadata entry. Value is a string, bool, uint32, int32, float32, or a slice of strings, uint32, int32,
// float32, bool or bytes.
type Key struct {
	Name  string
	Value any
}

// The format's codes for the value types used here.
const (
	typeU8     = 0
	typeU32    = 4
	typeI32    = 5
	typeF32    = 6
	typeBool   = 7
	typeString = 8
	typeArray  = 9
)

// tensorTypes maps the supported dtypes to ggml's type codes.
var tensorTypes = map[checkpoints.DType]uint32{checkpoints.F32: 0, checkpoints.F16: 1, checkpoints.BF16: 30}

// appendKey appends the encoding of one entry: name, type, value.
func appendKey(b []byte, k Key) ([]byte, error) {
	b = appendString(b, k.Name)
	switch v := k.Value.(type) {
	case string:
		return appendString(appendU32(b, typeString), v), nil
	case bool:
		return appendBool(appendU32(b, typeBool), v), nil
	case uint32:
		return appendU32(appendU32(b, typeU32), v), nil
	case int32:
		return appendU32(appendU32(b, typeI32), uint32(v)), nil
	case float32:
		return appendF32(appendU32(b, typeF32), v), nil
	case []string:
		return appendArray(b, typeString, v, appendString), nil
	case []uint32:
		return appendArray(b, typeU32, v, appendU32), nil
	case []int32:
		return appendArray(b, typeI32, v, func(b []byte, x int32) []byte { return appendU32(b, uint32(x)) }), nil
	case []float32:
		return appendArray(b, typeF32, v, appendF32), nil
	case []bool:
		return appendArray(b, typeBool, v, appendBool), nil
	case []byte:
		return append(appendHead(b, typeU8, len(v)), v...), nil
	}
	return nil, fmt.Errorf("key %s: GGUF cannot store a value of type %T", k.Name, k.Value)
}

func appendArray[T any](b []byte, kind uint32, values []T, one func([]byte, T) []byte) []byte {
	b = appendHead(b, kind, len(values))
	for _, v := range values {
		b = one(b, v)
	}
	return b
}

// appendHead appends the header of an array of n elements.
func appendHead(b []byte, kind uint32, n int) []byte {
	return appendU64(appendU32(appendU32(b, typeArray), kind), uint64(n))
}

func appendString(b []byte, s string) []byte { return append(appendU64(b, uint64(len(s))), s...) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendU32(b []byte, v uint32) []byte  { return binary.LittleEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte  { return binary.LittleEndian.AppendUint64(b, v) }
func appendF32(b []byte, v float32) []byte { return appendU32(b, math.Float32bits(v)) }

// padding returns the number of bytes between n and the next tensor's start.
func padding(n int64) int64 { return (alignment - n%alignment) % alignment }
