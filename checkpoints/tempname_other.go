//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package checkpoints

import "os"

func lockPath(string) (release func()) { return func() {} }

func lockFile(*os.File) {}

func isLocked(string) (locked, known bool) { return false, false }

// alive reports whether there is a process with that pid. On Windows, FindProcess fails for one that has exited.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		p.Release() //nolint:errcheck // only looked up
	}
	return err == nil
}
