package data

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/internal/hub"
	"gqa/internal/tokenizer"
)

// Tokens is a corpus as token IDs, with marks: see ID.
type Tokens struct {
	Name      string
	IDs       []int32
	Tokenizer *tokenizer.Tokenizer // nil if the data consists of IDs

	mapped *mapping // the file that IDs are in; nil if they are in memory
	fault  error    // of a file that IDs were copied from
}

// Read returns the tokens [from,to). Those in a file may leave memory after a while. The caller must then check Err.
func (t *Tokens) Read(from, to int) []int32 {
	t.mapped.touch(from, to)
	return t.IDs[from:to:to]
}

// Err returns an error if something that was read is damaged, and must not be used.
func (t *Tokens) Err() error {
	if t.fault != nil || t.mapped == nil {
		return t.fault
	}
	return t.mapped.blocks.err()
}

// CRC32C returns the CRC-32C of the tokens as little-endian int32.
func (t *Tokens) CRC32C() uint32 {
	if t.mapped != nil {
		return t.mapped.crc
	}
	return updateCRC(0, t.IDs)
}

// SamplePrefix is the prefix of the names of the embedded corpus's splits: "sample:train", "sample:val".
const SamplePrefix = "sample:"

// LoadTokens reads data (anything that OpenCorpus accepts, a .safetensors file with integer input_ids, or a split of
// the embedded corpus) for the model in modelDir, using its tokenizer; vocab is the number of rows of its embedding. It
// is an error if an ID is outside the vocabulary.
func LoadTokens(ctx context.Context, data, modelDir string, vocab int, o Options) (*Tokens, error) {
	if strings.HasSuffix(data, ".safetensors") {
		return loadIDs(data, vocab, o.MaxTokens)
	}
	if split, ok := strings.CutPrefix(data, SamplePrefix); ok {
		txt, err := sample.Corpus(split)
		if err != nil {
			return nil, err
		}
		return encodeCorpus(ctx, corpusFromBytes(data, txt), modelDir, vocab, o)
	}
	path, err := hub.Find(hub.Dataset, data)
	if err != nil {
		return nil, fmt.Errorf("corpus %w", err)
	}
	corpus, err := openCorpus(ctx, path, o.TextKey)
	if err != nil {
		return nil, err
	}
	corpus.badRows = o.BadRows
	return encodeCorpus(ctx, corpus, modelDir, vocab, o)
}

// encodeCorpus is like LoadTokens for a corpus that is already open.
func encodeCorpus(ctx context.Context, corpus *textCorpus, modelDir string, vocab int, o Options) (*Tokens, error) {
	tok, err := LoadTokenizer(modelDir, vocab)
	if err != nil {
		return nil, err
	}
	e, t := newEncoder(modelDir, tok, vocab, o.Documents), &Tokens{Name: corpus.Name(), Tokenizer: tok}
	if o.MaxTokens == 0 && (o.Cache != "" || corpus.large()) {
		t.mapped, err = corpus.inCache(ctx, e, modelDir, o.Cache)
		if err == nil {
			t.IDs = t.mapped.ids
		}
		return t, err
	}
	t.IDs, err = corpus.Tokens(ctx, e, o.MaxTokens)
	return t, err
}

// CheckIDs returns an error if one of a text's IDs has no row in an embedding of vocab rows.
func CheckIDs(tok *tokenizer.Tokenizer, ids []int32, vocab int) error {
	for i, id := range ids {
		if id = ID(id); int(id) >= vocab {
			return fmt.Errorf("token %d of the text is %q, id %d of the tokenizer, but the model's vocabulary has %d rows; the tokenizer belongs to another model",
				i, tok.Token(id), id, vocab)
		}
	}
	return nil
}

// warned holds the folders that LoadTokenizer has warned about.
var warned sync.Map

// LoadTokenizer loads the tokenizer in a model folder. If it has IDs without a row in an embedding of vocab rows, it
// warns once; [CheckIDs] checks whether a text has any.
func LoadTokenizer(modelDir string, vocab int) (*tokenizer.Tokenizer, error) {
	tok, err := tokenizer.Load(modelDir)
	if err != nil {
		return nil, err
	}
	if tok.VocabSize() > vocab {
		if _, again := warned.LoadOrStore(modelDir, true); !again {
			slog.Warn("the tokenizer has ids without rows in the model: a text that contains one is an error", "model", modelDir,
				"largest", tok.VocabSize()-1, "rows", vocab)
		}
	}
	return tok, nil
}

func loadIDs(path string, vocab, max int) (*Tokens, error) {
	ckpt, err := checkpoints.Open(path)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	ids, _, err := ReadIDs(ckpt, "input_ids", vocab)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if max > 0 && len(ids) > max {
		ids = ids[:max]
	}
	return &Tokens{Name: path, IDs: ids}, nil
}

// ReadIDs reads a tensor of token IDs and its shape, and checks the IDs against the vocabulary.
func ReadIDs(ckpt *checkpoints.Checkpoint, name string, vocab int) ([]int32, []int, error) {
	return readIDs(ckpt, name, vocab, false)
}

// readLabels is like ReadIDs but accepts -100 for no target, which becomes -1.
func readLabels(ckpt *checkpoints.Checkpoint, name string, vocab int) ([]int32, []int, error) {
	return readIDs(ckpt, name, vocab, true)
}

func readIDs(ckpt *checkpoints.Checkpoint, name string, vocab int, labels bool) ([]int32, []int, error) {
	t, ok := ckpt.Tensor(name)
	if !ok {
		return nil, nil, fmt.Errorf("there is no tensor %s; the file has %s", name, some(ckpt.Names()))
	}
	wide, err := t.Int64()
	if err != nil {
		return nil, nil, err
	}
	ids := make([]int32, len(wide))
	for i, id := range wide {
		if labels && id == -100 {
			ids[i] = -1
			continue
		}
		if id < 0 || id >= int64(vocab) {
			return nil, nil, fmt.Errorf("%s: id %d at %d is outside the model's vocabulary of %d", name, id, i, vocab)
		}
		ids[i] = int32(id)
	}
	return ids, t.Shape, nil
}

// ReadLens reads an attention mask [sequences, tokens] with the shape of its IDs, and returns the number of tokens in
// each sequence that are not padding. Padding must be at the end. It returns nil if there is no such tensor or no
// padding.
func ReadLens(ckpt *checkpoints.Checkpoint, name string, shape []int) ([]int, error) {
	t, ok := ckpt.Tensor(name)
	if !ok {
		return nil, nil
	}
	if !slices.Equal(t.Shape, shape) {
		return nil, fmt.Errorf("%s has shape %v, its ids %v", name, t.Shape, shape)
	}
	mask, err := t.Int64()
	if err != nil {
		return nil, err
	}
	var lens []int
	padded := false
	for at := 0; at < len(mask); at += shape[1] {
		row := mask[at : at+shape[1]]
		n := slices.Index(row, 0)
		if n < 0 {
			n = len(row)
		}
		if n == 0 || slices.ContainsFunc(row[n:], func(x int64) bool { return x != 0 }) {
			return nil, fmt.Errorf("%s: sequence %d is padded before its tokens; padding is only supported after them", name, at/shape[1])
		}
		lens, padded = append(lens, n), padded || n < len(row)
	}
	if !padded {
		return nil, nil
	}
	return lens, nil
}
