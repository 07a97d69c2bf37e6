package tokenizer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// pieceType is the type of a piece of a SentencePiece model.
type pieceType int

// Types with their numbers in sentencepiece_model.proto.
const (
	normalPiece  pieceType = 1
	unknownPiece pieceType = 2
	controlPiece pieceType = 3 // stands for no text
	userPiece    pieceType = 4 // found in the text before anything else
	bytePiece    pieceType = 6
)

// Kinds of model.
const (
	unigramModel = 1
	bpeModel     = 2
)

// sentencePiece is a SentencePiece model file (Kudo and Richardson 2018, arXiv 1808.06226): a protobuf of pieces, whose
// IDs are their indexes, and of the steps applied to a text before it is split.
type sentencePiece struct {
	pieces       []spPiece
	kind         int // unigramModel, bpeModel, or an unsupported one
	byteFallback bool
	suffix       bool   // spaces are marked at the end of words
	charsmap     []byte // input of Precompiled; empty: characters are not changed
	prefix       bool   // a space is added before a text
	collapse     bool   // runs of spaces are collapsed, and trimmed at the ends
	escape       bool   // spaces are marked
}

type spPiece struct {
	text  string
	score float32
	kind  pieceType
}

// parseSentencePiece parses a model file. It skips fields that do not affect the IDs of a text.
func parseSentencePiece(data []byte) (*sentencePiece, error) {
	m := &sentencePiece{kind: unigramModel, prefix: true, collapse: true, escape: true}
	err := eachField(data, func(num int, f protoField) error {
		switch num {
		case 1:
			p, err := parsePiece(f.bytes)
			m.pieces = append(m.pieces, p)
			return err
		case 2:
			return eachField(f.bytes, m.trainer)
		case 3:
			return eachField(f.bytes, m.normalizer)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(m.pieces) == 0:
		return nil, errors.New("a SentencePiece model without pieces")
	case m.kind != unigramModel && m.kind != bpeModel:
		return nil, fmt.Errorf("a SentencePiece model of type %d (words or characters), want unigram or BPE", m.kind)
	case m.suffix || !m.escape:
		return nil, errors.New("a SentencePiece model that does not mark the spaces before words is not supported")
	}
	return m, nil
}

// maxPiece limits the bytes of a piece and thereby the work on its splits.
const maxPiece = 1 << 12

func parsePiece(data []byte) (spPiece, error) {
	p := spPiece{kind: normalPiece}
	if len(data) > maxPiece {
		return p, fmt.Errorf("a SentencePiece model with a piece of %d bytes, want at most %d", len(data), maxPiece)
	}
	err := eachField(data, func(num int, f protoField) error {
		switch num {
		case 1:
			p.text = string(f.bytes)
		case 2:
			p.score = math.Float32frombits(uint32(f.value))
		case 3:
			p.kind = pieceType(f.value)
		}
		return nil
	})
	return p, err
}

// trainer parses a field of TrainerSpec.
func (m *sentencePiece) trainer(num int, f protoField) error {
	switch num {
	case 3:
		m.kind = int(f.value)
	case 24:
		m.suffix = f.value != 0
	case 35:
		m.byteFallback = f.value != 0
	}
	return nil
}

// normalizer parses a field of NormalizerSpec.
func (m *sentencePiece) normalizer(num int, f protoField) error {
	switch num {
	case 2:
		m.charsmap = f.bytes
	case 3:
		m.prefix = f.value != 0
	case 4:
		m.collapse = f.value != 0
	case 5:
		m.escape = f.value != 0
	}
	return nil
}

// find returns the index of the first piece with that text, or any text if it is "", and one of those types; -1 if
// there is none.
func (m *sentencePiece) find(text string, kinds ...pieceType) int {
	return slices.IndexFunc(m.pieces, func(p spPiece) bool {
		return (text == "" || p.text == text) && slices.Contains(kinds, p.kind)
	})
}

// wordwise reports whether no piece spans two words, so that a text can be split into words first.
func (m *sentencePiece) wordwise() bool {
	return !slices.ContainsFunc(m.pieces, func(p spPiece) bool {
		return (p.kind == normalPiece || p.kind == userPiece) && strings.LastIndex(p.text, spaceMark) > 0
	})
}

// merges returns the pairs of pieces that form a piece, best score first. SentencePiece joins the pair whose piece has
// the highest score; among pairs that form the same piece, the one with the longer first part comes first, as in
// transformers' lists.
func (m *sentencePiece) merges() [][2]string {
	type scored struct {
		parts [2]string
		score float32
	}
	known := make(map[string]bool, len(m.pieces))
	for _, p := range m.pieces {
		known[p.text] = p.kind == normalPiece || p.kind == userPiece
	}
	var all []scored
	for _, p := range m.pieces {
		for i := len(p.text) - 1; i > 0 && p.kind == normalPiece; i-- {
			if left, right := p.text[:i], p.text[i:]; known[left] && known[right] {
				all = append(all, scored{[2]string{left, right}, p.score})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	list := make([][2]string, len(all))
	for i, s := range all {
		list[i] = s.parts
	}
	return list
}

// protoField is the value of a field: a number, or the bytes of a text or message.
type protoField struct {
	value uint64
	bytes []byte
}

var errProto = errors.New("not a SentencePiece model: its protobuf ends early or is damaged")

// eachField calls visit for the fields of a protobuf message.
func eachField(data []byte, visit func(num int, f protoField) error) error {
	for len(data) > 0 {
		key, n := binary.Uvarint(data)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29-1 {
			return errProto
		}
		f, rest, err := readField(int(key&7), data[n:])
		if err != nil {
			return err
		}
		if err := visit(int(key>>3), f); err != nil {
			return err
		}
		data = rest
	}
	return nil
}

// readField reads a value of a wire type: 0 varint, 1 eight bytes, 2 length-delimited bytes, 5 four bytes.
func readField(wire int, data []byte) (f protoField, rest []byte, err error) {
	size := map[int]int{1: 8, 5: 4}[wire]
	switch {
	case wire == 0 || wire == 2:
		value, n := binary.Uvarint(data)
		if n <= 0 {
			return f, nil, errProto
		}
		f.value, data = value, data[n:]
		if wire == 0 {
			return f, data, nil
		}
		if value > uint64(len(data)) {
			return f, nil, errProto
		}
		f.bytes = data[:value]
		return f, data[value:], nil
	case size == 0 || len(data) < size:
		return f, nil, errProto
	case wire == 1:
		f.value = binary.LittleEndian.Uint64(data)
	default:
		f.value = uint64(binary.LittleEndian.Uint32(data))
	}
	return f, data[size:], nil
}
