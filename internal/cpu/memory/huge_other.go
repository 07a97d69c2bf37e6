//go:build !linux

package memory

// HugePages does nothing on this system.
func HugePages[T any]([]T) {}

// CollapsePages does nothing on this system.
func CollapsePages[T any]([]T) {}
