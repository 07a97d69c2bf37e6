package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/objective"
	"gqa/internal/stream"
	"gqa/internal/text"
)

// data is what a run reads: windows to train on, in an order of their own, and windows to validate on.
type data struct {
	objective.Objective
	window      int // ids of a window
	sampler     *text.Sampler
	valid       [][]int32
	fingerprint fingerprint
	held        *fingerprint // of the text to validate on; nil: none
}

// rows is how many tokens of a window the model reads to predict.
func (d *data) rows() int { return d.Rows(d.window) }

// fingerprint tells one token stream from another.
type fingerprint struct {
	Tokens int    `json:"tokens"`
	CRC32C uint32 `json:"crc32c"` // of the ids as little-endian int32
}

func (f fingerprint) String() string {
	return fmt.Sprintf("%d tokens of CRC-32C %08x", f.Tokens, f.CRC32C)
}

func loadData(ctx context.Context, r *recipe.Recipe, modelDir string, a *configs.Arch) (*data, error) {
	load := func(name string) (*objective.Data, error) {
		return objective.Load(ctx, name, modelDir, a, objective.Options{
			SeqLen: r.SeqLen, Seed: r.Seed, Options: stream.Options{TextKey: r.TextKey},
		})
	}
	corpus, err := load(r.Data)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	d := &data{Objective: corpus.Objective, window: corpus.Window, fingerprint: fingerprintOf(corpus.IDs)}
	if d.sampler, err = text.NewSampler(corpus.IDs, d.window, r.Seed); err != nil {
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
	if d.valid, err = cut(corpus.IDs, d.window, r.ValidWindows); err != nil {
		return nil, fmt.Errorf("valid: %s: %w", r.Valid, err)
	}
	return d, nil
}

// cut is the first windows of n ids that do not overlap, at most limit of them unless it is 0.
func cut(ids []int32, n, limit int) ([][]int32, error) {
	count, err := text.Windows(ids, n)
	if err != nil {
		return nil, err
	}
	if limit > 0 {
		count = min(count, limit)
	}
	windows := make([][]int32, count)
	for i := range windows {
		windows[i] = ids[i*n : (i+1)*n]
	}
	return windows, nil
}

func fingerprintOf(ids []int32) fingerprint {
	return fingerprint{Tokens: len(ids), CRC32C: updateCRC(0, ids)}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// updateCRC goes on with a CRC-32C over values, little-endian.
func updateCRC[T int32 | float32](sum uint32, values []T) uint32 {
	buf := make([]byte, 0, 1<<16)
	for part := range slices.Chunk(values, cap(buf)/4) {
		buf, _ = binary.Append(buf[:0], binary.LittleEndian, part) // either type always encodes
		sum = crc32.Update(sum, castagnoli, buf)
	}
	return sum
}
