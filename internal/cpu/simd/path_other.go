//go:build !amd64 && !arm64

package simd

func archPaths() []*path { return nil }
