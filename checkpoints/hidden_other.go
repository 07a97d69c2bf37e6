//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package checkpoints

import "os"

func hold(string) (release func()) { return func() {} }

func holdFile(*os.File) {}

func isLocked(string) (locked, known bool) { return false, false }

// alive reports whether there is a process of that pid: Windows finds none that has ended.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		p.Release() //nolint:errcheck // it was only looked for
	}
	return err == nil
}
