package train

import (
	"hash/crc32"
	"maps"
	"slices"

	"gqa/configs"
	"gqa/internal/model"
)

// modelSum tells one model from another: the CRC-32C of config.json and, by name, of the names and values of the weights. These may
// come in any order, one at a time.
type modelSum struct {
	config []byte
	parts  map[string]part
}

// part is what a weight adds: the CRC-32C of its name and values, and how many bytes these are.
type part struct {
	crc   uint32
	bytes int64
}

// through passes weights on and takes their sums on the way.
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

// crc is the sum of all that came through.
func (s *modelSum) crc() uint32 {
	sum := crc32.Update(0, castagnoli, s.config)
	for _, name := range slices.Sorted(maps.Keys(s.parts)) {
		sum = joinCRC(sum, s.parts[name].crc, s.parts[name].bytes)
	}
	return sum
}

// joinCRC is the CRC-32C of two texts behind each other, of their own and the length of the second in bytes. A CRC is linear over
// GF(2): the first is moved on by as many zero bits, by squaring the matrix that moves it on by one, and the second is added.
func joinCRC(first, second uint32, bytes int64) uint32 {
	var power [32]uint32 // moves a CRC on by 1, 2, 4 … bits: what each of its bits becomes
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

// times is the product of a matrix over GF(2), by columns, with a vector.
func times(matrix *[32]uint32, vector uint32) (product uint32) {
	for i := 0; vector != 0; i, vector = i+1, vector>>1 {
		if vector&1 == 1 {
			product ^= matrix[i]
		}
	}
	return product
}
