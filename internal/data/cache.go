package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gqa/checkpoints"
	"gqa/internal/data/raw"
)

// A cached corpus is a folder of files of tokens, 00000.tokens and so on, of their checksums, 00000.sums, and of state.json.
// All files of tokens but the last hold shardTokens of them as little-endian int32.
const stateFile = "state.json"

// shardTokens is the number of tokens of a shard: a multiple of any system's pages.
var shardTokens = 16 << 20

// mostInMemory is the size of the text from which on a corpus is cached even if nobody asks for it.
var mostInMemory int64 = 256 << 20

// cacheState is what state.json holds: how far a corpus has been encoded.
type cacheState struct {
	Key    json.RawMessage `json:"key"`
	Shards []shard         `json:"shards"`
	Next   place           `json:"next"` // the part that the next shard begins in
	Skip   int             `json:"skip"` // tokens of the part that are in shards
	Done   bool            `json:"done"`
	Bad    tally           `json:"bad"`
}

// cacheKey is everything that the tokens of a corpus depend on.
type cacheKey struct {
	Version   int               `json:"version"`
	Files     []cacheFile       `json:"files"`
	TextKey   string            `json:"text_key"`
	Documents bool              `json:"documents"`
	Vocab     int               `json:"vocab"`
	Tokenizer map[string]string `json:"tokenizer"` // SHA-256 of its files
}

// cacheFile identifies a file without reading it.
type cacheFile struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Time  int64  `json:"modified_ns"`
}

// tokenizerFiles are the files in a model's folder that encoding depends on.
var tokenizerFiles = []string{
	"tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt", "merges.txt", "tokenizer_config.json",
	"special_tokens_map.json", "added_tokens.json", "chat_template.json", "chat_template.jinja",
}

// large reports whether the text of a corpus is likely too much for memory. Compressed text is a quarter of its size or less.
func (c *textCorpus) large() bool {
	size := int64(0)
	for _, f := range c.files {
		n := f.size
		if f.packing != "" || f.kind == raw.Parquet {
			n *= 4
		}
		size += n
	}
	return size > mostInMemory
}

