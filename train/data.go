package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/data"
)

// trainingData is a run's input: windows to train on, in shuffled order, and windows to validate on.
type trainingData struct {
	data.Objective
	window      int // ids per window
	sampler     *data.Sampler
	valid       [][]int32
	fingerprint fingerprint
	held        *fingerprint // of the validation text; nil if there is none
}

// rows returns the number of tokens of a window that the model reads to make predictions.
func (d *trainingData) rows() int { return d.Rows(d.window) }

// fingerprint identifies a token stream.
type fingerprint struct {
	Tokens int    `json:"tokens"`
	CRC32C uint32 `json:"crc32c"` // of the ids as little-endian int32
}

func (f fingerprint) String() string {
	return fmt.Sprintf("%d tokens of CRC-32C %08x", f.Tokens, f.CRC32C)
}

func loadData(ctx context.Context, r *recipe.Recipe, modelDir string, a *configs.Arch) (*trainingData, error) {
	load := func(name, key string) (*data.Dataset, error) {
		o := data.Options{SeqLen: r.SeqLen, Seed: r.Seed, TextKey: key, BadRows: r.BadRows, Documents: r.Packing == recipe.Documents, Cache: r.DataCache}
		if r.BadRows == 0 {
			o.BadRows = -1 // 0 is the default there
		}
		return data.Load(ctx, name, modelDir, a, o)
	}
	corpora, err := r.Corpora()
	if err != nil {
		return nil, err
	}
	var d *trainingData
	var parts []data.Component
	for _, c := range corpora {
		corpus, err := load(c.Path, c.TextKey)
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		if d == nil {
			d = &trainingData{Objective: corpus.Objective, window: corpus.Window}
		}
		if !reflect.DeepEqual(corpus.Objective, d.Objective) || corpus.Window != d.window {
			return nil, fmt.Errorf("data: %s: its windows are of another kind than those of %s: %T of %d ids, and %T of %d", c.Path, corpora[0].Path,
				corpus.Objective, corpus.Window, d.Objective, d.window)
		}
		parts = append(parts, data.Component{Tokens: corpus.Tokens, Weight: c.Weight})
	}
	d.fingerprint = mixed(parts)
	if d.sampler, err = data.NewMixture(parts, d.window, r.Seed); err != nil {
		if len(parts) == 1 {
			err = fmt.Errorf("%s: %w", corpora[0].Path, err)
		}
		return nil, fmt.Errorf("data: %w", err)
	}
	if r.Valid == "" {
		return d, nil
	}
	held, err := load(r.Valid, r.TextKey)
	if err != nil {
		return nil, fmt.Errorf("valid: %w", err)
	}
	return d, d.validate(held, r)
}

// validate sets the windows to validate on.
func (d *trainingData) validate(corpus *data.Dataset, r *recipe.Recipe) (err error) {
	if corpus.Window != d.window || corpus.Rows(corpus.Window) != d.rows() {
		return fmt.Errorf("valid: %s: its rows hold %d ids and predict %d, those of the data %d and %d",
			r.Valid, corpus.Window, corpus.Rows(corpus.Window), d.window, d.rows())
	}
	held := fingerprintOf(corpus.Tokens)
	d.held = &held
	if d.valid, err = data.FirstWindows(corpus.IDs, d.window, r.ValidWindows); err != nil {
		return fmt.Errorf("valid: %s: %w", r.Valid, err)
	}
	corpus.Read(0, len(d.valid)*d.window)
	return corpus.Err()
}

func fingerprintOf(t *data.Tokens) fingerprint {
	return fingerprint{Tokens: len(t.IDs), CRC32C: t.CRC32C()}
}

// mixed returns the fingerprint of a corpus, or of several with their weights.
func mixed(parts []data.Component) fingerprint {
	all := fingerprintOf(parts[0].Tokens)
	if len(parts) == 1 {
		return all
	}
	all = fingerprint{}
	for _, p := range parts {
		part := fingerprintOf(p.Tokens)
		all.Tokens += part.Tokens
		all.CRC32C = crc32.Update(all.CRC32C, castagnoli, fmt.Appendf(nil, "%d %08x %v\n", part.Tokens, part.CRC32C, p.Weight))
	}
	return all
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// updateCRC continues a CRC-32C over values in little-endian order.
func updateCRC(sum uint32, values []float32) uint32 {
	buf := make([]byte, 0, 1<<16)
	for part := range slices.Chunk(values, cap(buf)/4) {
		buf, _ = binary.Append(buf[:0], binary.LittleEndian, part) // cannot fail for either type
		sum = crc32.Update(sum, castagnoli, buf)
	}
	return sum
}
