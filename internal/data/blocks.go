package data

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync/atomic"

	"gqa/checkpoints"
)

// blockTokens is the number of tokens of a cached corpus that have a checksum together, which is compared when one of them is first read.
// A shard has a whole number of blocks, except for the last.
const blockTokens = 4096

// blocks are the checksums of a mapping's blocks.
type blocks struct {
	sums  []uint32
	files []string        // of shards
	read  []atomic.Uint64 // a bit for each block that was right
	fault atomic.Pointer[error]
}

// sumsFile returns the file with the checksums of a shard's blocks, as little-endian uint32.
func sumsFile(shard string) string { return shard[:len(shard)-len(filepath.Ext(shard))] + ".sums" }

// writeSums writes the checksums of a shard's blocks, and returns the checksum of what it writes.
func writeSums(shard string, ids []int32) (sums []uint32, crc uint32, err error) {
	for at := 0; at < len(ids); at += blockTokens {
		sums = append(sums, updateCRC(0, ids[at:min(at+blockTokens, len(ids))]))
	}
	text, err := binary.Append(nil, binary.LittleEndian, sums)
	if err == nil {
		err = checkpoints.WriteFileAtomic(sumsFile(shard), text, 0o666)
	}
	return sums, crc32.Checksum(text, castagnoli), err
}

// readSums returns the checksums of a shard's blocks; nil if they are missing or not those that were written.
func readSums(path string, s shard) []uint32 {
	text, err := os.ReadFile(sumsFile(path))
	sums := make([]uint32, (s.Tokens+blockTokens-1)/blockTokens)
	if err != nil || len(text) != 4*len(sums) || crc32.Checksum(text, castagnoli) != s.Sums {
		return nil
	}
	for i := range sums {
		sums[i] = binary.LittleEndian.Uint32(text[4*i:])
	}
	return sums
}

// check compares the blocks of the tokens [from,to) of ids with their checksums, unless that has been done.
func (b *blocks) check(ids []int32, from, to int) {
	for i := from / blockTokens; i*blockTokens < to; i++ {
		word, bit := &b.read[i/64], uint64(1)<<(i%64)
		if word.Load()&bit != 0 {
			continue
		}
		first := i * blockTokens
		if sum := updateCRC(0, ids[first:min(first+blockTokens, len(ids))]); sum != b.sums[i] {
			path := b.files[first/shardTokens]
			err := fmt.Errorf("%s: is damaged: the checksum of the tokens from %d on is %08x, want %08x; remove the folder %s, and the corpus is encoded again",
				path, first%shardTokens, sum, b.sums[i], filepath.Dir(path))
			b.fault.CompareAndSwap(nil, &err)
			return
		}
		word.Or(bit)
	}
}

// err returns the first damage that was found.
func (b *blocks) err() error {
	if err := b.fault.Load(); err != nil {
		return *err
	}
	return nil
}
