package kernels

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a large page on the machines that have kernels of their own.
const hugePage = 2 << 20

// HugePages asks the system to back s, not yet written to, with large pages. What is read once from end to end, as weights
// and KV caches are for every token, is read faster so: fewer translations of addresses, and prefetching across 4 KiB.
// Nothing happens where the system has none.
func HugePages[T any](s []T) {
	if inner := alignedBytes(s); len(inner) > 0 {
		_ = unix.Madvise(inner, unix.MADV_HUGEPAGE)
	}
}

// CollapsePages is HugePages for memory that has been written to: it moves what is there, once, if Linux is 6.1 or newer.
func CollapsePages[T any](s []T) {
	if inner := alignedBytes(s); len(inner) > 0 {
		_ = unix.Madvise(inner, unix.MADV_COLLAPSE)
	}
}

// alignedBytes is the part of s that large pages can hold.
func alignedBytes[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
	skip := int(-uintptr(unsafe.Pointer(&b[0])) % hugePage)
	if skip >= len(b) {
		return nil
	}
	b = b[skip:]
	return b[:len(b)/hugePage*hugePage]
}
