// Package cuda binds the functions of NVIDIA's driver and libraries that the toolkit uses, without cgo: libraries are
// searched for in the usual places and loaded at run time, so that a build needs no CUDA toolkit.
//
// [Find] works in every build. Functions that call a library are only in builds with the tag cuda, on Linux.
package cuda
