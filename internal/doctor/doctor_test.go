package doctor

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"gqa/internal/cuda"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
)

// status is the state of a machine's libraries, in their order: a version of each, or an error.
func status(versions map[string]string, errs map[string]error) (loaded []cuda.Loaded, found []cuda.Found) {
	for _, l := range cuda.Libraries {
		used := cuda.Copy{Path: "/lib/" + l.Name + ".so", Version: versions[l.Name]}
		s := cuda.Loaded{Library: l, Err: errs[l.Name]}
		f := cuda.Found{Library: l}
		switch {
		case s.Err != nil:
		case used.Version == "":
			s.Err = &cuda.MissingError{Library: l}
		default:
			s.Copy, f.Copies = used, append(f.Copies, used)
		}
		loaded, found = append(loaded, s), append(found, f)
	}
	return loaded, found
}

var good = map[string]string{"libcuda": "13.0", "libnvrtc": "13.0", "libcublasLt": "13.1.0", "libcudnn": "9.13.0", "libnccl": "2.27.3"}

// with returns good with other versions; an empty version means missing.
func with(pairs ...string) map[string]string {
	all := map[string]string{}
	for name, v := range good {
		all[name] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return all
}

var h200 = []cuda.Info{{Number: 0, Name: "NVIDIA H200", Memory: 150_000_000_000, Capability: "9.0"}}

// text returns the report of a machine with these libraries, whose checks return an error or nil.
func text(t *testing.T, versions map[string]string, errs map[string]error, gpus []cuda.Info, failure error) (string, *Report) {
	t.Helper()
	r := libraries(status(versions, errs))
	r.found(gpus, nil)
	run := func() (string, error) { return "as it must be", failure }
	r.check("attention", []string{"libcuda", "libcublasLt"}, run)
	r.check("all-reduce", []string{"libnccl"}, run)
	r.OK = len(r.Problems) == 0
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String(), r
}

func TestGoodReport(t *testing.T) {
	loaded, found := status(good, nil)
	found[2].Copies = append(found[2].Copies, cuda.Copy{Path: "/usr/local/cuda-12.4/lib64/libcublasLt.so.12.4.5.8", Version: "12.4.5.8"})
	r := libraries(loaded, found)
	r.found(h200, nil)
	r.check("attention", nil, func() (string, error) { return "as it must be", nil })
	r.OK = len(r.Problems) == 0
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	const want = `this build      uses NVIDIA GPUs
libcuda         the driver; needed, for CUDA 12.0 or later
  used          /lib/libcuda.so, supports CUDA 13.0
libnvrtc        compiles the kernels for the GPU; needed, version 12.0 or later
  used          /lib/libnvrtc.so, version 13.0
libcublasLt     matrix products; needed, version 12.0 or later
  used          /lib/libcublasLt.so, version 13.1.0
  found         /usr/local/cuda-12.4/lib64/libcublasLt.so.12.4.5.8, version 12.4.5.8
libcudnn        attention in bf16; optional, version 9.6 or later
  used          /lib/libcudnn.so, version 9.13.0
libnccl         several GPUs; optional, version 2.18 or later
  used          /lib/libnccl.so, version 2.27.3
GPU 0           NVIDIA H200, 140 GiB, compute capability 9.0
attention       passed: as it must be

Everything that is needed is there.
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}

func TestBadReports(t *testing.T) {
	broken := map[string]error{"libcublasLt": errors.New("/lib/libcublasLt.so has no function cublasLtMatmul: install a newer version")}
	for name, test := range map[string]struct {
		versions map[string]string
		errs     map[string]error
		gpus     []cuda.Info
		failure  error
		want     []string // lines
		ok       bool
	}{
		"no driver": {with("libcuda", ""), nil, nil, nil, []string{
			"  problem       not found: install the NVIDIA driver", "- libcuda: not found: install the NVIDIA driver",
			"attention       not checked: libcuda is missing", "all-reduce      not checked: there is no GPU",
		}, false},
		"no GPU": {good, nil, nil, nil, []string{
			"- the driver finds no GPU: see what nvidia-smi says, and whether CUDA_VISIBLE_DEVICES hides it", "attention       not checked: there is no GPU",
		}, false},
		"an old driver": {with("libcuda", "11.8"), nil, h200, nil, []string{
			"- libcuda: the driver supports CUDA 11.8, but 12.0 is needed: install a newer NVIDIA driver",
		}, false},
		"libraries newer than the driver": {with("libcuda", "12.4"), nil, h200, nil, []string{
			"- libcublasLt: version 13.1.0 needs a driver for CUDA 13, but this one supports 12.4: update it, or pip install nvidia-cublas-cu12",
		}, false},
		"a library is missing": {with("libnvrtc", ""), nil, h200, nil, []string{
			"- libnvrtc: not found: pip install nvidia-cuda-nvrtc", "attention       passed: as it must be",
		}, false},
		"one lacks functions": {good, broken, h200, nil, []string{
			"- libcublasLt: /lib/libcublasLt.so has no function cublasLtMatmul: install a newer version", "attention       not checked: libcublasLt is missing",
		}, false},
		"optional ones are missing or old": {with("libnccl", "", "libcudnn", "9.5.1"), nil, h200, nil, []string{
			"all-reduce      not checked: libnccl is missing", "  problem       not found: pip install nvidia-nccl-cu13",
			"  problem       version 9.5.1 is too old, 9.6 is needed: pip install nvidia-cudnn-cu13",
			"Everything that is needed is there.",
		}, true},
		"a check fails": {good, nil, h200, errors.New("number 3 is NaN"), []string{
			"attention       failed: number 3 is NaN", "- attention: number 3 is NaN",
		}, false},
	} {
		got, r := text(t, test.versions, test.errs, test.gpus, test.failure)
		for _, line := range test.want {
			if !strings.Contains("\n"+got, "\n"+line+"\n") {
				t.Errorf("%s: no line %q in\n%s", name, line, got)
			}
		}
		if r.OK != test.ok {
			t.Errorf("%s: ok is %v", name, r.OK)
		}
	}
}

func TestFiles(t *testing.T) {
	_, found := status(with("libcuda", "", "libcudnn", ""), nil)
	r := files(found)
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"this build      computes on the processor only", "  found         /lib/libcublasLt.so, version 13.1.0",
		"  problem       not found: pip install nvidia-cudnn-cu13 (for CUDA 12: nvidia-cudnn-cu12)",
		"- this build computes on the processor only: for NVIDIA GPUs build it with CGO_ENABLED=0 go install -tags cuda ./cmd/... on Linux",
	} {
		if !strings.Contains("\n"+out.String(), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, out.String())
		}
	}
	if text, err := json.Marshal(r); err != nil || r.OK || strings.Count(string(text), "null") != len(cuda.Libraries) { // used: none of them
		t.Errorf("%s, %v", text, err)
	}
}

// wrong is the processor with a product and an attention that get one number wrong.
type wrong struct{ *cpu.Device }

func (wrong) Gemm(_, _ bool, _, _, _ int, _ float32, _ device.Buffer, _ int, _ device.Buffer, _ int, _ float32, _ device.Buffer, _ int) {
}

func (w wrong) Attend(s device.Scores, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	s.Scale *= 1.01
	w.Device.Attend(s, out, lse, q, k, v)
}

type sums func(x []float32) ([]float32, error)

func (f sums) AllReduce(x []float32) ([]float32, error) { return f(x) }

func TestChecks(t *testing.T) {
	for name, check := range map[string]func(device.Device) (string, error){"product": product, "attention": attention} {
		if detail, err := check(cpu.New()); err != nil || !strings.Contains(detail, "of the definition") {
			t.Errorf("%s of the processor: %q, %v", name, detail, err)
		}
		if _, err := check(wrong{cpu.New()}); err == nil {
			t.Errorf("a wrong %s passes", name)
		}
	}
	if _, err := allReduce(sums(func(x []float32) ([]float32, error) { return x, nil })); err != nil {
		t.Error(err)
	}
	if _, err := allReduce(sums(func(x []float32) ([]float32, error) { return make([]float32, len(x)), nil })); err == nil {
		t.Error("a sum of nothing passes")
	}
}
