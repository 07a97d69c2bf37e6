//go:build cuda && linux

package launch

import (
	"fmt"

	"gqa/internal/comm"
	"gqa/internal/comm/nccl"
	"gqa/internal/device"
	"gqa/internal/device/cuda"
)

func init() {
	joinGPU = func(w World, d device.Device) (comm.Comm, error) {
		gpu, ok := d.(*cuda.Device)
		if !ok {
			return nil, fmt.Errorf("several processes cannot compute on %T", d)
		}
		if w.Address == "" {
			return nil, fmt.Errorf("%s does not say where its %d processes meet: set MASTER_ADDR to the host of rank 0 for all of them, for example by mpirun -x MASTER_ADDR=HOST",
				w.Launcher, w.Size)
		}
		return nccl.Open(w.Rank, w.Size, w.Address, gpu.GPU())
	}
}
