// Package alloc measures memory, for tests.
package alloc

import "runtime"

// Bytes returns the number of bytes allocated by f and everything running concurrently, including bytes freed since.
func Bytes(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}
