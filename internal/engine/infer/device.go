package infer

import "gqa/internal/device"

// Err returns the first error of the decoder's device. Results are meaningless after one.
func (d *Decoder) Err() error { return d.device.Err() }

// DeviceName returns the name of the device; empty for the processor.
func (d *Decoder) DeviceName() string {
	if named, ok := d.device.(device.Namer); ok {
		return named.Name()
	}
	return ""
}

// Room returns the bytes that are not in use of the memory of the device; false if that is the processor's.
func (d *Decoder) Room() (bytes uint64, ok bool) {
	r, ok := d.device.(device.Roomy)
	if ok {
		bytes = r.Room()
	}
	return bytes, ok
}

// Wait returns when a result has been computed.
func (d *Decoder) Wait(m Mat) error {
	if m.Len() > 0 {
		d.device.Host(m.Slice(0, 1))
	}
	return d.device.Err()
}
