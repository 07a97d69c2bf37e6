//go:build cuda && linux

package cuda

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// ncclID identifies the ranks of a communicator. It is passed by value. (ncclUniqueId of nccl.h is 128 chars.)
type ncclID struct{ words [16]uint64 }

// The functions of NCCL, as in its nccl.h.
var (
	ncclGetUniqueID    func(*ncclID) int32
	ncclCommInitRank   func(comm *uintptr, ranks int32, id ncclID, rank int32) int32
	ncclCommAsyncError func(comm uintptr, code *int32) int32
	ncclReduceScatter  func(send, recv uintptr, recvCount uint64, kind, op int32, comm, stream uintptr) int32
	ncclAllGather      func(send, recv uintptr, sendCount uint64, kind int32, comm, stream uintptr) int32
	ncclBroadcast      func(send, recv uintptr, count uint64, kind, root int32, comm, stream uintptr) int32
	ncclGetVersion     func(*int32) int32
	ncclGetErrorString func(int32) string
	ncclCommInitAll    func(comms *uintptr, n int32, devices *int32) int32
	ncclCommDestroy    func(uintptr) int32
	ncclAllReduce      func(send, recv uintptr, count uint64, kind, op int32, comm, stream uintptr) int32
)

var ncclLib *lib

func loadNCCL() (_ *lib, err error) {
	if ncclLib == nil {
		ncclLib, err = load("libnccl", purego.RTLD_LOCAL, map[string]any{
			"ncclGetVersion": &ncclGetVersion, "ncclGetErrorString": &ncclGetErrorString, "ncclCommInitAll": &ncclCommInitAll,
			"ncclCommDestroy": &ncclCommDestroy, "ncclAllReduce": &ncclAllReduce, "ncclGetUniqueId": &ncclGetUniqueID, "ncclCommInitRank": &ncclCommInitRank,
			"ncclCommGetAsyncError": &ncclCommAsyncError, "ncclReduceScatter": &ncclReduceScatter, "ncclAllGather": &ncclAllGather, "ncclBroadcast": &ncclBroadcast,
		})
	}
	return ncclLib, err
}

func ncclError(code int32, call string) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s (NCCL error %d)", call, ncclGetErrorString(code), code)
}

// AllReduce makes NCCL sum x over the GPUs of a communicator whose only member is g. If NCCL works, the result is x.
func (g *GPU) AllReduce(x []float32) (sum []float32, err error) {
	if _, err := loadNCCL(); err != nil {
		return nil, err
	}
	n := uint64(len(x)) * uint64(unsafe.Sizeof(x[0]))
	at, ok := g.Alloc(2 * n)
	if !ok {
		return nil, fmt.Errorf("there is no memory for %d numbers", 2*len(x))
	}
	defer g.Free(at)
	sum = make([]float32, len(x))
	to := at + uintptr(n)
	Upload(g, at, x)
	g.Clear(to, int(n))
	var failed error // of NCCL, after which the GPU itself still works
	if err := g.Wait(func() error { failed = g.allReduce(at, to, uint64(len(x))); return nil }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return sum, Download(g, sum, to)
}

// allReduce runs on the GPU's thread.
func (g *GPU) allReduce(from, to uintptr, count uint64) error {
	var comm uintptr
	device := int32(g.Number)
	if err := ncclError(ncclCommInitAll(&comm, 1, &device), "ncclCommInitAll"); err != nil {
		return err
	}
	err := ncclError(ncclAllReduce(from, to, count, int32(NCCLFloat32), ncclSum, comm, g.stream), "ncclAllReduce")
	if err == nil {
		err = driverError(cuStreamSynchronize(g.stream), "cuStreamSynchronize")
	}
	if destroyed := ncclError(ncclCommDestroy(comm), "ncclCommDestroy"); err == nil {
		err = destroyed
	}
	return err
}
