// Package comm connects the processes that train one model together. Each of them, a rank, has a device of its own and reads its
// part of every batch. Collective operations work on buffers of these devices.
//
// All ranks must call the same operations, with the same sizes, in the same order.
package comm

import (
	"fmt"

	"gqa/internal/device"
)

// Comm is a group of processes. It must be used by one goroutine. Operations on buffers may return before they are done, and
// until then their operands must be neither changed nor freed.
type Comm interface {
	Rank() int // of this process, from 0
	Size() int // number of processes

	// AllReduce replaces x by its sum over the ranks.
	AllReduce(x device.Buffer) Op
	// ReduceScatter sums x [Size, n] over the ranks, and writes row Rank of the sum to dst [n]. They must not overlap.
	ReduceScatter(dst, x device.Buffer) Op
	// AllGather copies row r of x [Size, n] from rank r to the other ranks.
	AllGather(x device.Buffer) Op
	// Broadcast copies x from rank root to the other ranks.
	Broadcast(x device.Buffer, root int) Op

	// Sum replaces numbers of the host by their sums over the ranks, added in the same order on all of them. It waits.
	Sum(x []float64) error
	// Barrier waits until all ranks have called it.
	Barrier() error
	// Err returns the first error of an operation. Results are meaningless after one.
	Err() error
	// Abort ends the processes of all ranks, including this one, because of an error that only this rank knows. It does not return.
	Abort(reason error)
	// Close leaves the group. All ranks must call it.
	Close() error
}

// Op is an operation in progress.
type Op interface {
	// Wait makes what the device is asked for next wait for the operation.
	Wait()
}

// Alone returns a group whose only member is this process.
func Alone() Comm { return alone{} }

// IsAlone reports whether a group is [Alone]'s.
func IsAlone(c Comm) bool {
	_, ok := c.(alone)
	return ok
}

// alone is a group of one process, where nothing has to be moved except by ReduceScatter, which nobody needs then.
type alone struct{}

type done struct{}

func (done) Wait() {}

func (alone) Rank() int                       { return 0 }
func (alone) Size() int                       { return 1 }
func (alone) AllReduce(device.Buffer) Op      { return done{} }
func (alone) AllGather(device.Buffer) Op      { return done{} }
func (alone) Broadcast(device.Buffer, int) Op { return done{} }
func (alone) Sum([]float64) error             { return nil }
func (alone) Barrier() error                  { return nil }
func (alone) Err() error                      { return nil }
func (alone) Close() error                    { return nil }
func (alone) Abort(reason error) {
	Tell(reason)
	Exit()
}

func (alone) ReduceScatter(dst, x device.Buffer) Op {
	panic("one process has nothing to scatter")
}

// Elsewhere is the error of a rank for a failure that another one has reported.
type Elsewhere struct{ Rank int }

// Error names the other rank.
func (e Elsewhere) Error() string { return fmt.Sprintf("rank %d failed", e.Rank) }
