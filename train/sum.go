package train

import (
	"hash/crc32"
	"maps"
	"slices"

	"gqa/configs"
	"gqa/internal/model"
)

// modelSum identifies a model: it is the CRC-32C of config.json and, ordered by name, of the names and values of the
// weights. The weights may arrive in any order, one at a time.
type modelSum struct {
	config []byte
	parts  map[string]part
}

// part is the contribution of a weight: the CRC-32C of its name and values, and the number of their bytes.
type part struct {
	crc   uint32
	bytes int64
}

// through passes weights on and computes their sums on the way.
func (s *modelSum) through(weights model.Weights) model.Weights {
	s.parts = map[string]part{}
	return func(receive func(p configs.Param, values []float32) error) error {
		return weights(func(p configs.Param, values []float32) error {
			crc := updateCRC(crc32.Update(0, castagnoli, []byte(p.Name)), values)
			s.parts[p.Name] = part{crc, int64(len(p.Name) + 4*len(values))}
			return receive(p, values)
		})
	}
}

// crc returns the sum of everything that was passed on.
func (s *modelSum) crc() uint32 {
	sum := crc32.Update(0, castagnoli, s.config)
	for _, name := range slices.Sorted(maps.Keys(s.parts)) {
		sum = joinCRC(sum, s.parts[name].crc, s.parts[name].bytes)
	}
	return sum
}

// joinCRC returns the CRC-32C of two concatenated texts, given their CRCs and the length of the second in bytes. A CRC is
// linear over GF(2): the first is advanced by as many zero bits, by squaring the matrix that advances it by one bit, and
// the second is added.
func joinCRC(first, second uint32, bytes int64) uint32 {
	var power [32]uint32 // advances a CRC by 1, 2, 4 … bits: the image of each of its bits
	power[0] = crc32.Castagnoli
	for i := range 31 {
		power[i+1] = 1 << i
	}
	for bits := 8 * bytes; bits > 0; bits >>= 1 {
		if bits&1 == 1 {
			first = times(&power, first)
		}
		var squared [32]uint32
		for i := range squared {
			squared[i] = times(&power, power[i])
		}
		power = squared
	}
	return first ^ second
}

// times multiplies a matrix over GF(2), given by columns, with a vector.
func times(matrix *[32]uint32, vector uint32) (product uint32) {
	for i := 0; vector != 0; i, vector = i+1, vector>>1 {
		if vector&1 == 1 {
			product ^= matrix[i]
		}
	}
	return product
}
