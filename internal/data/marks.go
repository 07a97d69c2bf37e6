package data

import "slices"

// A corpus is a sequence of token IDs with marks in their upper bits. Text has none, unless its documents are packed.
const (
	unlearned = -1 << 31 // the token is read but not predicted: a conversation has tokens that the assistant does not say
	starts    = 1 << 30  // the token is the first of a document
	idBits    = starts - 1
)

// ID returns a token of a corpus without its marks.
func ID(token int32) int32 { return token & idBits }

// IDs returns tokens of a corpus without their marks: the same slice if there are none.
func IDs(tokens []int32) []int32 {
	marked := func(token int32) bool { return token != ID(token) }
	i := slices.IndexFunc(tokens, marked)
	if i < 0 {
		return tokens
	}
	ids := slices.Clone(tokens)
	for i := range ids {
		ids[i] = ID(ids[i])
	}
	return ids
}

// target returns what is to be predicted where the next token of a corpus is token: -1 if it is not.
func target(token int32) int32 {
	if token < 0 {
		return -1
	}
	return ID(token)
}

// isStart reports whether a document begins with a token of a corpus.
func isStart(token int32) bool { return token&starts != 0 }
