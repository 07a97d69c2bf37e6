package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"gqa/checkpoints"
)

// worsened writes a copy of a model into dir whose loss on the windows is higher by a share of it, within 5% of that share: noise is added
// to all its weights, in proportion to the root mean square of each tensor. It returns the copy's figures.
func (w windows) worsened(ctx context.Context, model, dir string, loss, share float64, seed uint64) (measured, error) {
	const tries = 30
	size := 0.02
	for range tries {
		if err := os.RemoveAll(dir); err != nil {
			return measured{}, err
		}
		if err := addNoise(model, dir, size, seed); err != nil {
			return measured{}, err
		}
		m, err := w.measure(ctx, dir)
		if err != nil {
			return m, err
		}
		rise := max(m.figures["loss"].Value/loss-1, share/100)
		if math.Abs(rise-share) < 0.05*share {
			return m, nil
		}
		size *= math.Sqrt(share / rise) // near a minimum of the loss it rises by the square
	}
	return measured{}, fmt.Errorf("%d sizes of noise were tried, and none raises the loss by %.3g%%", tries, 100*share)
}

// addNoise copies a model of one file and adds normal noise to its weights, size times the root mean square of each tensor.
func addNoise(model, dir string, size float64, seed uint64) error {
	src, err := checkpoints.Open(filepath.Join(model, "model.safetensors"))
	if err != nil {
		return err
	}
	defer src.Close()
	if err := os.CopyFS(dir, os.DirFS(model)); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		return err
	}
	var specs []checkpoints.Spec
	for _, name := range src.Names() {
		t, _ := src.Tensor(name)
		spec := t.Spec()
		spec.DType = checkpoints.F32
		specs = append(specs, spec)
	}
	r := rand.New(rand.NewPCG(seed, 1))
	return checkpoints.Write(dir, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, out io.Writer) error {
		t, _ := src.Tensor(s.Name)
		x, err := t.Float32(nil)
		if err != nil {
			return err
		}
		square := 0.0
		for _, v := range x {
			square += float64(v) * float64(v) / float64(len(x))
		}
		for i := range x {
			x[i] += float32(size * math.Sqrt(square) * r.NormFloat64())
		}
		data := make([]byte, 4*len(x))
		if err := checkpoints.EncodeFloats(data, x, checkpoints.F32); err != nil {
			return err
		}
		_, err = out.Write(data)
		return err
	})
}
