//go:build !amd64

package kernels

func archPaths() []*path { return nil }
