//go:build cuda && linux

// Package nccl implements collective operations of processes with a GPU each by NCCL. Ranks meet, agree on numbers and watch each other
// by TCP.
package nccl

import (
	"fmt"
	"time"

	"gqa/internal/comm"
	"gqa/internal/comm/control"
	"gqa/internal/cuda"
	"gqa/internal/device"
)

// Comm is a group of processes, each with a GPU.
type Comm struct {
	*control.Group
	gpu  *cuda.GPU
	nccl *cuda.Communicator
	stop chan struct{}
}

// Open joins the group of size ranks that meet at an address, host:port.
func Open(rank, size int, address string, gpu *cuda.GPU) (*Comm, error) {
	group, err := control.Join(rank, size, address)
	if err != nil {
		return nil, err
	}
	var id []byte
	if rank == 0 {
		if id, err = cuda.UniqueID(); err != nil {
			group.Abort(fmt.Errorf("rank 0: %w", err))
		}
	}
	if id, err = group.Share(id); err != nil {
		return nil, err
	}
	c := &Comm{Group: group, gpu: gpu, stop: make(chan struct{})}
	if c.nccl, err = gpu.Communicate(id, rank, size); err != nil {
		group.Abort(fmt.Errorf("rank %d: %w", rank, err)) // the others wait for this one
	}
	go c.watch()
	return c, nil
}

// watch ends all processes if NCCL has met an error, as the GPUs may wait for ever then.
func (c *Comm) watch() {
	ticks := time.NewTicker(5 * time.Second)
	defer ticks.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticks.C:
			if err := c.nccl.AsyncError(); err != nil {
				c.Abort(fmt.Errorf("rank %d: %w", c.Rank(), err))
			}
		}
	}
}

// kind returns how NCCL calls the format of a buffer, and the number of its numbers. Those of other formats can only be copied, as bytes.
func kind(b device.Buffer) (cuda.NCCLType, int) {
	switch b.Format() {
	case device.F32:
		return cuda.NCCLFloat32, b.Len()
	case device.BF16:
		return cuda.NCCLBFloat16, b.Len()
	case device.F16:
		return cuda.NCCLFloat16, b.Len()
	}
	return cuda.NCCLBytes, b.Format().Bytes(b.Len())
}

// AllReduce implements comm.Comm.
func (c *Comm) AllReduce(x device.Buffer) comm.Op {
	t, n := kind(x)
	return c.nccl.AllReduce(x.Addr(), n, t)
}

// ReduceScatter implements comm.Comm.
func (c *Comm) ReduceScatter(dst, x device.Buffer) comm.Op {
	t, n := kind(dst)
	return c.nccl.ReduceScatter(dst.Addr(), x.Addr(), n, t)
}

// AllGather implements comm.Comm.
func (c *Comm) AllGather(x device.Buffer) comm.Op {
	t, n := kind(x)
	return c.nccl.AllGather(x.Addr(), n/c.Size(), t)
}

// Broadcast implements comm.Comm.
func (c *Comm) Broadcast(x device.Buffer, root int) comm.Op {
	t, n := kind(x)
	return c.nccl.Broadcast(x.Addr(), n, t, root)
}

// Barrier implements comm.Comm.
func (c *Comm) Barrier() error { return c.Sum([]float64{0}) }

// Err implements comm.Comm.
func (c *Comm) Err() error { return c.gpu.Err() }

// Close implements comm.Comm.
func (c *Comm) Close() error {
	close(c.stop)
	if err := c.gpu.Err(); err != nil {
		return c.Group.Close()
	}
	if err := c.nccl.Close(); err != nil {
		return err
	}
	return c.Group.Close()
}
