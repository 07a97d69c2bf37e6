//go:build cuda && linux

package cuda

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// GPU is one GPU with one stream: operations run in the order in which they are requested. All calls of the driver and
// the libraries are made by one thread, because the driver's context, the capture of a stream and NCCL's groups belong to
// a thread; other threads pass their operations to it and continue. After a failed call no more are made, and Err returns
// the error.
type GPU struct {
	Number   int    // from 0
	Name     string // of the model
	Arch     int    // compute capability, 90 for 9.0
	Memory   uint64 // bytes
	Units    int    // multiprocessors
	Shared   int    // the most bytes of shared memory that a block can have
	early    bool   // whether kernels can be launched while those before them run
	stream   uintptr
	work     chan func()
	failed   atomic.Pointer[error]
	products productCache
	modules  map[*Source]*module
	params   *params
	dnn      *dnnState // nil until attention is used
	plans    sync.Map  // of *attentionPlan by attentionKey
	staging  staging
	results  results
	capture  *capture       // nil unless operations are captured
	timings  *timings       // nil unless operations are timed
	pinned   runtime.Pinner // pins params until the process ends, because collecting a pinner that still pins something panics
}

// params holds the arguments of a launch. It is pinned.
type params struct {
	values     [64]uint64
	pointers   [64]unsafe.Pointer
	config     launchConfig
	attributes [2]launchAttribute
}

var (
	openOnce sync.Mutex
	opened   = map[int]*GPU{}
)

