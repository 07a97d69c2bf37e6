package eval

import (
	"gqa/internal/device"
	"gqa/internal/limits"
)

// CheckMemory returns an error if bytes, needed for what, exceed the free memory where the model is.
func (m *Model) CheckMemory(what string, bytes float64) error {
	room, own := m.Room()
	return checkRoom(what, bytes, room, own, m.DeviceName())
}

// checkMemoryOf is CheckMemory for a device.
func checkMemoryOf(dev device.Device, what string, bytes float64) error {
	r, own := dev.(device.Roomy)
	if !own {
		return limits.Memory(what, bytes)
	}
	name := ""
	if n, ok := dev.(device.Namer); ok {
		name = n.Name()
	}
	return checkRoom(what, bytes, r.Room(), own, name)
}

// checkRoom compares bytes with the room of a device that has memory of its own, or with the free memory of the processor.
func checkRoom(what string, bytes float64, room uint64, own bool, name string) error {
	switch {
	case !own:
		return limits.Memory(what, bytes)
	case bytes > float64(room):
		return limits.MemoryError{What: what, Bytes: bytes, Free: float64(room), Device: name}
	}
	return nil
}
