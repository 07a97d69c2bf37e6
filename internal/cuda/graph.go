//go:build cuda && linux

package cuda

import (
	"errors"
	"runtime"
	"unsafe"
)

// Graph is a sequence of operations that the GPU runs again without their being requested one by one.
type Graph struct {
	gpu  *GPU
	exec uintptr
}

// capture is a sequence of operations that is being recorded.
type capture struct {
	err  error   // the first error
	side uintptr // a stream for copies that are made at once; 0: none yet
}

func (c *capture) run(f func() error) {
	if c.err == nil {
		c.err = f()
	}
}

// Modes in which a stream is captured: what the capturing thread may call in the meantime.
const (
	captureThreadLocal = 1
	captureRelaxed     = 2
)

// Capture calls f and records the operations that it requests, which are not run. After an error the GPU can be used as if
// nothing had been requested. All that the operations need, such as compiled kernels, should exist already. No other goroutine
// may use the GPU in the meantime.
func (g *GPU) Capture(f func()) (*Graph, error) {
	err := g.Synchronize() // copies that are made at once must not overtake earlier operations
	if err != nil {
		return nil, err
	}
	g.call(func() {
		if err = driverError(cuStreamBeginCapture(g.stream, captureThreadLocal), "cuStreamBeginCapture"); err == nil {
			g.capture = new(capture)
		}
	})
	if err != nil {
		return nil, err
	}
	f()
	graph := &Graph{gpu: g}
	g.call(func() { err = g.endCapture(&graph.exec) })
	if err != nil {
		return nil, err
	}
	return graph, nil
}

func (g *GPU) endCapture(exec *uintptr) error {
	c := g.capture
	g.capture = nil
	var graph uintptr
	ended := driverError(cuStreamEndCapture(g.stream, &graph), "cuStreamEndCapture")
	if c.side != 0 {
		cuStreamDestroy(c.side)
	}
	if graph != 0 {
		defer cuGraphDestroy(graph)
	}
	if err := errors.Join(c.err, ended); err != nil {
		return err
	}
	return driverError(cuGraphInstantiate(exec, graph, 0), "cuGraphInstantiate")
}

// uncaptured runs f so that a capture neither records nor forbids what it calls.
func (g *GPU) uncaptured(f func() error) error {
	if g.capture == nil {
		return f()
	}
	mode := int32(captureRelaxed)
	if err := driverError(cuThreadExchangeCapture(&mode), "cuThreadExchangeStreamCaptureMode"); err != nil {
		return err
	}
	return errors.Join(f(), driverError(cuThreadExchangeCapture(&mode), "cuThreadExchangeStreamCaptureMode"))
}

// sendNow copies data to the GPU during a capture.
func (g *GPU) sendNow(dst uintptr, data []byte) error {
	return g.uncaptured(func() error {
		if g.capture.side == 0 {
			if err := driverError(cuStreamCreate(&g.capture.side, 1), "cuStreamCreate"); err != nil {
				return err
			}
		}
		var pinned runtime.Pinner
		pinned.Pin(&data[0])
		defer pinned.Unpin()
		if err := driverError(cuMemcpyHtoDAsync(dst, unsafe.Pointer(&data[0]), uint64(len(data)), g.capture.side), "cuMemcpyHtoDAsync"); err != nil {
			return err
		}
		return driverError(cuStreamSynchronize(g.capture.side), "cuStreamSynchronize")
	})
}

// Launch runs the operations.
func (g *Graph) Launch() {
	g.gpu.do("graph", func() error { return driverError(cuGraphLaunch(g.exec, g.gpu.stream), "cuGraphLaunch") })
}

// Destroy frees the graph once earlier operations are complete.
func (g *Graph) Destroy() {
	g.gpu.Do(func() error {
		if err := driverError(cuStreamSynchronize(g.gpu.stream), "cuStreamSynchronize"); err != nil {
			return err
		}
		return driverError(cuGraphExecDestroy(g.exec), "cuGraphExecDestroy")
	})
}