// Open returns GPU number n. It returns the same GPU each time.
func Open(n int) (*GPU, error) {
	openOnce.Lock()
	defer openOnce.Unlock()
	if g := opened[n]; g != nil {
		return g, nil
	}
	g := &GPU{Number: n, work: make(chan func(), 1024), modules: map[*Source]*module{}, params: new(params)}
	ready := make(chan error)
	go g.serve(ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	opened[n] = g
	return g, nil
}

// Count returns the number of GPUs, or the reason why none can be used.
func Count() (int, error) {
	if _, err := loadDriver(); err != nil {
		return 0, err
	}
	if err := driverError(cuInit(0), "cuInit"); err != nil {
		return 0, err
	}
	var n int32
	err := driverError(cuDeviceGetCount(&n), "cuDeviceGetCount")
	return int(n), err
}

// serve runs the thread that makes the calls.
func (g *GPU) serve(ready chan<- error) {
	runtime.LockOSThread()
	if err := g.start(); err != nil {
		ready <- err
		return
	}
	g.pinned.Pin(g.params) // not earlier: a GPU that cannot be used is garbage-collected
	ready <- nil
	for f := range g.work {
		f()
	}
}

// Attributes of a device.
const (
	attrUnits  = 16
	attrMajor  = 75
	attrMinor  = 76
	attrShared = 97
)

func (g *GPU) start() error {
	n, err := Count()
	if err != nil {
		return err
	}
	if g.Number >= n {
		return fmt.Errorf("there is no GPU %d: this machine has %d, counted from 0", g.Number, n)
	}
	if err := loadNVRTC(); err != nil {
		return err
	}
	if err := loadBLAS(); err != nil {
		return err
	}
	var device, major, minor, units, shared int32
	var ctx uintptr
	name := make([]byte, 128)
	for _, c := range []struct {
		code int32
		call string
	}{
		{cuDeviceGet(&device, int32(g.Number)), "cuDeviceGet"},
		{cuDeviceGetName(unsafe.Pointer(&name[0]), int32(len(name)), device), "cuDeviceGetName"},
		{cuDeviceGetAttribute(&major, attrMajor, device), "cuDeviceGetAttribute"},
		{cuDeviceGetAttribute(&minor, attrMinor, device), "cuDeviceGetAttribute"},
		{cuDeviceGetAttribute(&units, attrUnits, device), "cuDeviceGetAttribute"},
		{cuDeviceGetAttribute(&shared, attrShared, device), "cuDeviceGetAttribute"},
		{cuDeviceTotalMem(&g.Memory, device), "cuDeviceTotalMem"},
		{cuDevicePrimaryCtxRetain(&ctx, device), "cuDevicePrimaryCtxRetain"},
		{cuCtxSetCurrent(ctx), "cuCtxSetCurrent"},
		{cuStreamCreate(&g.stream, 1), "cuStreamCreate"}, // non-blocking: does not wait for the default stream
	} {
		if err := driverError(c.code, c.call); err != nil {
			return err
		}
	}
	g.Name, g.Arch, g.Units = cString(uintptr(unsafe.Pointer(&name[0]))), int(10*major+minor), int(units)
	g.Shared = int(shared)
	var version int32
	if err := driverError(cuDriverGetVersion(&version), "cuDriverGetVersion"); err != nil {
		return err
	}
	g.early = g.Arch >= 90 && version >= 12030 // earlier drivers cannot do this within a captured graph
	return g.products.start()
}

// Err returns the first error, or nil if there was none.
func (g *GPU) Err() error {
	if e := g.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// fail records the first error.
func (g *GPU) fail(err error) {
	if err != nil {
		g.failed.CompareAndSwap(nil, &err)
	}
}

// Do runs f asynchronously on the GPU's thread. After an error nothing is run.
func (g *GPU) Do(f func() error) {
	g.work <- func() { g.run(f) }
}

// run runs f on the GPU's thread. An error while operations are captured fails the capture.
func (g *GPU) run(f func() error) {
	switch {
	case g.Err() != nil:
	case g.capture != nil:
		g.capture.run(f)
	default:
		g.fail(f())
	}
}

// do is Do for an operation that is timed under a name, which is formatted only then.
func (g *GPU) do(name any, f func() error) {
	g.Do(func() error {
		err := f()
		if err == nil && g.timings != nil && g.capture == nil {
			err = g.timings.mark(g.stream, fmt.Sprint(name))
		}
		return err
	})
}

// Wait runs f on the GPU's thread, waits for it, and returns its error or an earlier one. If f is nil, Wait only waits
// for all earlier calls, but not for the GPU.
func (g *GPU) Wait(f func() error) error {
	g.call(func() {
		if f != nil {
			g.run(f)
		}
	})
	return g.Err()
}

// call runs f on the GPU's thread and waits for it.
func (g *GPU) call(f func()) {
	done := make(chan struct{})
	g.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Synchronize waits until the GPU has completed all operations.
func (g *GPU) Synchronize() error {
	return g.Wait(func() error { return driverError(cuStreamSynchronize(g.stream), "cuStreamSynchronize") })
}

// Alloc allocates n bytes, and reports whether there was enough memory. Other errors are returned by Err.
func (g *GPU) Alloc(n uint64) (at uintptr, ok bool) {
	const outOfMemory = 2
	g.Wait(func() error {
		var code int32
		if err := g.uncaptured(func() error { code = cuMemAlloc(&at, n); return nil }); err != nil {
			return err
		}
		if ok = code == 0; ok || code == outOfMemory {
			return nil
		}
		return driverError(code, fmt.Sprintf("cuMemAlloc of %d bytes", n))
	})
	return at, ok
}

// Free frees memory of Alloc once all earlier operations are complete.
func (g *GPU) Free(at uintptr) {
	g.Do(func() error {
		if err := driverError(cuStreamSynchronize(g.stream), "cuStreamSynchronize"); err != nil {
			return err
		}
		return driverError(cuMemFree(at), "cuMemFree")
	})
}

// FreeMemory returns the number of unallocated bytes of the GPU's memory.
func (g *GPU) FreeMemory() (free uint64) {
	var total uint64
	g.Wait(func() error { return driverError(cuMemGetInfo(&free, &total), "cuMemGetInfo") })
	return free
}

// Clear sets n bytes to zero.
func (g *GPU) Clear(at uintptr, n int) {
	g.do("clear", func() error {
		return driverError(cuMemsetD8Async(at, 0, uint64(n), g.stream), fmt.Sprintf("cuMemsetD8Async of %d bytes", n))
	})
}

// Copy copies n bytes.
func (g *GPU) Copy(dst, src uintptr, n int) {
	g.do(copied(n), func() error {
		return driverError(cuMemcpyDtoDAsync(dst, src, uint64(n), g.stream), fmt.Sprintf("cuMemcpyDtoDAsync of %d bytes", n))
	})
}

// copied names a copy of bytes.
type copied int

func (n copied) String() string { return fmt.Sprintf("copy of %d bytes", int(n)) }

// Upload copies x to the GPU. It returns after x has been read.
func Upload[T any](g *GPU, dst uintptr, x []T) {
	if len(x) == 0 {
		return
	}
	bytes := uint64(len(x)) * uint64(unsafe.Sizeof(x[0]))
	g.Wait(func() error {
		var pinned runtime.Pinner
		pinned.Pin(&x[0])
		defer pinned.Unpin()
		if err := driverError(cuMemcpyHtoDAsync(dst, unsafe.Pointer(&x[0]), bytes, g.stream), fmt.Sprintf("cuMemcpyHtoDAsync of %d bytes", bytes)); err != nil {
			return err
		}
		return driverError(cuStreamSynchronize(g.stream), "cuStreamSynchronize")
	})
}

// Send is Upload for a copy of x: it does not wait. While operations are captured, x is copied at once, and not again with them.
func Send[T any](g *GPU, dst uintptr, x []T) {
	if len(x) == 0 {
		return
	}
	kept := append([]T(nil), x...)
	g.Do(func() error {
		bytes := unsafe.Slice((*byte)(unsafe.Pointer(&kept[0])), len(x)*int(unsafe.Sizeof(x[0])))
		if g.capture != nil {
			return g.sendNow(dst, bytes)
		}
		return g.staging.send(dst, bytes, g.stream)
	})
}

// Download copies from the GPU into x after all earlier operations are complete.
func Download[T any](g *GPU, x []T, src uintptr) error {
	if len(x) == 0 {
		return nil
	}
	bytes := uint64(len(x)) * uint64(unsafe.Sizeof(x[0]))
	return g.Wait(func() error {
		var pinned runtime.Pinner
		pinned.Pin(&x[0])
		defer pinned.Unpin()
		if err := driverError(cuMemcpyDtoHAsync(unsafe.Pointer(&x[0]), src, bytes, g.stream), fmt.Sprintf("cuMemcpyDtoHAsync of %d bytes", bytes)); err != nil {
			return err
		}
		return driverError(cuStreamSynchronize(g.stream), "cuStreamSynchronize")
	})
}
