package calibrate

import (
	"context"

	"gqa/internal/device"
	"gqa/internal/ops"
)

// KeepBefore makes the walk keep the states before its last layer, which Behind needs.
func (w *Walk) KeepBefore() { w.keeps = true }

// keepBefore stores a copy of the states x before a layer.
func (w *Walk) keepBefore(i int, x device.Buffer) error {
	if !w.keeps {
		return nil
	}
	d := w.engine.Device()
	held := d.New(device.F32, x.Len())
	d.Copy(held, x)
	return w.states.put(before, i, held)
}

// Behind returns the relative squared error of the states behind the last layer if its attention is changed, for the original's states
// before it.
func (w *Walk) Behind(ctx context.Context, layer int, changed Weights) (float64, error) {
	w.attach(layer, changed)
	d, lost, size := w.engine.Device(), []device.Number{}, []device.Number{}
	err := w.each(ctx, before, func(i int, b ops.Batch, x device.Buffer) error {
		want, err := w.states.get(teacherState, i)
		if err != nil {
			return err
		}
		got := w.engine.Copied(w.run(w.student, layer, b, x))
		defer d.Free(got)
		d.Axpy(-1, want, got)
		lost = append(lost, d.Sum(device.Term{X: got, Weight: 1, Squares: true}))
		size = append(size, d.Sum(device.Term{X: want, Weight: 1, Squares: true}))
		return nil
	})
	if err != nil {
		return 0, err
	}
	all, rest := 0.0, 0.0
	for i := range lost {
		rest, all = rest+lost[i](), all+size[i]()
	}
	if all == 0 {
		return 0, d.Err()
	}
	return rest / all, d.Err()
}
