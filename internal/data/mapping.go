package data

import (
	"context"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
)

// mapping is the tokens of a cached corpus, as one slice over all shards.
type mapping struct {
	ids    []int32
	crc    uint32
	blocks blocks
	read   atomic.Int64 // bytes since pages were given back
	forget func()       // gives the memory of all pages back; they are read again when needed
	random func()       // says that windows will be read in random order
}

// resident is how many bytes of the tokens stay in memory: pages that were read count as the process's memory.
var resident int64 = 256 << 20

// touch notes that the tokens [from,to) are about to be read, and checks them. m may be nil.
func (m *mapping) touch(from, to int) {
	if m == nil || from == to {
		return
	}
	const around = 2 << 20 // the system maps pages of the file's cache in groups of up to this size
	if m.read.Add(4*int64(to-from)+around) > resident {
		m.read.Store(0)
		m.forget()
	}
	m.blocks.check(m.ids, from, to)
}

// shard is a file of a cached corpus.
type shard struct {
	Tokens int    `json:"tokens"`
	CRC32C uint32 `json:"crc32c"`      // of the tokens as little-endian int32
	All    uint32 `json:"crc32c_all"`  // the same of all tokens up to its end
	Sums   uint32 `json:"crc32c_sums"` // of the file with the checksums of its blocks
	Time   int64  `json:"modified_ns"` // of the file, when its contents were last known to be right; 0: they were not
}

// openShards maps the shards in files one after another. It reads and checks those whose time is not the recorded one, or whose blocks have
// no checksums, and returns whether it has recorded something. The others are checked block by block when they are read.
func openShards(ctx context.Context, files []string, shards []shard) (m *mapping, changed bool, err error) {
	all := 0
	for i, s := range shards {
		if s.Tokens < 1 || i+1 < len(shards) && s.Tokens != shardTokens {
			return nil, false, fmt.Errorf("%s: is said to hold %d tokens", files[i], s.Tokens)
		}
		all += s.Tokens
	}
	if m, err = mapShards(files, shards, all); err != nil {
		return nil, false, err
	}
	from := 0
	for i := range shards {
		s, path := &shards[i], files[i]
		ids := m.ids[from : from+s.Tokens]
		from += s.Tokens
		now, err := modified(path)
		if err != nil {
			return nil, false, err
		}
		sums := readSums(path, *s)
		if now != s.Time || sums == nil {
			if !changed {
				slog.Info("checking the corpus in the cache", "folder", filepath.Dir(path))
			}
			if sum := updateCRC(0, ids); sum != s.CRC32C {
				return nil, false, fmt.Errorf("%s: is damaged: its checksum is %08x, want %08x", path, sum, s.CRC32C)
			}
			if sums, s.Sums, err = writeSums(path, ids); err != nil {
				return nil, false, err
			}
			s.All, s.Time, changed = updateCRC(m.crc, ids), now, true
			m.forget()
		}
		m.crc = s.All
		m.blocks.sums = append(m.blocks.sums, sums...)
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
	}
	m.blocks.files, m.blocks.read = files, make([]atomic.Uint64, (len(m.blocks.sums)+63)/64)
	m.random()
	return m, changed, nil
}

// modified returns when a file was last changed, in nanoseconds.
func modified(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.ModTime().UnixNano(), nil
}

// checkSize returns an error unless a shard's file has its size.
func checkSize(path string, s shard) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() != 4*int64(s.Tokens) {
		return fmt.Errorf("%s: has %d bytes, want %d", path, info.Size(), 4*s.Tokens)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// updateCRC continues a CRC-32C over tokens in little-endian order.
func updateCRC(sum uint32, tokens []int32) uint32 {
	const most = 1 << 14 // tokens at a time
	for part := range slices.Chunk(tokens, most) {
		sum = crc32.Update(sum, castagnoli, littleEndian(part))
	}
	return sum
}
