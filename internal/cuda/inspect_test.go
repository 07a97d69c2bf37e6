//go:build cuda && linux

package cuda

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fake compiles a library from functions such as "int f(int *v)" and their bodies.
func fake(t *testing.T, path string, functions ...string) {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("there is no C compiler to make a library with")
	}
	cmd := exec.Command(cc, "-shared", "-fPIC", "-x", "c", "-o", path, "-")
	cmd.Stdin = strings.NewReader(strings.Join(functions, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// A process uses the first existing copy of a library and determines its file and version, through whatever link it was
// loaded.
func TestInspect(t *testing.T) {
	made, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fake(t, filepath.Join(made, "libcudnn.so.9.5.1"), "unsigned long cudnnGetVersion(void) { return 90501; }")
	fake(t, filepath.Join(made, "libnccl.so.2"), "int ncclGetVersion(int *v) { *v = 22703; return 0; }") // others are missing
	dir := bare(t)
	touch(t, dir, map[string]string{"libcudnn.so.9": filepath.Join(made, "libcudnn.so.9.5.1"), "libnccl.so.2": filepath.Join(made, "libnccl.so.2")})
	touch(t, dir, nil, "libcublasLt.so.12")
	t.Setenv(PathVar, dir)
	for _, l := range Inspect() {
		var missing *MissingError
		switch l.Name {
		case "libcudnn":
			if want := (Copy{filepath.Join(made, "libcudnn.so.9.5.1"), "9.5.1"}); l.Copy != want || l.Err != nil {
				t.Errorf("%v, %v, want %v", l.Copy, l.Err, want)
			}
		case "libnccl":
			if l.Err == nil || !strings.Contains(l.Err.Error(), "libnccl.so.2 has no function nccl") || l.Path != "" {
				t.Errorf("an incomplete library: %v, %v", l.Copy, l.Err)
			}
		case "libcublasLt":
			if l.Err != nil && (!errors.As(l.Err, &missing) || !strings.Contains(l.Err.Error(), filepath.Join(dir, "libcublasLt.so.12")+" (")) {
				t.Errorf("a file that is no library: %v", l.Err)
			}
		}
	}
}

// Of two copies of cuDNN a process uses the newer one, and reports it.
func TestInspectNewest(t *testing.T) {
	made := t.TempDir()
	fake(t, filepath.Join(made, "venv"), "unsigned long cudnnGetVersion(void) { return 91400; }")
	fake(t, filepath.Join(made, ".local"), "unsigned long cudnnGetVersion(void) { return 91900; }")
	dir := bare(t)
	for _, python := range []struct{ folder, version string }{{"venv", "9.14.0.64"}, {".local", "9.19.0.56"}} {
		site := filepath.Join(dir, python.folder, "lib/python3.12/site-packages")
		touch(t, site, nil, "nvidia_cudnn_cu13-"+python.version+".dist-info/METADATA", "nvidia/cudnn/lib/README")
		if err := os.Rename(filepath.Join(made, python.folder), filepath.Join(site, "nvidia/cudnn/lib/libcudnn.so.9")); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("VIRTUAL_ENV", filepath.Join(dir, "venv"))
	want := Copy{filepath.Join(dir, ".local/lib/python3.12/site-packages/nvidia/cudnn/lib/libcudnn.so.9"), "9.19.0"}
	for _, l := range Inspect() {
		if l.Name == "libcudnn" && (l.Copy != want || l.Err != nil) {
			t.Errorf("%v, %v, want %v", l.Copy, l.Err, want)
		}
	}
}

// A GPU that cannot be opened leaves nothing behind: a collection would end the process with a panic.
func TestOpenNone(t *testing.T) {
	if _, err := Open(1 << 20); err == nil {
		t.Fatal("GPU 1048576 is there")
	}
	for range 3 {
		runtime.GC()
		time.Sleep(time.Millisecond) // finalizers run by themselves
	}
}
