//go:build (darwin || linux) && (amd64 || arm64)

package data

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapShards maps files of tokens into one range of addresses, without checking their contents. The range stays mapped: windows that were
// drawn from it may be in use for as long as the process runs. Both architectures store integers as the files do.
func mapShards(files []string, shards []shard, tokens int) (*mapping, error) {
	size := uintptr(4 * tokens)
	base, err := unix.MmapPtr(-1, 0, nil, size, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	at := uintptr(0)
	for i, s := range shards {
		if err := mapShard(files[i], s, unsafe.Add(base, at)); err != nil {
			_ = unix.MunmapPtr(base, size) // the first error says more
			return nil, err
		}
		at += uintptr(4 * s.Tokens)
	}
	whole := unsafe.Slice((*byte)(base), size)
	m := &mapping{ids: unsafe.Slice((*int32)(base), tokens)}
	// If these fail, more memory is used, or more is read.
	m.forget = func() { _ = unix.Madvise(whole, unix.MADV_DONTNEED) }
	m.random = func() { _ = unix.Madvise(whole, unix.MADV_RANDOM) }
	return m, nil
}

// mapShard maps a file at an address within a range that was reserved for it.
func mapShard(path string, s shard, at unsafe.Pointer) error {
	if err := checkSize(path, s); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = unix.MmapPtr(int(f.Fd()), 0, at, uintptr(4*s.Tokens), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED)
	return os.NewSyscallError("mmap", err)
}

// flock waits for a lock on a file, or reports that it is held.
func flock(f *os.File) (held bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return true, nil
	}
	return false, os.NewSyscallError("flock", err)
}

// littleEndian returns tokens as files store them, which is how they are in memory.
func littleEndian(tokens []int32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(tokens))), 4*len(tokens))
}
