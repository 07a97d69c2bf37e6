package cuda

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// touch makes empty files, with links from other names to them.
func touch(t *testing.T, dir string, links map[string]string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// bare takes everything from the environment that leads to libraries, and returns a folder without links in its path.
func bare(t *testing.T) (dir string) {
	t.Helper()
	for _, name := range []string{PathVar, "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PATH"} {
		t.Setenv(name, "")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	return dir
}

// copiesIn are the files of a library below a folder: the machine may have others.
func copiesIn(name, dir string) (all []Copy) {
	for _, f := range Find() {
		if f.Name != name {
			continue
		}
		for _, c := range f.Copies {
			if strings.HasPrefix(c.Path, dir+"/") {
				c.Path = strings.TrimPrefix(c.Path, dir+"/")
				all = append(all, c)
			}
		}
	}
	return all
}

func wantCopies(t *testing.T, name, dir string, want ...Copy) {
	t.Helper()
	if got := copiesIn(name, dir); !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", name, got, want)
	}
}

func TestFindNamedFolder(t *testing.T) {
	dir := bare(t)
	touch(t, dir, map[string]string{"a/libcublasLt.so.12": "libcublasLt.so.12.4.5.8", "a/libcublasLt.so": "libcublasLt.so.12"},
		"a/libcublasLt.so.12.4.5.8", "b/lib64/libcublasLt.so.13", "c/libcublasLt.so.13", "d/libcublasLt.so.11", "c/libnccl.so.2")
	t.Setenv(PathVar, filepath.Join(dir, "a")+"::"+filepath.Join(dir, "b")+":"+filepath.Join(dir, "d")+":"+filepath.Join(dir, "a"))
	t.Setenv("LD_LIBRARY_PATH", filepath.Join(dir, "c"))
	wantCopies(t, "libcublasLt", dir, Copy{"a/libcublasLt.so.12.4.5.8", "12.4.5.8"}, Copy{"b/lib64/libcublasLt.so.13", "13"},
		Copy{"c/libcublasLt.so.13", "13"})
	wantCopies(t, "libnccl", dir, Copy{"c/libnccl.so.2", "2"})
	wantCopies(t, "libcuda", dir)
}

// Wheels say their version in the name of a folder beside them.
func TestFindWheels(t *testing.T) {
	dir := bare(t)
	touch(t, dir, nil, "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
		"venv/lib/python3.12/site-packages/nvidia_cuda_nvrtc-13.0.88.dist-info/METADATA",
		"venv/lib/python3.12/site-packages/nvidia/cudnn/lib/libcudnn.so.9",
		"venv/lib/python3.12/site-packages/nvidia_cudnn_cu13-9.13.0.50.dist-info/METADATA",
		"venv/lib/python3.9/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
		"py/bin/python3", "py/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
		"py/lib/python3.11/site-packages/nvidia_cuda_nvrtc_cu12-12.8.93.dist-info/METADATA",
		".local/lib/python3.10/site-packages/nvidia/nccl/lib/libnccl.so.2",
	)
	t.Setenv("VIRTUAL_ENV", filepath.Join(dir, "venv"))
	t.Setenv("PATH", filepath.Join(dir, "py", "bin"))
	const venv, py = "venv/lib/python3.12/site-packages/nvidia/", "py/lib/python3.11/site-packages/nvidia/"
	wantCopies(t, "libnvrtc", dir, Copy{venv + "cu13/lib/libnvrtc.so.13", "13.0.88"},
		Copy{"venv/lib/python3.9/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "12"},
		Copy{py + "cuda_nvrtc/lib/libnvrtc.so.12", "12.8.93"})
	wantCopies(t, "libcudnn", dir, Copy{venv + "cudnn/lib/libcudnn.so.9", "9.13.0.50"})
	wantCopies(t, "libnccl", dir, Copy{".local/lib/python3.10/site-packages/nvidia/nccl/lib/libnccl.so.2", "2"})
}

// Of several copies of cuDNN the newest comes first, unless a folder is named by a variable.
func TestFindNewest(t *testing.T) {
	dir := bare(t)
	const old, new, unknown = "venv/lib/python3.12/site-packages/", "py/lib/python3.11/site-packages/", ".local/lib/python3.10/site-packages/"
	touch(t, dir, map[string]string{"sys/libcudnn.so.9": "libcudnn.so.9.9.0"}, "py/bin/python3", "sys/libcudnn.so.9.9.0",
		old+"nvidia/cudnn/lib/libcudnn.so.9", old+"nvidia_cudnn_cu12-9.6.0.74.dist-info/METADATA",
		new+"nvidia/cudnn/lib/libcudnn.so.9", new+"nvidia_cudnn_cu13-9.19.0.56.dist-info/METADATA", unknown+"nvidia/cudnn/lib/libcudnn.so.9")
	t.Setenv("VIRTUAL_ENV", filepath.Join(dir, "venv"))
	t.Setenv("PATH", filepath.Join(dir, "py", "bin"))
	older, newer := Copy{old + "nvidia/cudnn/lib/libcudnn.so.9", "9.6.0.74"}, Copy{new + "nvidia/cudnn/lib/libcudnn.so.9", "9.19.0.56"}
	none, system := Copy{unknown + "nvidia/cudnn/lib/libcudnn.so.9", "9"}, Copy{"sys/libcudnn.so.9.9.0", "9.9.0"}
	wantCopies(t, "libcudnn", dir, newer, older, none)
	t.Setenv("LD_LIBRARY_PATH", filepath.Join(dir, "sys"))
	wantCopies(t, "libcudnn", dir, system, older, newer, none)
	t.Setenv("LD_LIBRARY_PATH", "")
	t.Setenv(PathVar, filepath.Join(dir, "sys"))
	wantCopies(t, "libcudnn", dir, system, newer, older, none)
}

func TestHow(t *testing.T) {
	for _, test := range []struct {
		library string
		cuda    int
		want    string
	}{
		{"libcuda", 0, "install the NVIDIA driver"},
		{"libcublasLt", 13, "pip install nvidia-cublas"},
		{"libcublasLt", 12, "pip install nvidia-cublas-cu12"},
		{"libcudnn", 0, "pip install nvidia-cudnn-cu13 (for CUDA 12: nvidia-cudnn-cu12)"},
	} {
		for _, l := range Libraries {
			if got := l.How(test.cuda); l.Name == test.library && got != test.want {
				t.Errorf("%s for CUDA %d: %q, want %q", test.library, test.cuda, got, test.want)
			}
		}
	}
}

func TestOlder(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"9.5.1", "9.6", true},
		{"9.6", "9.6", false},
		{"9.6.0.74", "9.6", false},
		{"9.13", "9.6", false},
		{"11.8", "12.0", true},
		{"13", "12.0", false},
		{"12", "12.0", false},
	} {
		if got := Older(test.a, test.b); got != test.want {
			t.Errorf("%s before %s: %v", test.a, test.b, got)
		}
	}
}

func TestFileAt(t *testing.T) {
	const maps = `55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]
7f2c1a000000-7f2c1a028000 r--p 00000000 08:01 1234                       /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05
7f2c1a028000-7f2c1a1b0000 r-xp 00028000 08:01 1234                       /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05
7f2c1b000000-7f2c1b001000 r-xp 00000000 08:01 77                         /home/a b/libnccl.so.2
7f2c1c000000-7f2c1c001000 rw-p 00000000 00:00 0
`
	for addr, want := range map[uintptr]string{
		0x7f2c1a028123: "/usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05", 0x7f2c1b000000: "/home/a b/libnccl.so.2", 0x7f2c1b001000: "",
		0x55d0c8a00010: "", 0x7f2c1c000010: "", 1: "",
	} {
		if got := fileAt(strings.NewReader(maps), addr); got != want {
			t.Errorf("%#x: %q, want %q", addr, got, want)
		}
	}
}
