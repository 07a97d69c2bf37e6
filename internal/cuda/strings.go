//go:build cuda && linux

package cuda

import (
	"runtime"
	"unsafe"
)

// cStrings converts strings to C strings, whose memory is not moved until unpin is called.
func cStrings(all []string) (list []unsafe.Pointer, unpin func()) {
	var pinned runtime.Pinner
	for _, s := range all {
		b := append([]byte(s), 0)
		pinned.Pin(&b[0])
		list = append(list, unsafe.Pointer(&b[0]))
	}
	return list, pinned.Unpin
}
