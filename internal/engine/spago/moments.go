package spago

import (
	"slices"

	"gqa/configs/recipe"
	"gqa/internal/device"
)

// average is an average over steps as the optimizer stores it: in F32, in bfloat16, or in codes with a scale for each block.
type average struct{ values, scales device.Buffer }

// storedFrom is the smallest number of numbers of a weight whose averages are stored in fewer bits: those of others take little memory.
const storedFrom = 4096

// newAverages returns the averages of a gradient and of its square, of n numbers each of a weight of size numbers, all zero.
func (o *optimizer) newAverages(n, size int) (m, v average) {
	switch {
	case size < storedFrom:
	case o.spec.Moments == recipe.MomentsBF16:
		return average{values: o.cleared(device.BF16, n)}, average{values: o.cleared(device.BF16, n)}
	case o.spec.Moments == recipe.Moments8:
		blocks := (n + device.BlockOf - 1) / device.BlockOf
		return average{o.cleared(device.Signed8, n), o.zeros(blocks)}, average{o.cleared(device.Unsigned8, n), o.zeros(blocks)}
	}
	return average{values: o.zeros(n)}, average{values: o.zeros(n)}
}

func (o *optimizer) zeros(n int) device.Buffer { return o.cleared(device.F32, n) }

func (o *optimizer) cleared(f device.Format, n int) device.Buffer {
	b := o.device.New(f, n)
	o.device.Clear(b)
	return b
}

// none reports whether there is no average.
func (a average) none() bool { return a.values.None() }

// host returns the numbers on the host, read-only.
func (a average) host(d device.Device) []float32 {
	x, copied := a.f32(d)
	if !copied {
		return d.Host(x)
	}
	defer d.Free(x)
	return slices.Clone(d.Host(x))
}

// f32 returns the numbers in F32: themselves, or a copy, which the caller must free.
func (a average) f32(d device.Device) (x device.Buffer, copied bool) {
	if a.values.Len() == 0 || a.values.Format() == device.F32 {
		return a.values, false
	}
	x = d.New(device.F32, a.values.Len())
	if a.scales.None() {
		d.Copy(x, a.values)
	} else {
		d.Decode(x, a.values, a.scales)
	}
	return x, true
}

// set replaces the numbers. Those that host returned are stored as they were.
func (a average) set(d device.Device, numbers []float32) {
	if a.scales.None() {
		d.Write(a.values, numbers)
		return
	}
	x := d.New(device.F32, len(numbers))
	defer d.Free(x)
	d.Write(x, numbers)
	d.Encode(a.values, a.scales, x)
}
