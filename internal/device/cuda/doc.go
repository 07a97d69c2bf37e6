// Package cuda is an NVIDIA GPU as a device. It is in builds with the tag cuda, on Linux; others have its name alone.
package cuda
