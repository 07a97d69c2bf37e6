package launch

import (
	"errors"
	"fmt"

	"gqa/internal/comm"
	"gqa/internal/device"
)

// join joins the group of a world's ranks that compute on devices of a kind. Builds with the tag mpi have one for the CPU, and those
// with the tag cuda one for GPUs.
var (
	joinCPU func(World) (comm.Comm, error)
	joinGPU func(World, device.Device) (comm.Comm, error)
)

// Join joins the group of a world's ranks, which compute on devices like d. Of a process that was started by itself, it is the only
// member.
func Join(w World, d device.Device) (comm.Comm, error) {
	_, other := d.(device.Namer)
	switch {
	case w.Alone():
		return comm.Alone(), nil
	case other && joinGPU != nil:
		return joinGPU(w, d)
	case !other && joinCPU != nil && w.Launcher == "Open MPI":
		return joinCPU(w)
	case !other && joinCPU != nil && w.Size > 1:
		return nil, fmt.Errorf("%s has started %d processes, but those that compute on the processor must be started by Open MPI's mpirun", w.Launcher, w.Size)
	}
	if w.Size == 1 {
		return comm.Alone(), nil
	}
	return nil, fmt.Errorf("%s has started %d processes, but %w", w.Launcher, w.Size, ErrBuild)
}

// ErrBuild says how to get a build for several processes.
var ErrBuild = errors.New("this build cannot train with several processes on the processor: build it with CGO_ENABLED=0 go install -tags mpi ./cmd/... on Linux")
