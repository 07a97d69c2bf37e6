//go:build !cuda || !linux

package doctor

import "gqa/internal/cuda"

// Examine looks for libraries. This build loads none.
func Examine() *Report { return files(cuda.Find()) }
