//go:build llamacpp

// These tests run llama.cpp beside this toolkit on the same files. LLAMA_CPP names a llama.cpp checkout that is built into
// build/ (from February 2025 on; later releases load more):
//
//	LLAMA_CPP=/path/to/llama.cpp go test -tags llamacpp ./convert/llamacpp -v
package llamacpp_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gqa/configs"
	"gqa/convert"
	"gqa/internal/gguftest"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// root is llama.cpp's folder.
func root(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("LLAMA_CPP")
	if dir == "" {
		t.Fatal("LLAMA_CPP must name a built llama.cpp checkout")
	}
	return dir
}

// build compiles testdata/peer.c against llama.cpp's library.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		return "", err
	}
	llama, out := os.Getenv("LLAMA_CPP"), filepath.Join(dir, "peer")
	lib := filepath.Join(llama, "build", "bin")
	said, err := exec.Command("cc", "-O1", "testdata/peer.c", "-I", filepath.Join(llama, "include"), "-I", filepath.Join(llama, "ggml", "include"),
		"-L", lib, "-Wl,-rpath,"+lib, "-lllama", "-lggml", "-lggml-base", "-o", out).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, said)
	}
	return out, nil
})

// peer runs llama.cpp on a file; input is its standard input.
func peer(t *testing.T, input, model, mode string, ids ...int32) []byte {
	t.Helper()
	out, said := try(t, input, model, mode, ids...)
	if said != "" {
		t.Fatalf("llama.cpp on %s: %s", model, said)
	}
	return out
}

// try is peer where llama.cpp may refuse; said is why.
func try(t *testing.T, input, model, mode string, ids ...int32) (out []byte, said string) {
	t.Helper()
	root(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{model, mode}
	for _, id := range ids {
		args = append(args, strconv.Itoa(int(id)))
	}
	cmd := exec.Command(bin, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &stderr
	if out, err = cmd.Output(); err != nil {
		return nil, fmt.Sprintf("%v: %s", err, &stderr)
	}
	return out, ""
}

func floats(raw []byte) []float32 {
	values := make([]float32, len(raw)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return values
}

// toGGUF converts a checkpoint and returns the file, and what is said of it: notes, or why llama.cpp cannot hold it.
func toGGUF(t *testing.T, dir string, o convert.Options) (file string, notes []string) {
	t.Helper()
	src, err := weights.Open(dir, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	o.Method, o.Target = convert.Mean, convert.GGUF
	plan, err := convert.NewPlan(src, o)
	if err != nil {
		return "", []string{err.Error()}
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := plan.Run(t.Context(), out, false, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(out, "model.gguf"), plan.Notes()
}

// tolerance is what llama.cpp's arithmetic leaves: it has gelu in its tanh form only, and reads it off a table in half precision.
func tolerance(activation configs.Activation) float64 {
	if activation == configs.GELU || activation == configs.GELUTanh {
		return 1e-2
	}
	return 2e-4
}

// TestLogits: llama.cpp's logits are those of transformers, for every family that it holds and every number of groups. A
// release from before it held a family says so, and so do the notes.
func TestLogits(t *testing.T) {
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			checkLogits(t, c, arch(t, c.Dir).KVHeads, "logits_mha")
			for _, g := range c.Groups() {
				checkLogits(t, c, g, fmt.Sprintf("logits_g%d", g))
			}
		})
	}
}

func checkLogits(t *testing.T, c *golden.Case, groups int, want string) {
	t.Helper()
	file, notes := toGGUF(t, c.Dir, convert.Options{Groups: groups})
	if file == "" {
		t.Log(notes)
		return
	}
	f, err := gguftest.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	seq, all := len(c.IDs[0]), c.Floats(t, want)
	vocab := len(all) / len(c.IDs) / seq
	read := min(seq, int(f.Keys[f.Keys["general.architecture"].(string)+".context_length"].(uint32)))
	for i, ids := range c.IDs {
		raw, said := try(t, "", file, "logits", ids[:read]...)
		if said != "" && strings.Contains(strings.Join(notes, " "), "loads in llama.cpp from") {
			t.Log(said)
			return
		} else if said != "" {
			t.Fatal(said)
		}
		compare(t, want, floats(raw), all[i*seq*vocab:][:read*vocab], tolerance(arch(t, c.Dir).Activation))
	}
}

func arch(t *testing.T, dir string) *configs.Arch {
	t.Helper()
	src, err := weights.Open(dir, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	return src.Arch
}

func compare(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	t.Logf("%s: largest difference %.2g", what, worst)
	if !(worst <= tolerance) {
		t.Errorf("%s differs by %g, want %g at most", what, worst, tolerance)
	}
}
