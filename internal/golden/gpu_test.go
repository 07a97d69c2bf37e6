//go:build cuda && linux

package golden_test

import (
	"testing"

	"gqa/internal/cuda"
	devcuda "gqa/internal/device/cuda"
	"gqa/internal/engine/infer"
	"gqa/internal/engine/spago"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// TestLogitsOnGPU compares both engines on a GPU with transformers, for every case as it is and with fewer KV heads.
func TestLogitsOnGPU(t *testing.T) {
	if n, err := cuda.Count(); err != nil || n == 0 {
		t.Skipf("no GPU: %d found, %v", n, err)
	}
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			for _, f := range formsOf(t, c) {
				checkOnGPU(t, c, f)
			}
		})
	}
}

func checkOnGPU(t *testing.T, c *golden.Case, f form) {
	t.Helper()
	dev, err := devcuda.Open(0, devcuda.Options{})
	if err != nil {
		t.Fatal(err)
	}
	batch := c.Batch()
	d, err := infer.Build(dev, infer.Formats{}, f.arch, model.FromMap(f.arch, f.all))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, f.name+" by decode", dev.Host(d.Logits(batch).Buffer), f.logits)
	params, err := spago.NewParams(dev, f.arch, model.FromMap(f.arch, f.all))
	if err != nil {
		t.Fatal(err)
	}
	e, m := spago.New(dev), params.Model(f.arch)
	compare(t, f.name+" by spago", e.Values(m.Logits(e, m.Hidden(e, batch))), f.logits)
	if err := dev.Err(); err != nil {
		t.Fatal(err)
	}
}
