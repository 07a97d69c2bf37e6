//go:build !(blas && cgo && amd64 && linux)

// Package native is empty without -tags blas: see native.go.
package native
