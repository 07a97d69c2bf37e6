//go:build cuda && linux

package cuda

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// lib is a loaded library.
type lib struct {
	Library
	path   string // from which it was loaded
	handle uintptr
	symbol uintptr // the address of one of its functions
}

// load loads a library and binds functions of it by name. Each binding is a pointer to a function variable.
func load(name string, mode int, bindings map[string]any) (*lib, error) {
	l := library(name)
	var tried []string
	for _, path := range l.Candidates() {
		handle, err := purego.Dlopen(path, purego.RTLD_NOW|mode)
		if err != nil {
			tried = append(tried, fmt.Sprintf("%s (%v)", path, err))
			continue
		}
		found := &lib{Library: l, path: path, handle: handle}
		if err := found.bind(bindings); err != nil {
			return nil, err
		}
		return found, nil
	}
	return nil, &MissingError{Library: l, Tried: tried}
}

func library(name string) Library {
	for _, l := range Libraries {
		if l.Name == name {
			return l
		}
	}
	panic("no library " + name)
}

func (l *lib) bind(bindings map[string]any) error {
	for name, f := range bindings {
		symbol, err := purego.Dlsym(l.handle, name)
		if err != nil {
			return fmt.Errorf("%s has no function %s: install a newer version (%s)", l.path, name, l.Wheel)
		}
		purego.RegisterFunc(f, symbol)
		l.symbol = symbol
	}
	return nil
}

// The functions of the driver.
var (
	cuInit                   func(flags uint32) int32
	cuDriverGetVersion       func(*int32) int32
	cuGetErrorString         func(int32, *uintptr) int32
	cuDeviceGetCount         func(*int32) int32
	cuDeviceGet              func(*int32, int32) int32
	cuDeviceGetName          func(unsafe.Pointer, int32, int32) int32
	cuDeviceGetAttribute     func(*int32, int32, int32) int32
	cuDeviceTotalMem         func(*uint64, int32) int32
	cuDevicePrimaryCtxRetain func(*uintptr, int32) int32
	cuCtxSetCurrent          func(uintptr) int32
	cuCtxSynchronize         func() int32
	cuMemGetInfo             func(free, total *uint64) int32
	cuMemAlloc               func(*uintptr, uint64) int32
	cuMemFree                func(uintptr) int32
	cuMemcpyHtoDAsync        func(dst uintptr, src unsafe.Pointer, n uint64, stream uintptr) int32
	cuMemcpyDtoHAsync        func(dst unsafe.Pointer, src uintptr, n uint64, stream uintptr) int32
	cuMemcpyDtoDAsync        func(dst, src uintptr, n uint64, stream uintptr) int32
	cuMemsetD8Async          func(dst uintptr, value uint8, n uint64, stream uintptr) int32
	cuStreamCreate           func(*uintptr, uint32) int32
	cuStreamSynchronize      func(uintptr) int32
	cuStreamDestroy          func(uintptr) int32
	cuStreamCreatePriority   func(stream *uintptr, flags uint32, priority int32) int32
	cuStreamWaitEvent        func(stream, event uintptr, flags uint32) int32
	cuMemHostAlloc           func(*uintptr, uint64, uint32) int32
	cuEventCreate            func(*uintptr, uint32) int32
	cuEventRecord            func(event, stream uintptr) int32
	cuEventSynchronize       func(uintptr) int32
	cuEventElapsedTime       func(ms *float32, from, to uintptr) int32
	cuEventDestroy           func(uintptr) int32
	cuModuleLoadData         func(*uintptr, unsafe.Pointer) int32
	cuModuleGetFunction      func(*uintptr, uintptr, string) int32
	cuFuncSetAttribute       func(uintptr, int32, int32) int32
	cuStreamBeginCapture     func(stream uintptr, mode int32) int32
	cuStreamEndCapture       func(stream uintptr, graph *uintptr) int32
	cuThreadExchangeCapture  func(mode *int32) int32
	cuGraphInstantiate       func(exec *uintptr, graph uintptr, flags uint64) int32
	cuGraphLaunch            func(exec, stream uintptr) int32
	cuGraphDestroy           func(uintptr) int32
	cuGraphExecDestroy       func(uintptr) int32
	cuLaunchKernelEx         func(config unsafe.Pointer, f uintptr, params, extra unsafe.Pointer) int32
)

