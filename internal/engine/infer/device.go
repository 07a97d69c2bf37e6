package infer

// Err returns the first error of the decoder's device. Results are meaningless after one.
func (d *Decoder) Err() error { return d.device.Err() }

// Wait returns when a result has been computed.
func (d *Decoder) Wait(m Mat) error {
	if m.Len() > 0 {
		d.device.Host(m.Slice(0, 1))
	}
	return d.device.Err()
}
