//go:build mpi && linux

package launch

import (
	"fmt"

	"gqa/internal/comm"
	"gqa/internal/comm/mpi"
)

func init() {
	joinCPU = func(w World) (comm.Comm, error) {
		c, err := mpi.Open()
		if err != nil {
			return nil, err
		}
		if c.Rank() != w.Rank || c.Size() != w.Size {
			return nil, fmt.Errorf("mpirun and the MPI library do not belong together: it has started %d processes, of which the library knows %d", w.Size, c.Size())
		}
		return c, nil
	}
}