func loadDriver() (*lib, error) {
	return load("libcuda", purego.RTLD_GLOBAL, map[string]any{
		"cuInit": &cuInit, "cuDriverGetVersion": &cuDriverGetVersion, "cuGetErrorString": &cuGetErrorString,
		"cuDeviceGetCount": &cuDeviceGetCount, "cuDeviceGet": &cuDeviceGet, "cuDeviceGetName": &cuDeviceGetName,
		"cuDeviceGetAttribute": &cuDeviceGetAttribute, "cuDeviceTotalMem_v2": &cuDeviceTotalMem,
		"cuDevicePrimaryCtxRetain": &cuDevicePrimaryCtxRetain, "cuCtxSetCurrent": &cuCtxSetCurrent, "cuCtxSynchronize": &cuCtxSynchronize,
		"cuMemHostAlloc": &cuMemHostAlloc, "cuEventCreate": &cuEventCreate, "cuEventRecord": &cuEventRecord, "cuEventSynchronize": &cuEventSynchronize,
		"cuEventElapsedTime": &cuEventElapsedTime, "cuEventDestroy_v2": &cuEventDestroy,
		"cuMemGetInfo_v2": &cuMemGetInfo, "cuMemAlloc_v2": &cuMemAlloc, "cuMemFree_v2": &cuMemFree,
		"cuMemcpyHtoDAsync_v2": &cuMemcpyHtoDAsync, "cuMemcpyDtoHAsync_v2": &cuMemcpyDtoHAsync, "cuMemcpyDtoDAsync_v2": &cuMemcpyDtoDAsync,
		"cuMemsetD8Async": &cuMemsetD8Async, "cuStreamCreate": &cuStreamCreate, "cuStreamSynchronize": &cuStreamSynchronize, "cuStreamDestroy_v2": &cuStreamDestroy,
		"cuStreamCreateWithPriority": &cuStreamCreatePriority, "cuStreamWaitEvent": &cuStreamWaitEvent,
		"cuModuleLoadData": &cuModuleLoadData, "cuModuleGetFunction": &cuModuleGetFunction, "cuFuncSetAttribute": &cuFuncSetAttribute,
		"cuLaunchKernelEx": &cuLaunchKernelEx, "cuStreamBeginCapture_v2": &cuStreamBeginCapture, "cuStreamEndCapture": &cuStreamEndCapture,
		"cuThreadExchangeStreamCaptureMode": &cuThreadExchangeCapture, "cuGraphInstantiateWithFlags": &cuGraphInstantiate,
		"cuGraphLaunch": &cuGraphLaunch, "cuGraphDestroy": &cuGraphDestroy, "cuGraphExecDestroy": &cuGraphExecDestroy,
	})
}

// driverError is an error code returned by the driver.
func driverError(code int32, call string) error {
	if code == 0 {
		return nil
	}
	what := "unknown error"
	var text uintptr
	if cuGetErrorString(code, &text) == 0 && text != 0 {
		what = cString(text)
	}
	return fmt.Errorf("%s: %s (CUDA error %d)", call, what, code)
}

// cString copies a zero-terminated string.
func cString(at uintptr) string {
	var b []byte
	for p := at; ; p++ {
		c := *(*byte)(pointer(p))
		if c == 0 {
			return string(b)
		}
		b = append(b, c)
	}
}

// pointer converts an address of C memory to a pointer. The garbage collector does not move or free that memory, as it is
// not Go's.
func pointer(at uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&at)) }
