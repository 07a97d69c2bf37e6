//go:build cuda && linux

package cuda

import (
	"fmt"
	"unsafe"
)

// NCCLType is a type of numbers, as NCCL counts them.
type NCCLType int32

// Types that are used.
const (
	NCCLBytes    NCCLType = 1
	NCCLFloat16  NCCLType = 6
	NCCLFloat32  NCCLType = 7
	NCCLBFloat16 NCCLType = 9
)

const ncclSum = 0

// size returns the size of a number in bytes.
func (t NCCLType) size() uintptr {
	switch t {
	case NCCLBytes:
		return 1
	case NCCLFloat32:
		return 4
	}
	return 2
}

// Communicator is one of the ranks of a group, each with a GPU. Its operations run on a stream of their own, beside others: each begins
// when what the GPU was asked for before is complete, and after the operation before it. The GPU's thread makes all calls.
type Communicator struct {
	gpu          *GPU
	rank, size   int
	comm, stream uintptr
	before       uintptr   // an event after what the GPU was asked for before an operation
	events       []uintptr // for ends of operations, not in use
}

// Collective is an operation that a communicator was asked for.
type Collective struct {
	of   *Communicator
	done uintptr // an event after it
}

// UniqueID returns what identifies a new group. Rank 0 makes it and gives it to the others.
func UniqueID() ([]byte, error) {
	if _, err := loadNCCL(); err != nil {
		return nil, err
	}
	var id ncclID
	if err := ncclError(ncclGetUniqueID(&id), "ncclGetUniqueId"); err != nil {
		return nil, err
	}
	return append([]byte(nil), id.bytes()...), nil
}

func (id *ncclID) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(id)), unsafe.Sizeof(*id))
}

// Communicate joins a group of size ranks. It waits until all of them have called it.
func (g *GPU) Communicate(id []byte, rank, size int) (*Communicator, error) {
	if _, err := loadNCCL(); err != nil {
		return nil, err
	}
	c := &Communicator{gpu: g, rank: rank, size: size}
	var failed error // of NCCL, after which the GPU itself still works
	if err := g.Wait(func() error { failed = c.start(id); return nil }); err != nil {
		return nil, err
	}
	return c, failed
}

// start runs on the GPU's thread.
func (c *Communicator) start(id []byte) error {
	const nonBlocking, noTiming, highest = 1, 2, -100 // a priority beyond the range becomes the nearest
	var own ncclID
	if n := copy(own.bytes(), id); n != len(id) || n != len(own.bytes()) {
		return fmt.Errorf("an id of NCCL has %d bytes, want %d", len(id), len(own.bytes()))
	}
	if err := driverError(cuStreamCreatePriority(&c.stream, nonBlocking, highest), "cuStreamCreateWithPriority"); err != nil {
		return err
	}
	if err := driverError(cuEventCreate(&c.before, noTiming), "cuEventCreate"); err != nil {
		return err
	}
	return ncclError(ncclCommInitRank(&c.comm, int32(c.size), own, int32(c.rank)), "ncclCommInitRank")
}

// do asks for an operation on the communicator's stream.
func (c *Communicator) do(name string, call func() int32) *Collective {
	op := &Collective{of: c}
	c.gpu.Do(func() error {
		var err error
		if op.done, err = c.event(); err != nil {
			return err
		}
		if err := driverError(cuEventRecord(c.before, c.gpu.stream), "cuEventRecord"); err != nil {
			return err
		}
		if err := driverError(cuStreamWaitEvent(c.stream, c.before, 0), "cuStreamWaitEvent"); err != nil {
			return err
		}
		if err := ncclError(call(), name); err != nil {
			return err
		}
		return driverError(cuEventRecord(op.done, c.stream), "cuEventRecord")
	})
	return op
}

// event returns an event that is not in use.
func (c *Communicator) event() (event uintptr, err error) {
	if n := len(c.events); n > 0 {
		event, c.events = c.events[n-1], c.events[:n-1]
		return event, nil
	}
	const noTiming = 2
	return event, driverError(cuEventCreate(&event, noTiming), "cuEventCreate")
}

// Wait makes what the GPU is asked for next wait for the operation. It must be called once.
func (o *Collective) Wait() {
	o.of.gpu.Do(func() error {
		o.of.events = append(o.of.events, o.done)
		return driverError(cuStreamWaitEvent(o.of.gpu.stream, o.done, 0), "cuStreamWaitEvent")
	})
}

// AllReduce replaces n numbers by their sums over the ranks.
func (c *Communicator) AllReduce(at uintptr, n int, t NCCLType) *Collective {
	return c.do("ncclAllReduce", func() int32 { return ncclAllReduce(at, at, uint64(n), int32(t), ncclSum, c.comm, c.stream) })
}

// ReduceScatter sums n numbers for each rank over the ranks, and writes those for this rank.
func (c *Communicator) ReduceScatter(dst, from uintptr, n int, t NCCLType) *Collective {
	return c.do("ncclReduceScatter", func() int32 { return ncclReduceScatter(from, dst, uint64(n), int32(t), ncclSum, c.comm, c.stream) })
}

// AllGather copies n numbers from each rank, which are at their place already, to all.
func (c *Communicator) AllGather(at uintptr, n int, t NCCLType) *Collective {
	own := at + uintptr(c.rank*n)*t.size()
	return c.do("ncclAllGather", func() int32 { return ncclAllGather(own, at, uint64(n), int32(t), c.comm, c.stream) })
}

// Broadcast copies n numbers from a rank to the others.
func (c *Communicator) Broadcast(at uintptr, n int, t NCCLType, root int) *Collective {
	return c.do("ncclBroadcast", func() int32 { return ncclBroadcast(at, at, uint64(n), int32(t), int32(root), c.comm, c.stream) })
}

// AsyncError returns an error that NCCL has met while an operation ran, for example of the network. Any goroutine may call it until
// Close is called.
func (c *Communicator) AsyncError() error {
	const inProgress = 7
	var code int32
	if err := ncclError(ncclCommAsyncError(c.comm, &code), "ncclCommGetAsyncError"); err != nil {
		return err
	}
	if code == inProgress {
		return nil
	}
	return ncclError(code, "NCCL")
}

// Close leaves the group after all operations. All ranks must call it.
func (c *Communicator) Close() error {
	return c.gpu.Wait(func() error {
		if err := driverError(cuStreamSynchronize(c.stream), "cuStreamSynchronize"); err != nil {
			return err
		}
		return ncclError(ncclCommDestroy(c.comm), "ncclCommDestroy")
	})
}
