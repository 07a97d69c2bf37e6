//go:build cuda && linux

package cuda

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// The functions of NVRTC.
var (
	nvrtcVersion           func(major, minor *int32) int32
	nvrtcGetErrorString    func(int32) string
	nvrtcCreateProgram     func(prog *uintptr, src, name string, headers int32, sources, names unsafe.Pointer) int32
	nvrtcDestroyProgram    func(*uintptr) int32
	nvrtcCompileProgram    func(prog uintptr, n int32, options unsafe.Pointer) int32
	nvrtcGetCUBINSize      func(uintptr, *uint64) int32
	nvrtcGetCUBIN          func(uintptr, unsafe.Pointer) int32
	nvrtcGetProgramLogSize func(uintptr, *uint64) int32
	nvrtcGetProgramLog     func(uintptr, unsafe.Pointer) int32
)

var nvrtcLib *lib

func loadNVRTC() (err error) {
	if nvrtcLib != nil {
		return nil
	}
	nvrtcLib, err = load("libnvrtc", purego.RTLD_LOCAL, map[string]any{
		"nvrtcVersion": &nvrtcVersion, "nvrtcGetErrorString": &nvrtcGetErrorString, "nvrtcCreateProgram": &nvrtcCreateProgram,
		"nvrtcDestroyProgram": &nvrtcDestroyProgram, "nvrtcCompileProgram": &nvrtcCompileProgram, "nvrtcGetCUBINSize": &nvrtcGetCUBINSize,
		"nvrtcGetCUBIN": &nvrtcGetCUBIN, "nvrtcGetProgramLogSize": &nvrtcGetProgramLogSize, "nvrtcGetProgramLog": &nvrtcGetProgramLog,
	})
	return err
}

// module is compiled source.
type module struct {
	handle    uintptr
	functions map[string]uintptr
	shared    map[string]int // bytes of dynamic shared memory that functions may have, if more than usual
}

// Source is CUDA C with macro definitions. Different definitions make different modules.
type Source struct {
	Name, Text string
	Defines    []string // NAME=VALUE
}

// Kernel is a function of a source.
type Kernel struct {
	*Source
	Function string
	Words    []int // number of 8-byte words of each parameter; nil if each has one
}

// Grid is the launch configuration of a kernel.
type Grid struct {
	X, Y, Z int // blocks; 0 means 1
	Threads int // of a block in one dimension, or
	TX, TY  int // in two
	Shared  int // bytes of dynamic shared memory per block
	CX, CY  int // blocks of a cluster, which run at once and can read each other's shared memory; 0 means 1. See [GPU.Clusters]
}

// launchConfig is the driver's CUlaunchConfig.
type launchConfig struct {
	gx, gy, gz, bx, by, bz, shared uint32
	stream                         uintptr
	attributes                     unsafe.Pointer
	count                          uint32
}

// launchAttribute is the driver's CUlaunchAttribute with integers as its value.
type launchAttribute struct {
	id, _ int32
	value [16]int32
}

// Attributes of a launch.
const (
	attrCluster = 4 // CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
	attrEarly   = 6 // it may begin while the kernels before run: CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
)

// Clusters reports whether blocks can form clusters.
func (g *GPU) Clusters() bool { return g.Arch >= 90 }

// Launch runs a kernel. Arguments are 8-byte words: addresses, integers, and 32-bit floats converted by [Float]. On compute
// capability 9.0 and later it can begin while the kernels before it run, and must wait for them itself (griddepcontrol.wait).
func (g *GPU) Launch(k Kernel, grid Grid, args ...uint64) {
	g.do(k.Function, func() error {
		f, err := g.function(k, grid.Shared)
		if err != nil {
			return err
		}
		g.params.set(args, k.Words)
		x, y, z, tx, ty := max(grid.X, 1), max(grid.Y, 1), max(grid.Z, 1), max(grid.Threads, grid.TX), max(grid.TY, 1)
		g.params.config = launchConfig{
			gx: uint32(x), gy: uint32(y), gz: uint32(z), bx: uint32(tx), by: uint32(ty), bz: 1, shared: uint32(grid.Shared), stream: g.stream,
		}
		if g.early {
			g.params.attribute(attrEarly, 1)
		}
		if grid.CX > 1 || grid.CY > 1 {
			g.params.attribute(attrCluster, int32(max(grid.CX, 1)), int32(max(grid.CY, 1)), 1)
		}
		code := cuLaunchKernelEx(unsafe.Pointer(&g.params.config), f, unsafe.Pointer(&g.params.pointers[0]), nil)
		return driverError(code, fmt.Sprintf("launch of %s, %d×%d×%d blocks of %d×%d threads", k.Function, x, y, z, tx, ty))
	})
}

