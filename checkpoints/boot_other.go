//go:build !linux && !darwin

package checkpoints

// bootID returns "": there is no boot identifier on this system, so only process IDs and locks are used.
func bootID() string { return "" }
