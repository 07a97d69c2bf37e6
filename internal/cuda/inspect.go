//go:build cuda && linux

package cuda

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Inspect loads every library and reports which copy of it is used.
func Inspect() (all []Loaded) {
	for _, l := range Libraries {
		loaded, err := loaders[l.Name]()
		if err != nil {
			all = append(all, Loaded{Library: l, Err: err})
			continue
		}
		all = append(all, Loaded{Library: l, Copy: Copy{loaded.file(), versions[l.Name]()}})
	}
	return all
}

// loaders load libraries by name.
var loaders = map[string]func() (*lib, error){
	"libcuda":     loadDriver,
	"libnvrtc":    func() (*lib, error) { err := loadNVRTC(); return nvrtcLib, err },
	"libcublasLt": func() (*lib, error) { err := loadBLAS(); return blasLib, err },
	"libcudnn": func() (*lib, error) {
		return load("libcudnn", purego.RTLD_LOCAL, map[string]any{"cudnnGetVersion": &cudnnGetVersion})
	},
	"libnccl": loadNCCL,
}

var cudnnGetVersion func() uint64

// versions query loaded libraries for their versions; the driver's is a version of CUDA.
var versions = map[string]func() string{
	"libcuda": func() string {
		var v int32
		cuDriverGetVersion(&v)
		return fmt.Sprintf("%d.%d", v/1000, v%1000/10)
	},
	"libnvrtc": func() string {
		var major, minor int32
		nvrtcVersion(&major, &minor)
		return fmt.Sprintf("%d.%d", major, minor)
	},
	"libcublasLt": func() string { return threeParts(ltGetVersion()) },
	"libcudnn":    func() string { return threeParts(cudnnGetVersion()) },
	"libnccl": func() string {
		var v int32
		ncclGetVersion(&v)
		return threeParts(uint64(v))
	},
}

// threeParts formats 90600 as 9.6.0.
func threeParts(v uint64) string { return fmt.Sprintf("%d.%d.%d", v/10_000, v/100%100, v%100) }

// file returns the library's file. If the library was loaded by a plain name, the system's loader has chosen the file.
func (l *lib) file() string {
	if l.symbol == 0 {
		return l.path
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return l.path
	}
	defer maps.Close()
	if file := fileAt(maps, l.symbol); file != "" {
		return file
	}
	return l.path
}

// List returns the GPUs that the driver offers to this process.
func List() (all []Info, err error) {
	n, err := Count()
	if err != nil {
		return nil, err
	}
	for i := range n {
		var device, major, minor int32
		info, name := Info{Number: i}, make([]byte, 128)
		for _, c := range []struct {
			code int32
			call string
		}{
			{cuDeviceGet(&device, int32(i)), "cuDeviceGet"},
			{cuDeviceGetName(unsafe.Pointer(&name[0]), int32(len(name)), device), "cuDeviceGetName"},
			{cuDeviceTotalMem(&info.Memory, device), "cuDeviceTotalMem"},
			{cuDeviceGetAttribute(&major, attrMajor, device), "cuDeviceGetAttribute"},
			{cuDeviceGetAttribute(&minor, attrMinor, device), "cuDeviceGetAttribute"},
		} {
			if err := driverError(c.code, c.call); err != nil {
				return nil, err
			}
		}
		text, _, _ := bytes.Cut(name, []byte{0})
		info.Name, info.Capability = string(text), fmt.Sprintf("%d.%d", major, minor)
		all = append(all, info)
	}
	return all, nil
}
