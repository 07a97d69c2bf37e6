package checkpoints

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// split divides specs into files of at most size bytes of data, as transformers does, and sorts the tensors of each
// file as the reference writer does.
func split(specs []Spec, size int64) ([][]Spec, error) {
	if err := checkSpecs(specs); err != nil {
		return nil, err
	}
	var shards [][]Spec
	var shard []Spec
	left := size
	for _, s := range specs {
		n := s.Bytes()
		if size > 0 && n > size {
			shards = append(shards, []Spec{s})
			continue
		}
		if size > 0 && n > left {
			shards, shard, left = append(shards, shard), nil, size
		}
		shard = append(shard, s)
		left -= n
	}
	if len(shard) > 0 || len(shards) == 0 {
		shards = append(shards, shard)
	}
	for _, s := range shards {
		slices.SortFunc(s, func(a, b Spec) int {
			return cmp.Or(cmp.Compare(b.DType, a.DType), cmp.Compare(a.Name, b.Name))
		})
	}
	return shards, nil
}

func checkSpecs(specs []Spec) error {
	seen := make(map[string]bool, len(specs))
	for _, s := range specs {
		_, sized := byteSize(s.DType, s.Shape)
		switch {
		case s.Name == metadataKey || !utf8.ValidString(s.Name):
			return fmt.Errorf("tensor %q: safetensors does not allow that name", s.Name)
		case seen[s.Name]:
			return fmt.Errorf("tensor %q: is listed twice; want each name once", s.Name)
		case !s.DType.valid():
			return fmt.Errorf("tensor %q: has no known dtype (%v)", s.Name, s.DType)
		case !sized:
			return fmt.Errorf("tensor %q: shape %v of %v is negative or too large", s.Name, s.Shape, s.DType)
		}
		seen[s.Name] = true
	}
	return nil
}

// encodeHeader returns the bytes of a safetensors file that precede its data: an 8-byte length, then the JSON header,
// padded with spaces to align the data to 8 bytes.
func encodeHeader(specs []Spec, metadata map[string]string) ([]byte, error) {
	b := append(make([]byte, 8), '{')
	if len(metadata) > 0 {
		b = appendMetadata(b, metadata)
	}
	end := int64(0)
	for _, s := range specs {
		begin := end
		end += s.Bytes()
		if end < begin {
			return nil, fmt.Errorf("tensor %q: ends beyond the maximum file size", s.Name)
		}
		b = appendSpec(b, s, begin, end)
	}
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	if len(b)-8 > maxHeader {
		return nil, fmt.Errorf("%d tensors need a header of %d bytes, more than the format's limit of %d; use a smaller shard size", len(specs), len(b)-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	return b, nil
}

func appendMetadata(b []byte, metadata map[string]string) []byte {
	b = append(appendQuoted(b, metadataKey), ":{"...)
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		b = append(appendQuoted(b, key), ':')
		b = append(appendQuoted(b, metadata[key]), ',')
	}
	b[len(b)-1] = '}'
	return append(b, ',')
}

func appendSpec(b []byte, s Spec, begin, end int64) []byte {
	b = appendQuoted(b, s.Name)
	b = append(b, `:{"dtype":"`...)
	b = append(b, s.DType.String()...)
	b = append(b, `","shape":[`...)
	for i, n := range s.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	b = append(b, `],"data_offsets":[`...)
	b = append(strconv.AppendInt(b, begin, 10), ',')
	b = strconv.AppendInt(b, end, 10)
	return append(b, "]},"...)
}

// appendQuoted appends s as a JSON string, escaping only what JSON requires, as the reference writer does;
// encoding/json escapes more.
func appendQuoted(b []byte, s string) []byte {
	const short = "\"\"\\\\\bb\ff\nn\rr\tt" // pairs of a byte and its escape
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			b = append(b, c)
			continue
		}
		escape := fmt.Sprintf(`\u%04x`, c)
		for j := 0; j < len(short); j += 2 {
			if short[j] == c {
				escape = `\` + short[j+1:j+2]
			}
		}
		b = append(b, escape...)
	}
	return append(b, '"')
}
