package kernels

import "golang.org/x/sys/unix"

// permitTiles asks Linux for the use of tiles, which enlarge what it keeps of a thread, and reports whether it may.
func permitTiles() bool {
	const request, tileData = 0x1023, 18 // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
	_, _, err := unix.RawSyscall(unix.SYS_ARCH_PRCTL, request, tileData, 0)
	return err == 0
}
