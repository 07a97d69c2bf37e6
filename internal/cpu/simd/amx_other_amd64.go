//go:build !linux

package simd

func permitTiles() bool { return false }
