package eval

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
	"gqa/internal/device"
	"gqa/internal/engine/infer"
)

// Machine holds the two ceilings of the roofline (Williams et al. 2009) for this machine with the threads in use.
type Machine struct {
	Name      string
	Bandwidth float64 // bytes/s read from memory
	Peak      float64 // FLOP/s of a matrix product in f32
	PeakBF16  float64 // FLOP/s of a matrix product with bf16 weights by matrix instructions; 0 if the machine has none
}

// MeasureMachine measures the ceilings in about half a second. If ctx is canceled, it returns early without a result.
func MeasureMachine(ctx context.Context) Machine {
	return Machine{Name: MachineName(), Bandwidth: measureBandwidth(ctx), Peak: measurePeak(ctx), PeakBF16: measurePeakBF16(ctx)}
}

// with returns the machine's ceilings for a model in these formats.
func (m Machine) with(f infer.Formats) Machine {
	if f.Weights == device.BF16 && f.Cache == device.BF16 {
		m.Peak = max(m.Peak, m.PeakBF16)
	}
	return m
}

// roofline returns the least time in seconds for moving bytes once and computing flops.
func (m Machine) roofline(bytes, flops float64) float64 {
	return max(bytes/m.Bandwidth, flops/m.Peak)
}

// measureBandwidth reads memory as dot products do and returns the best of several rounds. It must read more than fits in
// a processor's cache: of 128 MiB, a server's cache still holds a part in the next round.
func measureBandwidth(ctx context.Context) float64 {
	const n, block = 1 << 27, 1 << 16 // 512 MiB
	x := make([]float32, n)
	memory.HugePages(x)
	for i := range x {
		x[i] = 1
	}
	sums := make([]float32, n/block)
	return float64(4*n) / bestOf(ctx, 4, func() {
		pool.For(n/block, 1, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				half := x[i*block : (i+1)*block]
				sums[i] = blas.Dot(half[:block/2], half[block/2:])
			}
		})
	})
}

const peakSize = 512 // rows and columns of the matrices by which the peaks are measured

func measurePeakBF16(ctx context.Context) float64 {
	const n = peakSize
	x, y := make([]float32, n*n), make([]float32, n*n)
	w := blas.PackHalf(simd.BF16, n, n, make([]uint16, n*n))
	if w == nil {
		return 0
	}
	return 2 * n * n * n / bestOf(ctx, 4, func() { blas.GemmNTPacked(n, x, n, w, y, n) })
}

func measurePeak(ctx context.Context) float64 {
	const n = peakSize
	a, b, c := make([]float32, n*n), make([]float32, n*n), make([]float32, n*n)
	for i := range a {
		a[i], b[i] = float32(i%7)-3, float32(i%5)-2
	}
	return 2 * n * n * n / bestOf(ctx, 4, func() { blas.Gemm(false, false, n, n, n, 1, a, n, b, n, 0, c, n) })
}

// bestOf returns the shortest time of f in seconds, after a warm-up.
func bestOf(ctx context.Context, rounds int, f func()) float64 {
	f()
	best := time.Duration(1<<63 - 1)
	for range rounds {
		if ctx.Err() != nil {
			break
		}
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best.Seconds()
}

// MachineName returns a description of the machine, threads and kernels behind the figures.
func MachineName() string {
	return fmt.Sprintf("%s, %s, %s/%s, kernels %s", cpuName(), count(pool.Threads(), "thread"), runtime.GOOS, runtime.GOARCH, simd.Path())
}

// MachineName returns a description of what the model runs on.
func (m *Model) MachineName() string { return cmp.Or(m.DeviceName(), MachineName()) }

func cpuName() string {
	if name, ok := procField("/proc/cpuinfo", "model name"); ok {
		return name
	}
	return fmt.Sprintf("%d CPUs", runtime.NumCPU())
}

// procField returns the value of the first line "name: value" in a file of /proc.
func procField(file, name string) (value string, ok bool) {
	f, err := os.Open(file)
	if err != nil {
		return "", false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, found := strings.Cut(s.Text(), ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
