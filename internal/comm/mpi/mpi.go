//go:build mpi && linux

// Package mpi implements collective operations of processes on the CPU by Open MPI, which is loaded at run time.
package mpi

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// The functions of MPI 3.1 that are used, in the ABI of Open MPI: handles are the addresses of objects in the library.
var (
	mpiInitThread         func(argc, argv uintptr, required int32, provided *int32) int32
	mpiFinalize           func() int32
	mpiAbort              func(comm uintptr, status int32) int32
	mpiCommRank           func(comm uintptr, rank *int32) int32
	mpiCommSize           func(comm uintptr, size *int32) int32
	mpiCommSetErrhandler  func(comm, handler uintptr) int32
	mpiErrorString        func(code int32, text unsafe.Pointer, n *int32) int32
	mpiIallreduce         func(send, recv uintptr, count int32, kind, op, comm uintptr, request *uintptr) int32
	mpiIreduceScatter     func(send, recv uintptr, count int32, kind, op, comm uintptr, request *uintptr) int32
	mpiIallgather         func(send uintptr, sendCount int32, sendKind, recv uintptr, recvCount int32, recvKind, comm uintptr, request *uintptr) int32
	mpiIbcast             func(x uintptr, count int32, kind uintptr, root int32, comm uintptr, request *uintptr) int32
	mpiTest               func(request *uintptr, flag *int32, status uintptr) int32
	mpiGetLibraryVersion  func(text unsafe.Pointer, n *int32) int32
	world, float, double_ uintptr // MPI_COMM_WORLD, MPI_FLOAT, MPI_DOUBLE
	bytes, sum, returns   uintptr // MPI_BYTE, MPI_SUM, MPI_ERRORS_RETURN
)

const (
	inPlace        = 1 // MPI_IN_PLACE
	threadFunneled = 1 // MPI_THREAD_FUNNELED: all calls come from the thread that initialised MPI
	maxText        = 1024
)

// libraries are the names of Open MPI's library. Its ABI is that of libmpi.so.40 since version 3; 5 has it too.
var libraries = []string{"libmpi.so.40", "libmpi.so"}

// load loads the library. Its plug-ins need its symbols, so they are made visible.
func load() error {
	var err error
	for _, name := range libraries {
		var handle uintptr
		if handle, err = purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_GLOBAL); err == nil {
			return bind(name, handle)
		}
	}
	return fmt.Errorf("%s (Open MPI) cannot be loaded: install it (Debian: apt-get install openmpi-bin), or name its folder in LD_LIBRARY_PATH: %w", libraries[0], err)
}

func bind(name string, handle uintptr) error {
	for symbol, at := range map[string]*uintptr{
		"ompi_mpi_comm_world": &world, "ompi_mpi_float": &float, "ompi_mpi_double": &double_, "ompi_mpi_byte": &bytes, "ompi_mpi_op_sum": &sum,
		"ompi_mpi_errors_return": &returns,
	} {
		var err error
		if *at, err = purego.Dlsym(handle, symbol); err != nil {
			return fmt.Errorf("%s has no %s: it is not Open MPI's, and other MPI libraries cannot be used", name, symbol)
		}
	}
	for symbol, f := range map[string]any{
		"MPI_Init_thread": &mpiInitThread, "MPI_Finalize": &mpiFinalize, "MPI_Abort": &mpiAbort, "MPI_Comm_rank": &mpiCommRank, "MPI_Comm_size": &mpiCommSize,
		"MPI_Comm_set_errhandler": &mpiCommSetErrhandler, "MPI_Error_string": &mpiErrorString, "MPI_Iallreduce": &mpiIallreduce,
		"MPI_Ireduce_scatter_block": &mpiIreduceScatter, "MPI_Iallgather": &mpiIallgather, "MPI_Ibcast": &mpiIbcast, "MPI_Test": &mpiTest,
		"MPI_Get_library_version": &mpiGetLibraryVersion,
	} {
		at, err := purego.Dlsym(handle, symbol)
		if err != nil {
			return fmt.Errorf("%s has no %s: install Open MPI 3 or newer", name, symbol)
		}
		purego.RegisterFunc(f, at)
	}
	return nil
}

// start initialises MPI for this thread, which must make all other calls.
func start() (rank, size int, err error) {
	runtime.LockOSThread()
	if err := load(); err != nil {
		return 0, 0, err
	}
	var provided, r, n int32
	if err := failure(mpiInitThread(0, 0, threadFunneled, &provided), "MPI_Init_thread"); err != nil {
		return 0, 0, err
	}
	for _, c := range []struct {
		code int32
		call string
	}{
		{mpiCommSetErrhandler(world, returns), "MPI_Comm_set_errhandler"},
		{mpiCommRank(world, &r), "MPI_Comm_rank"},
		{mpiCommSize(world, &n), "MPI_Comm_size"},
	} {
		if err := failure(c.code, c.call); err != nil {
			return 0, 0, err
		}
	}
	return int(r), int(n), nil
}

// failure returns the error that a function of MPI has returned as a code.
func failure(code int32, call string) error {
	if code == 0 {
		return nil
	}
	text, n := make([]byte, maxText), int32(0)
	mpiErrorString(code, unsafe.Pointer(&text[0]), &n)
	return fmt.Errorf("%s: %s", call, text[:n])
}
