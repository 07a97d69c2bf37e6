//go:build mpi && linux

package mpi

import (
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"gqa/internal/comm"
	"gqa/internal/device"
)

// Comm is MPI's group of all processes. A thread of its own makes all calls of MPI, so that operations go on while the process
// computes.
type Comm struct {
	rank, size int
	begin      chan *operation
	failed     atomic.Pointer[error]
}

// operation is an operation of MPI.
type operation struct {
	call    string
	start   func(request *uintptr) int32
	request uintptr
	memory  []any // what the operation reads and writes
	done    chan struct{}
}

// Open joins MPI's group of all processes. It can be called once.
func Open() (*Comm, error) {
	c := &Comm{begin: make(chan *operation, 64)}
	started := make(chan error)
	go func() {
		var err error
		c.rank, c.size, err = start()
		started <- err
		if err == nil {
			c.serve()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// How long the thread sleeps between two looks at the operations in progress: MPI does nothing while nobody looks, and a thread that
// looks all the time would take a core from the computation. It looks less and less often while nothing happens, as when another process
// is late.
const (
	shortPause = 20 * time.Microsecond
	longPause  = 500 * time.Microsecond
)

// serve begins operations in order and looks after them until they are done.
func (c *Comm) serve() {
	var running []*operation
	pause := shortPause
	for {
		if len(running) == 0 {
			op, ok := <-c.begin
			if !ok {
				return
			}
			running = c.take(running, op)
		}
		for more := true; more; {
			select {
			case op, ok := <-c.begin:
				if more = ok; ok {
					running = c.take(running, op)
				}
			default:
				more = false
			}
		}
		before := len(running)
		if running = c.progress(running); len(running) < before {
			pause = shortPause
		}
		if len(running) > 0 {
			time.Sleep(pause)
			pause = min(2*pause, longPause)
		}
	}
}

// take begins an operation, unless an earlier one has failed.
func (c *Comm) take(running []*operation, op *operation) []*operation {
	if c.Err() == nil {
		c.fail(failure(op.start(&op.request), op.call))
	}
	if c.Err() != nil || op.request == 0 { // calls that wait have no request
		close(op.done)
		return running
	}
	return append(running, op)
}

// progress returns the operations that are not done yet.
func (c *Comm) progress(running []*operation) (left []*operation) {
	for _, op := range running {
		var flag int32
		if c.Err() == nil {
			c.fail(failure(mpiTest(&op.request, &flag, 0), op.call))
		}
		if flag != 0 || c.Err() != nil {
			runtime.KeepAlive(op.memory)
			close(op.done)
			continue
		}
		left = append(left, op)
	}
	return left
}

func (c *Comm) fail(err error) {
	if err != nil {
		c.failed.CompareAndSwap(nil, &err)
	}
}

// do passes an operation to MPI's thread.
func (c *Comm) do(call string, start func(request *uintptr) int32, memory ...any) *operation {
	op := &operation{call: call, start: start, memory: memory, done: make(chan struct{})}
	c.begin <- op
	return op
}

// Wait waits until the operation is done, or has failed: see [Comm.Err].
func (o *operation) Wait() { <-o.done }

// Rank returns the number of this process.
func (c *Comm) Rank() int { return c.rank }

// Size returns the number of processes.
func (c *Comm) Size() int { return c.size }

// Err returns the first error of an operation.
func (c *Comm) Err() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// operand returns a buffer's address and length. Only F32 can be summed here, as it is what the CPU computes with.
func (c *Comm) operand(b device.Buffer) (at uintptr, n int32) {
	x := b.F32()
	if b.Len() > 0 && x == nil || len(x) > math.MaxInt32 {
		c.fail(fmt.Errorf("MPI was given %d numbers, not in F32 or more than it can count", b.Len()))
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(x))), int32(len(x))
}

// AllReduce replaces x by its sum over the processes.
func (c *Comm) AllReduce(x device.Buffer) comm.Op {
	at, n := c.operand(x)
	return c.do("MPI_Iallreduce", func(request *uintptr) int32 {
		return mpiIallreduce(inPlace, at, n, float, sum, world, request)
	}, x)
}

// ReduceScatter sums x [size, n] over the processes and writes this process's row to dst.
func (c *Comm) ReduceScatter(dst, x device.Buffer) comm.Op {
	from, _ := c.operand(x)
	to, n := c.operand(dst)
	return c.do("MPI_Ireduce_scatter_block", func(request *uintptr) int32 {
		return mpiIreduceScatter(from, to, n, float, sum, world, request)
	}, x, dst)
}

// AllGather copies every process's row of x [size, n] to the others.
func (c *Comm) AllGather(x device.Buffer) comm.Op {
	at, n := c.operand(x)
	n /= int32(c.size)
	return c.do("MPI_Iallgather", func(request *uintptr) int32 {
		return mpiIallgather(inPlace, 0, float, at, n, float, world, request)
	}, x)
}

// Broadcast copies x from a process to the others.
func (c *Comm) Broadcast(x device.Buffer, root int) comm.Op {
	at, n := c.operand(x)
	return c.do("MPI_Ibcast", func(request *uintptr) int32 {
		return mpiIbcast(at, n, float, int32(root), world, request)
	}, x)
}

// Sum replaces x by its sum over the processes: all of them add in the same order, since each gets the numbers of all.
func (c *Comm) Sum(x []float64) error {
	all := make([]float64, len(x)*c.size)
	copy(all[c.rank*len(x):], x)
	at := uintptr(unsafe.Pointer(unsafe.SliceData(all)))
	c.do("MPI_Iallgather", func(request *uintptr) int32 {
		return mpiIallgather(inPlace, 0, double_, at, int32(len(x)), double_, world, request)
	}, all).Wait()
	clear(x)
	for i, v := range all {
		x[i%len(x)] += v
	}
	return c.Err()
}

// Barrier waits until all processes have called it.
func (c *Comm) Barrier() error { return c.Sum([]float64{0}) }

// Abort implements comm.Comm.
func (c *Comm) Abort(reason error) {
	comm.Tell(reason)
	c.do("MPI_Abort", func(*uintptr) int32 { return mpiAbort(world, 1) }).Wait()
	comm.Exit()
}

// Close leaves the group. After an error MPI is left as it is, since others may not come to the end.
func (c *Comm) Close() error {
	if c.Err() != nil {
		return nil
	}
	op := c.do("MPI_Finalize", func(*uintptr) int32 { return mpiFinalize() })
	op.Wait()
	return c.Err()
}
