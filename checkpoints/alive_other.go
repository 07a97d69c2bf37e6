//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package checkpoints

// alive reports whether there is a process with that pid. It is not known here, so nothing is taken for abandoned.
func alive(int) bool { return true }
