package simd

import "golang.org/x/sys/unix"

// permitTiles asks Linux for permission to use tiles, which enlarge the state that it saves for a thread, and reports whether it is
// given.
func permitTiles() bool {
	const request, tileData = 0x1023, 18 // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
	_, _, err := unix.RawSyscall(unix.SYS_ARCH_PRCTL, request, tileData, 0)
	return err == 0
}
