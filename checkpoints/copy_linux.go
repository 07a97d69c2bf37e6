package checkpoints

import (
	"os"

	"golang.org/x/sys/unix"
)

// copyFileRange copies up to n bytes from offset off of src to offset at of dst within the kernel, and returns the
// number of bytes copied. It stops early if the kernel cannot copy, or on an error, which the caller will meet again
// when it copies the rest.
func copyFileRange(dst *os.File, at int64, src *os.File, off, n int64) (done int64) {
	const most = 1 << 30 // bytes per call, slightly below the kernel's limit
	for done < n {
		m, err := unix.CopyFileRange(int(src.Fd()), &off, int(dst.Fd()), &at, int(min(n-done, most)), 0)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || m <= 0 {
			break
		}
		done += int64(m)
	}
	return done
}