func (c *textCorpus) cacheKey(modelDir string, e *encoder) (json.RawMessage, error) {
	key := cacheKey{Version: 1, TextKey: c.keys.key, Documents: e.documents, Vocab: e.vocab, Tokenizer: map[string]string{}}
	for _, f := range c.files {
		path, err := filepath.Abs(f.name)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		key.Files = append(key.Files, cacheFile{path, info.Size(), info.ModTime().UnixNano()})
	}
	for _, name := range tokenizerFiles {
		content, err := os.ReadFile(filepath.Join(modelDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		key.Tokenizer[name] = hex.EncodeToString(sum[:])
	}
	return json.Marshal(key)
}

// cached returns the tokens of the corpus, mapped from the cache folder root. Those that are not there yet are encoded and written. An
// interrupted encoding goes on at the last shard. Of several processes one encodes and the others wait for it.
func (c *textCorpus) cached(ctx context.Context, e *encoder, modelDir, root string) (*mapping, error) {
	key, err := c.cacheKey(modelDir, e)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	w := cacheWriter{corpus: c, encoder: e, dir: filepath.Join(root, hex.EncodeToString(sum[:12]))}
	if err := os.MkdirAll(w.dir, 0o777); err != nil {
		return nil, err
	}
	release, err := w.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := w.load(key); err != nil {
		return nil, err
	}
	if !w.state.Done {
		if err := w.encode(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.bad.check(); err != nil {
		return nil, err
	}
	if err := w.bad.end(); err != nil {
		return nil, err
	}
	if len(w.state.Shards) == 0 {
		return &mapping{forget: func() {}}, nil
	}
	m, changed, err := openShards(ctx, w.files(), w.state.Shards)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("%w; remove the folder %s, and the corpus is encoded again", err, w.dir)
	case changed: // other processes wait for the lock, and need not check again
		return m, w.save()
	}
	return m, nil
}

// cacheWriter encodes a corpus into a folder.
type cacheWriter struct {
	corpus  *textCorpus
	encoder *encoder
	dir     string
	state   cacheState
	bad     *tally
	shard   []int32 // the one in work
}

// lock makes this process the only one that encodes into the folder.
func (w *cacheWriter) lock(ctx context.Context) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(w.dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	for waited := false; ; waited = true {
		held, err := flock(f)
		if err == nil && !held {
			return func() { _ = f.Close() }, nil
		}
		if err == nil && !waited {
			slog.Info("another process encodes the corpus: waiting for it", "corpus", w.corpus.name)
		}
		if err == nil {
			select {
			case <-time.After(200 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return nil, errors.Join(err, f.Close())
	}
}

// load reads how far the corpus has been encoded.
func (w *cacheWriter) load(key json.RawMessage) error {
	w.bad = newTally(w.corpus.name, w.corpus.badRows)
	path := filepath.Join(w.dir, stateFile)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.state = cacheState{Key: key}
		return nil
	case err != nil:
		return err
	}
	if err := json.Unmarshal(text, &w.state); err != nil || !sameJSON(w.state.Key, key) {
		return fmt.Errorf("%s: is damaged or another corpus's; remove the folder %s, and the corpus is encoded again", path, w.dir)
	}
	w.bad.Rows, w.bad.Such, w.bad.good = w.state.Bad.Rows, w.state.Bad.Such, len(w.state.Shards) > 0
	return nil
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// files returns the paths of the shards.
func (w *cacheWriter) files() (all []string) {
	for i := range w.state.Shards {
		all = append(all, w.path(i))
	}
	return all
}

func (w *cacheWriter) path(i int) string { return filepath.Join(w.dir, fmt.Sprintf("%05d.tokens", i)) }

// encode writes the shards that are missing.
func (w *cacheWriter) encode(ctx context.Context) error {
	said := "encoding the corpus once into the cache"
	if len(w.state.Shards) > 0 {
		said = "going on with encoding the corpus into the cache"
	}
	slog.Info(said, "corpus", w.corpus.name, "folder", w.dir)
	begins, skip := w.state.Next, w.state.Skip
	err := w.corpus.eachEncoded(ctx, w.encoder, begins, func(p encoded) error {
		if p.bad != nil {
			begins = p.after
			return w.bad.add(p.bad)
		}
		w.bad.good = true
		if err := w.add(p.ids[min(skip, len(p.ids)):], begins, skip); err != nil {
			return err
		}
		begins, skip = p.after, 0
		return nil
	})
	if err != nil {
		return err
	}
	w.state.Done = true
	if len(w.shard) > 0 {
		return w.flush(begins, 0)
	}
	return w.save()
}

// add appends the tokens of a part that begins at a place, of which some are in shards already.
func (w *cacheWriter) add(ids []int32, begins place, skipped int) error {
	if w.shard == nil {
		w.shard = make([]int32, 0, shardTokens)
	}
	for len(ids) > 0 {
		n := min(len(ids), shardTokens-len(w.shard))
		w.shard = append(w.shard, ids[:n]...)
		ids, skipped = ids[n:], skipped+n
		if len(w.shard) == shardTokens {
			if err := w.flush(begins, skipped); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the shard in work. The next one begins in the part at a place, after some of its tokens.
func (w *cacheWriter) flush(next place, skip int) error {
	buf, err := binary.Append(make([]byte, 0, 4*len(w.shard)), binary.LittleEndian, w.shard)
	if err != nil {
		return err
	}
	n, before := len(w.state.Shards), uint32(0)
	if err := checkpoints.WriteFileAtomic(w.path(n), buf, 0o666); err != nil {
		return err
	}
	_, sums, err := writeSums(w.path(n), w.shard)
	if err != nil {
		return err
	}
	now, err := modified(w.path(n))
	if err != nil {
		return err
	}
	if n > 0 {
		before = w.state.Shards[n-1].All
		if w.state.Shards[n-1].Time == 0 { // an earlier version wrote it, without All
			now = 0
		}
	}
	w.state.Shards = append(slices.Clip(w.state.Shards), shard{len(w.shard), updateCRC(0, w.shard), updateCRC(before, w.shard), sums, now})
	w.state.Next, w.state.Skip = next, skip
	w.shard = w.shard[:0]
	return w.save()
}

func (w *cacheWriter) save() error {
	w.state.Bad = tally{Rows: w.bad.Rows, Such: w.bad.Such}
	text, err := json.MarshalIndent(w.state, "", "  ")
	if err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(filepath.Join(w.dir, stateFile), append(text, '\n'), 0o666)
}

// inCache is cached for a folder that may be "": then it is one below the user's cache folder.
func (c *textCorpus) inCache(ctx context.Context, e *encoder, modelDir, root string) (*mapping, error) {
	if root == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("corpus %s: there is no folder to keep the tokens of a large corpus in (%w); name one with data_cache in the recipe", c.name, err)
		}
		root = filepath.Join(dir, "gqa", "tokens")
	}
	return c.cached(ctx, e, modelDir, root)
}
