//go:build mpi && linux

package mpi

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"gqa/internal/comm"
	"gqa/internal/comm/commtest"
	"gqa/internal/device/cpu"
)

// TestOperations starts itself by mpirun and checks the operations between the processes.
func TestOperations(t *testing.T) {
	if os.Getenv("OMPI_COMM_WORLD_SIZE") != "" {
		c, err := Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := nilPanic(); err == nil { // the library must not take Go's signals
			t.Error("a nil pointer is not a panic any more")
		}
		if err := commtest.Check(c, cpu.New()); err != nil {
			t.Errorf("rank %d of %d: %v", c.Rank(), c.Size(), err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	mpirun, err := exec.LookPath("mpirun")
	if err != nil {
		t.Skip("there is no mpirun (Debian: apt-get install openmpi-bin)")
	}
	for n := 1; n <= 3; n++ {
		cmd := exec.Command(mpirun, "--oversubscribe", "-n", strconv.Itoa(n), os.Args[0], "-test.run=^TestOperations$", "-test.v")
		cmd.Env = append(os.Environ(), "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Count(string(out), "--- PASS: TestOperations") != n {
			t.Errorf("%d processes: %v\n%s", n, err, out)
		}
	}
}

// nilPanic returns what reading from a nil pointer panics with.
func nilPanic() (err any) {
	defer func() { err = recover() }()
	var p *[1 << 10]int
	return p[len(os.Args)]
}

var _ comm.Comm = (*Comm)(nil)
