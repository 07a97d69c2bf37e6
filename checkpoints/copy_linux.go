package checkpoints

import (
	"os"

	"golang.org/x/sys/unix"
)

// copyFileRange copies up to n bytes of src from off on to dst at at within the system,
// and returns how many. It stops short where the system cannot, or at an error, which
// whoever copies the rest will meet again.
func copyFileRange(dst *os.File, at int64, src *os.File, off, n int64) (done int64) {
	const most = 1 << 30 // in one call, a little less than the system's own limit
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
