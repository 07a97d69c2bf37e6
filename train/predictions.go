package train

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"gqa/checkpoints"
	"gqa/internal/device"
	"gqa/internal/file"
)

const (
	predictionsKeyFile = "teacher.json"
	predictionsFile    = "predictions.bin"

	maxKey = 1 << 20 // bytes of teacher.json
)

// errCache is wrapped by the error for a teacher's cache that cannot be read or written, or that belongs to other
// predictions.
var errCache = errors.New("teacher cache")

// predictionsKey holds everything that a teacher's predictions depend on.
type predictionsKey struct {
	Teacher     uint32      `json:"teacher"` // CRC-32C of config.json and weights
	Data        fingerprint `json:"data"`
	SeqLen      int         `json:"seq_len"`
	Seed        uint64      `json:"seed"` // determines where windows begin
	Vocab       int         `json:"vocab"`
	TopK        int         `json:"top_k"`
	Temperature float64     `json:"temperature"`
}

// predictions stores a teacher's most probable tokens on disk: one record per window, in the order in which a run draws
// them. Any run that draws the same windows can use it, whatever its batch size, model and length, and several runs can
// do so at once.
//
// A record is a CRC-32C of the rest of the record, followed for every position of the window by TopK ids as int32 and
// TopK log-probabilities as f16, all little-endian. Windows not yet read are holes in the file.
type predictions struct {
	key  predictionsKey
	file *os.File
	buf  []byte // one record
	soft device.Soft
}

// openPredictions opens the folder dir, creating it if necessary. If dir holds other predictions, the error says what
// differs.
func openPredictions(dir string, key predictionsKey) (*predictions, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("%w: %w", errCache, err)
	}
	want, err := json.MarshalIndent(key, "", "  ")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, predictionsKeyFile)
	text, err := file.ReadMax(path, maxKey)
	switch {
	case err == nil && json.Valid(text):
		if err := key.check(text); err != nil {
			return nil, fmt.Errorf("%w: %s: %w; name another folder with distill.cache, or remove %s", errCache, path, err, dir)
		}
	case err == nil || errors.Is(err, fs.ErrNotExist):
		if err := beginPredictions(dir, path, append(want, '\n')); err != nil {
			return nil, fmt.Errorf("%w: %w", errCache, err)
		}
	default:
		return nil, fmt.Errorf("%w: %w", errCache, err)
	}
	path = filepath.Join(dir, predictionsFile)
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() { // a pipe or a link to another file
		return nil, fmt.Errorf("%w: %s: is not a regular file; remove it, or name another folder with distill.cache", errCache, path)
	}
	opened, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCache, err)
	}
	n := key.SeqLen * key.TopK
	return &predictions{key: key, file: opened, buf: make([]byte, 4+6*n)}, nil
}

// beginPredictions writes the key of a folder that has none, or whose key is no longer valid JSON. Existing predictions
// are then not used, because their origin is unknown.
func beginPredictions(dir, path string, key []byte) error {
	aside, err := putAside(filepath.Join(dir, predictionsFile))
	if err != nil {
		return err
	}
	damaged, err := putAside(path)
	if err != nil {
		return err
	}
	what := "has no " + predictionsKeyFile
	if damaged != "" {
		what = "has a damaged " + predictionsKeyFile
	}
	if aside != "" {
		slog.Warn(fmt.Sprintf("teacher cache: %s %s, which identifies its predictions: they are not used but kept as %s, and are computed again",
			dir, what, aside))
	}
	return checkpoints.WriteFileAtomic(path, key, 0o666)
}

// check compares the key with a folder's key.
func (k predictionsKey) check(text []byte) error {
	var held predictionsKey
	if err := json.Unmarshal(text, &held); err != nil || held.Vocab < 1 || held.TopK < 1 {
		return errors.New("is not what a run writes into a teacher's cache")
	}
	for _, d := range []struct {
		what      string
		held, now any
	}{
		{"another teacher", held.Teacher, k.Teacher},
		{"other data", held.Data, k.Data},
		{"another seq_len", held.SeqLen, k.SeqLen},
		{"another seed", held.Seed, k.Seed},
		{"another vocabulary", held.Vocab, k.Vocab},
		{"another distill.top_k", held.TopK, k.TopK},
		{"another distill.temperature", held.Temperature, k.Temperature},
	} {
		if d.held != d.now {
			return fmt.Errorf("holds predictions of %s (%v there, %v now)", d.what, d.held, d.now)
		}
	}
	return nil
}

// room returns memory for the predictions of windows, valid until the next call.
func (p *predictions) room(windows int) device.Soft {
	n := windows * p.key.SeqLen * p.key.TopK
	if len(p.soft.IDs) < n {
		p.soft = device.Soft{K: p.key.TopK, IDs: make([]int32, n), LogP: make([]float32, n)}
	}
	return device.Soft{K: p.soft.K, IDs: p.soft.IDs[:n], LogP: p.soft.LogP[:n]}
}

// window returns the part of soft that belongs to its ith window.
func (p *predictions) window(soft device.Soft, i int) device.Soft {
	n := p.key.SeqLen * p.key.TopK
	return device.Soft{K: soft.K, IDs: soft.IDs[i*n : (i+1)*n], LogP: soft.LogP[i*n : (i+1)*n]}
}

// load reads the record of a window. held is false if there is no intact record.
func (p *predictions) load(window int, soft device.Soft) (held bool, err error) {
	_, err = p.file.ReadAt(p.buf, int64(window)*int64(len(p.buf)))
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", errCache, err)
	}
	body := p.buf[4:]
	if binary.LittleEndian.Uint32(p.buf) != crc32.Checksum(body, castagnoli) {
		return false, nil
	}
	n := len(soft.IDs)
	for i := range soft.IDs {
		soft.IDs[i] = int32(binary.LittleEndian.Uint32(body[4*i:]))
		soft.LogP[i] = checkpoints.F16ToF32(binary.LittleEndian.Uint16(body[4*n+2*i:]))
		if soft.IDs[i] < 0 || int(soft.IDs[i]) >= p.key.Vocab || !isFinite(float64(soft.LogP[i])) {
			return false, nil // belongs to another file, as the checksum is good
		}
	}
	return true, nil
}

// store writes the record of a window.
func (p *predictions) store(window int, soft device.Soft) error {
	body, n := p.buf[4:], len(soft.IDs)
	for i, id := range soft.IDs {
		binary.LittleEndian.PutUint32(body[4*i:], uint32(id))
		binary.LittleEndian.PutUint16(body[4*n+2*i:], checkpoints.F32ToF16(soft.LogP[i]))
	}
	binary.LittleEndian.PutUint32(p.buf, crc32.Checksum(body, castagnoli))
	if _, err := p.file.WriteAt(p.buf, int64(window)*int64(len(p.buf))); err != nil {
		return fmt.Errorf("%w: %w", errCache, err)
	}
	return nil
}

func (p *predictions) Close() error { return p.file.Close() }
