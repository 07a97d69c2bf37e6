package cuda

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Copy is a file of a library.
type Copy struct {
	Path    string `json:"path"`              // with links resolved
	Version string `json:"version,omitempty"` // empty if not known
}

// Found is a library with its existing files.
type Found struct {
	Library
	Copies []Copy
}

// Loaded is a library as used by this process.
type Loaded struct {
	Library
	Copy
	Err error // why it cannot be used
}

// Info is the driver's description of a GPU.
type Info struct {
	Number     int    `json:"number"` // from 0
	Name       string `json:"name"`
	Memory     uint64 `json:"memory_bytes"`
	Capability string `json:"compute_capability"` // 9.0
}

// Find looks for the files of all libraries. It does not load them, so it works in every build.
func Find() (all []Found) {
	for _, l := range Libraries {
		all = append(all, Found{l, l.copies()})
	}
	return all
}

// copies returns the files that Candidates names, in that order. Plain names are looked up only in LD_LIBRARY_PATH,
// because the other folders of the system's loader are among those that Candidates names.
func (l Library) copies() (all []Copy) {
	var paths []string
	for _, path := range l.Candidates() {
		if filepath.IsAbs(path) {
			paths = append(paths, path)
			continue
		}
		for dir := range strings.SplitSeq(os.Getenv("LD_LIBRARY_PATH"), ":") {
			if dir != "" {
				paths = append(paths, filepath.Join(dir, path))
			}
		}
	}
	for i, path := range paths {
		paths[i], _ = filepath.EvalSymlinks(path) // empty if there is no file
	}
	for _, path := range unique(paths) {
		if path != "" {
			all = append(all, Copy{path, l.fileVersion(path)})
		}
	}
	return all
}

// fileVersion returns the version of a file according to its name, or otherwise to the Python package that it belongs to.
func (l Library) fileVersion(path string) string {
	_, version, _ := strings.Cut(filepath.Base(path), ".so.")
	site, _, inWheel := strings.Cut(path, "/nvidia/")
	if strings.Contains(version, ".") || !inWheel || l.Wheel == "" {
		return version
	}
	// The folder nvidia_cublas_cu12-12.8.4.1.dist-info is beside nvidia/.
	name := strings.ReplaceAll(l.wheelBase(), "-", "_")
	for _, pattern := range []string{name + "-" + version, name + "_cu*-" + version} {
		found, _ := filepath.Glob(filepath.Join(site, pattern+".*.dist-info"))
		if len(found) == 1 { // with several, the right one is unknown
			_, version, _ := strings.Cut(strings.TrimSuffix(filepath.Base(found[0]), ".dist-info"), "-")
			return version
		}
	}
	return version
}

// Older reports whether version a, which consists of numbers separated by dots, is before b.
func Older(a, b string) bool {
	x, y := numbers(a), numbers(b)
	n := min(len(x), len(y))
	return slices.Compare(x[:n], y[:n]) < 0
}

// fileAt returns the file that is mapped at an address, given the lines of /proc/PID/maps; empty if there is none.
func fileAt(maps io.Reader, addr uintptr) string {
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		// 7f2c1a000000-7f2c1a028000 r--p 00000000 08:01 1234   /usr/lib/libcuda.so.580.95.05
		var from, to, offset, inode uint64
		var mode, device string
		line := lines.Text()
		n, _ := fmt.Sscanf(line, "%x-%x %s %x %s %d", &from, &to, &mode, &offset, &device, &inode)
		if n == 6 && uint64(addr) >= from && uint64(addr) < to {
			if i := strings.Index(line, "/"); i >= 0 {
				return line[i:]
			}
			return ""
		}
	}
	return ""
}