// attribute adds an attribute to the launch.
func (p *params) attribute(id int32, value ...int32) {
	a := &p.attributes[p.config.count]
	*a = launchAttribute{id: id}
	copy(a.value[:], value)
	p.config.attributes = unsafe.Pointer(&p.attributes[0])
	p.config.count++
}

// set lays out arguments for a launch.
func (p *params) set(args []uint64, words []int) {
	copy(p.values[:], args)
	for i, at := 0, 0; at < len(args); i++ {
		p.pointers[i] = unsafe.Pointer(&p.values[at])
		if words == nil {
			at++
		} else {
			at += words[i]
		}
	}
}

// Float returns a 32-bit float as an argument.
func Float(x float32) uint64 { return uint64(math.Float32bits(x)) }

const attrMaxDynamicShared = 8

// function returns a kernel's function, compiling the source if necessary.
func (g *GPU) function(k Kernel, shared int) (uintptr, error) {
	m, err := g.module(k.Source)
	if err != nil {
		return 0, err
	}
	f := m.functions[k.Function]
	if f == 0 {
		if err := driverError(cuModuleGetFunction(&f, m.handle, k.Function), "cuModuleGetFunction "+k.Function); err != nil {
			return 0, err
		}
		m.functions[k.Function] = f
	}
	if shared > max(48<<10, m.shared[k.Function]) {
		if err := driverError(cuFuncSetAttribute(f, attrMaxDynamicShared, int32(shared)), fmt.Sprintf("%d bytes of shared memory for %s", shared, k.Function)); err != nil {
			return 0, err
		}
		m.shared[k.Function] = shared
	}
	return f, nil
}

func (g *GPU) module(s *Source) (*module, error) {
	if m := g.modules[s]; m != nil {
		return m, nil
	}
	code, err := g.cubin(s)
	if err != nil {
		return nil, err
	}
	m := &module{functions: map[string]uintptr{}, shared: map[string]int{}}
	if err := driverError(cuModuleLoadData(&m.handle, unsafe.Pointer(&code[0])), "cuModuleLoadData of "+s.Name); err != nil {
		return nil, err
	}
	g.modules[s] = m
	return m, nil
}

// cubin returns the machine code of a source for this GPU, from the cache on disk if possible.
func (g *GPU) cubin(s *Source) ([]byte, error) {
	var major, minor int32
	nvrtcVersion(&major, &minor)
	options := []string{fmt.Sprintf("--gpu-architecture=sm_%d", g.Arch), "--std=c++17", "-default-device"}
	for _, d := range s.Defines {
		options = append(options, "-D"+d)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d.%d\n%s\n%s", major, minor, strings.Join(options, " "), s.Text))
	var cached string
	if dir, err := os.UserCacheDir(); err == nil {
		cached = filepath.Join(dir, "gqa", "cuda", hex.EncodeToString(sum[:16])+".cubin")
		if code, err := os.ReadFile(cached); err == nil && len(code) > 64 && string(code[1:4]) == "ELF" {
			return code, nil
		}
	}
	code, err := compile(s, options)
	if err == nil && cached != "" {
		writeCache(cached, code)
	}
	return code, err
}

// writeCache tries to save compiled code for later processes.
func writeCache(path string, code []byte) {
	if os.MkdirAll(filepath.Dir(path), 0o755) != nil {
		return
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if os.WriteFile(tmp, code, 0o644) != nil || os.Rename(tmp, path) != nil {
		os.Remove(tmp)
	}
}

func compile(s *Source, options []string) ([]byte, error) {
	failed := func(code int32, call string) error {
		return fmt.Errorf("%s of %s.cu: %s", call, s.Name, nvrtcGetErrorString(code))
	}
	var prog uintptr
	if code := nvrtcCreateProgram(&prog, s.Text, s.Name+".cu", 0, nil, nil); code != 0 {
		return nil, failed(code, "nvrtcCreateProgram")
	}
	defer nvrtcDestroyProgram(&prog)
	list, unpin := cStrings(options)
	defer unpin()
	if code := nvrtcCompileProgram(prog, int32(len(options)), unsafe.Pointer(&list[0])); code != 0 {
		var n uint64
		nvrtcGetProgramLogSize(prog, &n)
		log := make([]byte, n+1)
		nvrtcGetProgramLog(prog, unsafe.Pointer(&log[0]))
		return nil, fmt.Errorf("%w:\n%s", failed(code, "nvrtcCompileProgram"), strings.TrimRight(string(log), "\x00\n"))
	}
	var n uint64
	if code := nvrtcGetCUBINSize(prog, &n); code != 0 || n == 0 {
		return nil, failed(code, "nvrtcGetCUBINSize")
	}
	bin := make([]byte, n)
	if code := nvrtcGetCUBIN(prog, unsafe.Pointer(&bin[0])); code != 0 {
		return nil, failed(code, "nvrtcGetCUBIN")
	}
	return bin, nil
}
