package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"gqa/configs"
	"gqa/internal/stream"
	"gqa/internal/text"
)

// data is what a run reads: windows to train on, in an order of their own, and windows to validate on.
type data struct {
	sampler     *text.Sampler
	valid       [][]int32
	fingerprint fingerprint
}

// fingerprint tells one token stream from another.
type fingerprint struct {
	Tokens int    `json:"tokens"`
	CRC32C uint32 `json:"crc32c"` // of the ids as little-endian int32
}

func loadData(ctx context.Context, r *configs.Recipe, modelDir string, vocab int) (*data, error) {
	ids, err := loadIDs(ctx, r.Data, modelDir, vocab)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	d := &data{fingerprint: fingerprintOf(ids)}
	if d.sampler, err = text.NewSampler(ids, r.SeqLen, r.Seed); err != nil {
		return nil, fmt.Errorf("data: %s: %w", r.Data, err)
	}
	if r.Valid == "" {
		return d, nil
	}
	if ids, err = loadIDs(ctx, r.Valid, modelDir, vocab); err != nil {
		return nil, fmt.Errorf("valid: %w", err)
	}
	if d.valid, err = cut(ids, r.SeqLen, r.ValidWindows); err != nil {
		return nil, fmt.Errorf("valid: %s: %w", r.Valid, err)
	}
	return d, nil
}

func loadIDs(ctx context.Context, name, modelDir string, vocab int) ([]int32, error) {
	s, err := stream.Load(ctx, name, modelDir, vocab, 0)
	if err != nil {
		return nil, err
	}
	return s.IDs, nil
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
	table := crc32.MakeTable(crc32.Castagnoli)
	f := fingerprint{Tokens: len(ids)}
	buf := make([]byte, 0, 1<<16)
	for len(ids) > 0 {
		n := min(len(ids), cap(buf)/4)
		buf, _ = binary.Append(buf[:0], binary.LittleEndian, ids[:n]) // int32 always encodes
		f.CRC32C = crc32.Update(f.CRC32C, table, buf)
		ids = ids[n:]
	}
	return f
}
