package kernels

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages. They are an optimisation: where there are none, nothing changes.
func adviseHuge(memory []byte) { _ = unix.Madvise(memory, unix.MADV_HUGEPAGE) }
