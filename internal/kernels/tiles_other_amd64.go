//go:build !linux

package kernels

func permitTiles() bool { return false }
