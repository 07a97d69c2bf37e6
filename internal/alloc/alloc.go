// Package alloc measures memory, for tests.
package alloc

import "runtime"

// Bytes returns how many bytes f, and whatever runs beside it, allocates, those that are freed meanwhile included.
func Bytes(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}
