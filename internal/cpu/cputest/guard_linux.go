//go:build linux

package cputest

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guarded returns a copy of the values that ends at protected memory: reading or writing past the end crashes the test.
func Guarded[T any](t *testing.T, values []T) []T {
	t.Helper()
	page, size := unix.Getpagesize(), len(values)*int(unsafe.Sizeof(*new(T)))
	whole := (size + page - 1) / page * page
	memory, err := unix.Mmap(-1, 0, whole+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(memory) })
	if err := unix.Mprotect(memory[whole:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	s := unsafe.Slice((*T)(unsafe.Pointer(&memory[whole-size])), len(values))
	copy(s, values)
	return s
}
