package cuda

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// PathVar is the environment variable with colon-separated folders that are searched for libraries before all others.
const PathVar = "GQA_CUDA_PATH"

// Library is a shared library that the toolkit loads.
type Library struct {
	Name     string   // without the version: libcublasLt
	Versions []string // in its file's name, newest first: 13 for libcublasLt.so.13
	Minimum  string   // the oldest version that works; for libcuda the version of CUDA that the driver supports
	Needed   bool     // if false, only some operations need it
	For      string   // its use in the toolkit
	wheels   []string // folders below site-packages that contain it
	Wheel    string   // the Python package that installs it, for CUDA 13; empty if it comes with the driver
	newest   bool     // the newest copy is used, not the first
}

// Libraries lists the libraries in the order in which they are loaded.
var Libraries = []Library{
	{
		Name: "libcuda", Versions: []string{"1"}, Minimum: "12.0", Needed: true, For: "the driver",
	},
	{
		Name: "libnvrtc", Versions: []string{"13", "12"}, Minimum: "12.0", Needed: true, For: "compiles the kernels for the GPU",
		wheels: []string{"nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"}, Wheel: "nvidia-cuda-nvrtc",
	},
	{
		Name: "libcublasLt", Versions: []string{"13", "12"}, Minimum: "12.0", Needed: true, For: "matrix products",
		wheels: []string{"nvidia/cu13/lib", "nvidia/cublas/lib"}, Wheel: "nvidia-cublas",
	},
	{
		Name: "libcudnn", Versions: []string{"9"}, Minimum: "9.6", For: "attention in bf16",
		wheels: []string{"nvidia/cudnn/lib"}, Wheel: "nvidia-cudnn-cu13", newest: true,
	},
	{
		Name: "libnccl", Versions: []string{"2"}, Minimum: "2.18", For: "several GPUs",
		wheels: []string{"nvidia/nccl/lib", "nvidia/cu13/lib"}, Wheel: "nvidia-nccl-cu13",
	},
}

// How describes how to install the library. cuda is the major version of CUDA that the driver supports, or 0 if that is
// not known.
func (l Library) How(cuda int) string {
	if l.Wheel == "" {
		return "install the NVIDIA driver"
	}
	wheel, older := l.Wheel, l.wheelBase()+"-cu12"
	switch {
	case cuda == 0:
		wheel += " (for CUDA 12: " + older + ")"
	case cuda < 13:
		wheel = older
	}
	return "pip install " + wheel
}

// wheelBase is the name of the Python package without a version of CUDA.
func (l Library) wheelBase() string { return strings.TrimSuffix(l.Wheel, "-cu13") }

// MissingError reports that a library could not be loaded.
type MissingError struct {
	Library
	Tried []string // each with the loader's error
}

// Error describes how to get the library, and what is wrong with its existing files.
func (e *MissingError) Error() string {
	broken := ""
	for _, tried := range e.Tried {
		if strings.HasPrefix(tried, "/") { // plain names fail whenever the library is not in the loader's folders
			broken = "; " + tried
		}
	}
	return fmt.Sprintf("%s.so.%s (%s) cannot be loaded: %s, or name its folder in %s%s",
		e.Name, strings.Join(e.Versions, " or "), e.For, e.How(0), PathVar, broken)
}

// Candidates returns the names from which to load l, in order: files in the folders of GQA_CUDA_PATH, names that the
// system's loader resolves, and files in the places where the driver, the CUDA toolkit, Linux distributions and Python
// packages install it. Of some libraries, newer files come before older ones and before names.
func (l Library) Candidates() []string {
	var all []string
	add := func(dir string) {
		for _, v := range l.Versions {
			found, _ := filepath.Glob(filepath.Join(dir, l.Name+".so."+v)) // the pattern is a constant
			all = append(all, found...)
		}
	}
	for dir := range strings.SplitSeq(os.Getenv(PathVar), ":") {
		if dir != "" {
			add(dir)
			add(filepath.Join(dir, "lib64"))
		}
	}
	named := len(all)
	for _, v := range l.Versions {
		all = append(all, l.Name+".so."+v)
	}
	for _, dir := range systemDirs {
		add(dir)
	}
	for _, site := range sitePackages() {
		for _, wheel := range l.wheels {
			add(filepath.Join(site, wheel))
		}
	}
	if l.newest {
		all = append(all[:named], l.newestFirst(all[named:])...)
	}
	return unique(all)
}

// newestFirst sorts files by their versions, newest first and unknown ones last, if there are several, and moves names
// behind them. Versions are read from the names of files and packages, not from loaded copies: libcudnn loads its parts
// by plain names, so a second copy in a process would get those of the first. For the same reason the order is kept if
// a copy is in LD_LIBRARY_PATH, from where the parts would come.
func (l Library) newestFirst(paths []string) []string {
	var files, names []string
	versions := map[string][]int{}
	for _, path := range paths {
		file, err := filepath.EvalSymlinks(path)
		switch {
		case !filepath.IsAbs(path):
			names = append(names, path)
		case err == nil:
			files = append(files, path)
			versions[path] = numbers(l.fileVersion(file))
		}
	}
	for dir := range strings.SplitSeq(os.Getenv("LD_LIBRARY_PATH"), ":") {
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil && dir != "" {
				return paths
			}
		}
	}
	if len(files) < 2 {
		return paths
	}
	slices.SortStableFunc(files, func(a, b string) int { return slices.Compare(versions[b], versions[a]) })
	return append(files, names...)
}

// numbers returns the numbers of a version such as 9.14.0.
func numbers(version string) (all []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.Atoi(part) // anything that is not a number counts as 0
		all = append(all, n)
	}
	return all
}

// systemDirs are patterns of folders.
var systemDirs = []string{
	"/usr/local/nvidia/lib64", "/usr/local/cuda/lib64", "/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/*/lib", "/opt/cuda/lib64",
	"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib", "/run/opengl-driver/lib",
}

// sitePackages returns the folders of Python packages: of the active environment, of the first python3 in the path, of
// the user and of the system.
func sitePackages() []string {
	var roots []string
	for _, name := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		if dir := os.Getenv(name); dir != "" {
			roots = append(roots, dir)
		}
	}
	for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		if _, err := os.Stat(filepath.Join(dir, "python3")); err == nil && filepath.Base(dir) == "bin" {
			roots = append(roots, filepath.Dir(dir))
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		roots = append(roots, filepath.Join(home, ".local"))
	}
	roots = append(roots, "/usr/local", "/usr")
	var all []string
	for _, root := range roots {
		for _, pattern := range []string{"lib/python3*/site-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages"} {
			found, _ := filepath.Glob(filepath.Join(root, pattern))
			slices.SortStableFunc(found, newerPython)
			all = append(all, found...)
		}
	}
	return unique(all)
}

// newerPython orders package folders, such as lib/python3.12/site-packages, by their Python version, newest first.
func newerPython(a, b string) int {
	version := func(dir string) string { return strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "python") }
	switch va, vb := version(a), version(b); {
	case Older(vb, va):
		return -1
	case Older(va, vb):
		return 1
	}
	return 0
}

// unique returns the strings in order without duplicates.
func unique(all []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(s string) bool {
		again := seen[s]
		seen[s] = true
		return again
	})
}
