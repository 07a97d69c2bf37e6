//go:build cuda && linux

package nccl

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"gqa/internal/comm"
	"gqa/internal/comm/commtest"
	"gqa/internal/cuda"
	"gqa/internal/device"
	devcuda "gqa/internal/device/cuda"
)

var _ comm.Comm = (*Comm)(nil)

// TestOperations checks the operations among one rank, two and all GPUs, each in a process of its own.
func TestOperations(t *testing.T) {
	if address := os.Getenv("NCCL_TEST_ADDRESS"); address != "" {
		rank, _ := strconv.Atoi(os.Getenv("NCCL_TEST_RANK"))
		size, _ := strconv.Atoi(os.Getenv("NCCL_TEST_SIZE"))
		operate(t, rank, size, address)
		return
	}
	n, err := cuda.Count()
	if err != nil || n == 0 {
		t.Skipf("there is no GPU: %v", err)
	}
	if _, err := cuda.UniqueID(); err != nil {
		t.Skip(err)
	}
	for size := 1; size <= n; size *= 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		ended := make(chan error)
		for rank := range size {
			cmd := exec.Command(os.Args[0], "-test.run=^TestOperations$", "-test.v")
			cmd.Env = append(os.Environ(), "NCCL_TEST_ADDRESS="+address, fmt.Sprint("NCCL_TEST_RANK=", rank), fmt.Sprint("NCCL_TEST_SIZE=", size))
			go func() {
				out, err := cmd.CombinedOutput()
				if err == nil && !strings.Contains(string(out), "--- PASS: TestOperations") {
					err = fmt.Errorf("it did not run")
				}
				if err != nil {
					err = fmt.Errorf("rank %d of %d: %w\n%s", rank, size, err, out)
				}
				ended <- err
			}()
		}
		for range size {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
}

func operate(t *testing.T, rank, size int, address string) {
	t.Helper()
	gpu, err := cuda.Open(rank)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(rank, size, address, gpu)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []device.Format{device.F32, device.BF16} {
		d, err := devcuda.Open(rank, devcuda.Options{Activations: f})
		if err != nil {
			t.Fatal(err)
		}
		if err := commtest.Check(c, d); err != nil {
			t.Errorf("%v: %v", f, err)
		}
		if err := d.Err(); err != nil {
			t.Error(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
