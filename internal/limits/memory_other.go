//go:build !linux && !darwin

package limits

func free() float64 { return unknown }
