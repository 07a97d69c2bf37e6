// Package cuda implements a device on an NVIDIA GPU. It is available in builds with the tag cuda, on Linux; in other
// builds it is empty.
package cuda
