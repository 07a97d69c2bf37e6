package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
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
	load := func(name string) (*data.Dataset, error) {
		return data.Load(ctx, name, modelDir, a, data.Options{
			SeqLen: r.SeqLen, Seed: r.Seed, TextKey: r.TextKey,
		})
	}
	corpus, err := load(r.Data)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	d := &trainingData{Objective: corpus.Objective, window: corpus.Window, fingerprint: fingerprintOf(corpus.IDs)}
	if d.sampler, err = data.NewSampler(corpus.IDs, d.window, r.Seed); err != nil {
		return nil, fmt.Errorf("data: %s: %w", r.Data, err)
	}
	if r.Valid == "" {
		return d, nil
	}
	if corpus, err = load(r.Valid); err != nil {
		return nil, fmt.Errorf("valid: %w", err)
	}
	if corpus.Window != d.window || corpus.Rows(corpus.Window) != d.rows() {
		return nil, fmt.Errorf("valid: %s: its rows hold %d ids and predict %d, those of the data %d and %d",
			r.Valid, corpus.Window, corpus.Rows(corpus.Window), d.window, d.rows())
	}
	held := fingerprintOf(corpus.IDs)
	d.held = &held
	if d.valid, err = data.FirstWindows(corpus.IDs, d.window, r.ValidWindows); err != nil {
		return nil, fmt.Errorf("valid: %s: %w", r.Valid, err)
	}
	return d, nil
}

func fingerprintOf(ids []int32) fingerprint {
	return fingerprint{Tokens: len(ids), CRC32C: updateCRC(0, ids)}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// updateCRC continues a CRC-32C over values in little-endian order.
func updateCRC[T int32 | float32](sum uint32, values []T) uint32 {
	buf := make([]byte, 0, 1<<16)
	for part := range slices.Chunk(values, cap(buf)/4) {
		buf, _ = binary.Append(buf[:0], binary.LittleEndian, part) // cannot fail for either type
		sum = crc32.Update(sum, castagnoli, buf)
	}
	return sum
}
