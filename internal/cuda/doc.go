// Package cuda is NVIDIA's driver and libraries as far as the toolkit uses them, without cgo: libraries are found where they are
// usually installed and loaded at run time, so that a build needs no CUDA toolkit.
//
// [Find] works in every build. What calls a library is in builds with the tag cuda, on Linux.
package cuda
