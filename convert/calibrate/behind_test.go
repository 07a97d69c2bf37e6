package calibrate

import (
	"testing"

	"gqa/configs"
	"gqa/internal/golden"
)

// What attention changes behind a layer is measured with the original's states before it: nothing with its own weights, and with another
// output nearly the square of the change, in every layer.
func TestBehind(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			src := golden.Open(t, c.Dir)
			w := walk(t, src, 700, src.Arch.KVHeads, false)
			w.KeepBefore()
			for layer := range src.Arch.Layers {
				if _, err := w.Layer(t.Context(), layer); err != nil {
					t.Fatal(err)
				}
				changed := attentionOf(w, layer)
				if off, err := w.Behind(t.Context(), layer, changed); err != nil || off > 1e-9 {
					t.Errorf("layer %d: its own weights change %g, %v", layer, off, err)
				}
				if !w.corrects() {
					continue // a norm undoes what follows
				}
				var off [2]float64
				o := changed[configs.ParamName(configs.O, layer, false)]
				own := append([]float32(nil), o...)
				for i, part := range []float32{0.99, 0.96} {
					for j, x := range own {
						o[j] = part * x
					}
					var err error
					if off[i], err = w.Behind(t.Context(), layer, changed); err != nil {
						t.Fatal(err)
					}
				}
				if growth := off[1] / off[0]; !(off[0] > 1e-9) || growth < 12 || growth > 20 {
					t.Errorf("layer %d: changes of %g and %g; four times the change is %g times that, want about 16", layer, off[0], off[1], growth)
				}
			}
		})
	}
}
