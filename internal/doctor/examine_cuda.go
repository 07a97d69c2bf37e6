//go:build cuda && linux

package doctor

import (
	"gqa/internal/cuda"
	"gqa/internal/device"
	devcuda "gqa/internal/device/cuda"
)

// Examine looks for libraries and GPUs, and runs checks on the first GPU.
func Examine() *Report {
	r := libraries(cuda.Inspect(), cuda.Find())
	r.found(cuda.List())
	compute := []string{"libcuda", "libnvrtc", "libcublasLt"}
	first := func(run func(*devcuda.Device) (string, error)) func() (string, error) {
		return func() (string, error) {
			d, err := devcuda.Open(0, devcuda.Options{})
			if err != nil {
				return "", err
			}
			return run(d)
		}
	}
	on := func(run func(device.Device) (string, error)) func() (string, error) {
		return first(func(d *devcuda.Device) (string, error) { return run(d) })
	}
	r.check("matrix product", compute, on(product))
	r.check("attention", compute, on(attention))
	r.check("all-reduce", append(compute, "libnccl"), first(func(d *devcuda.Device) (string, error) { return allReduce(d) }))
	r.OK = len(r.Problems) == 0
	return r
}
