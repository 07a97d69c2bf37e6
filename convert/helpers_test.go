package convert

import (
	"context"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

const (
	// Eight query and KV heads of two dims.
	llamaConfig = `{"model_type": "llama", "vocab_size": 6, "hidden_size": 16, "intermediate_size": 5, "num_hidden_layers": 2,
		"num_attention_heads": 8, "max_position_embeddings": 32, "attention_bias": true}`
	neoxConfig = `{"model_type": "gpt_neox", "vocab_size": 6, "hidden_size": 16, "intermediate_size": 5, "num_hidden_layers": 2,
		"num_attention_heads": 8, "max_position_embeddings": 32}`
	falconConfig = `{"model_type": "falcon", "vocab_size": 6, "hidden_size": 16, "ffn_hidden_size": 5, "num_hidden_layers": 2,
		"num_attention_heads": 8}`
	gpt2Config = `{"model_type": "gpt2", "vocab_size": 6, "n_embd": 16, "n_inner": 5, "n_layer": 2, "n_head": 8, "n_positions": 4}`
)

// with sets a key of a config.json.
func with(config, key, value string) string {
	return strings.Replace(config, "{", `{"`+key+`": `+value+`, `, 1)
}

// model describes a checkpoint to write: random weights, except as data specifies.
type model struct {
	config string
	dtype  checkpoints.DType  // F32 if none is given
	shard  int64              // most bytes per file
	extra  []checkpoints.Spec // tensors beside those that the architecture needs
	strip  string             // what is left out of names
	data   map[string][]byte  // raw bytes of tensors
}

func (m model) write(t testing.TB) (dir string) {
	t.Helper()
	arch, err := configs.Resolve([]byte(m.config), "")
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := arch.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	if m.dtype == 0 {
		m.dtype = checkpoints.F32
	}
	specs := m.extra
	for _, x := range tensors {
		specs = append(specs, checkpoints.Spec{Name: strings.TrimPrefix(x.Name, m.strip), DType: m.dtype, Shape: x.Shape})
	}
	dir = filepath.Join(t.TempDir(), "model")
	err = checkpoints.Write(dir, specs, checkpoints.WriteOptions{ShardSize: m.shard}, func(s checkpoints.Spec, w io.Writer) error {
		if data, ok := m.data[s.Name]; ok {
			_, err := w.Write(data)
			return err
		}
		return writeNoise(s, w)
	})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "config.json"), m.config)
	return dir
}

// writeNoise writes numbers that depend on the tensor's name only.
func writeNoise(s checkpoints.Spec, w io.Writer) error {
	h := fnv.New64a()
	h.Write([]byte(s.Name))
	r := rand.New(rand.NewPCG(1, h.Sum64()))
	if !s.DType.IsFloat() {
		data := make([]byte, s.Bytes())
		for i := range data {
			data[i] = byte(r.Uint32() & 1)
		}
		_, err := w.Write(data)
		return err
	}
	values := make([]float32, int(s.Bytes())/s.DType.Size())
	for i := range values {
		values[i] = float32(2*r.Float64() - 1)
	}
	return weights.WriteFloats(w, values, s.DType)
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func newPlan(t testing.TB, path string, o Options) *Plan {
	t.Helper()
	if o.Method == "" {
		o.Method = Mean
	}
	p, err := NewPlan(golden.Open(t, path), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// convertTo converts path and opens the result, every tensor accounted for.
func convertTo(t testing.TB, path string, o Options) *weights.Source {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := newPlan(t, path, o).Run(context.Background(), out, RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return golden.Open(t, out)
}

func floats(t testing.TB, src *weights.Source, name string) []float32 {
	t.Helper()
	x, ok := src.Tensor(name)
	if !ok {
		t.Fatalf("there is no tensor %s", name)
	}
	values, err := x.Float32(nil)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func raw(t testing.TB, src *weights.Source, name string) string {
	t.Helper()
	x, ok := src.Tensor(name)
	if !ok {
		t.Fatalf("there is no tensor %s", name)
	}
	data, err := io.ReadAll(x.Open())
	if err != nil {
		t.Fatal(err)
	}
	return x.DType.String() + string(data)
}

// wantEmpty fails the test if the folder holds anything.
func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%s holds %v (%v), want nothing", dir, entries, err)
	}
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line with %q", err, part)
	}
}
