package weights

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
)

const (
	llama = `{"model_type": "llama", "vocab_size": 6, "hidden_size": 8, "intermediate_size": 5, "num_hidden_layers": 2, "num_attention_heads": 4}`
	neox  = `{"model_type": "gpt_neox", "vocab_size": 6, "hidden_size": 8, "intermediate_size": 5, "num_hidden_layers": 2, "num_attention_heads": 4}`
	gpt2  = `{"model_type": "gpt2", "vocab_size": 6, "n_embd": 8, "n_layer": 2, "n_head": 4, "n_positions": 3}`
)

func with(config, key, value string) string {
	return strings.Replace(config, "{", `{"`+key+`": `+value+`, `, 1)
}

// numbered returns weights for a with distinct numbers.
func numbered(t *testing.T, a *configs.Arch) map[string][]float32 {
	t.Helper()
	params, err := a.Params()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]float32{}
	next := float32(0)
	for _, p := range params {
		values := make([]float32, p.Size())
		for i := range values {
			values[i] = next
			next++
		}
		all[p.Name] = values
	}
	return all
}

func resolve(t *testing.T, config string) *configs.Arch {
	t.Helper()
	a, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// write writes a checkpoint folder.
func write(t *testing.T, config string, dtype checkpoints.DType) (dir string, all map[string][]float32) {
	t.Helper()
	a := resolve(t, config)
	dir, all = filepath.Join(t.TempDir(), "model"), numbered(t, a)
	if err := Write(dir, a, dtype, ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir, all
}

func open(t *testing.T, path string, o Options) *Source {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestWriteRead writes and reads every layout.
func TestWriteRead(t *testing.T) {
	for _, config := range []string{
		llama, neox, gpt2, with(llama, "num_key_value_heads", "2"), with(neox, "num_key_value_heads", "2"), with(gpt2, "num_key_value_heads", "1"),
	} {
		dir, want := write(t, config, checkpoints.F32)
		s := open(t, dir, Options{})
		all, err := s.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != len(want) {
			t.Errorf("%d weights, want %d", len(all), len(want))
		}
		params, err := s.Arch.Params()
		if err != nil {
			t.Fatal(err)
		}
		elements := int64(0)
		for _, p := range params {
			one, err := s.Read(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(all[p.Name], want[p.Name]) || !slices.Equal(one, want[p.Name]) {
				t.Errorf("%s: %s changed", s.Arch.Family.Name, p.Name)
			}
			elements += int64(len(one))
		}
		if n, err := Parameters(s.Arch); n != elements || err != nil {
			t.Errorf("%d parameters (%v), want %d", n, err, elements)
		}
	}
}

// TestReadKeepsWeightsApart: a weight is not changed through another of the same fused tensor.
func TestReadKeepsWeightsApart(t *testing.T) {
	dir, want := write(t, neox, checkpoints.F32)
	all, err := open(t, dir, Options{}).All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	clear(all["layers.0.q.weight"])
	if !slices.Equal(all["layers.0.k.weight"], want["layers.0.k.weight"]) {
		t.Error("k changed with q")
	}
}

func TestWriteNamesWhatIsMissing(t *testing.T) {
	a := resolve(t, llama)
	for name, spoil := range map[string]func(map[string][]float32){
		"has 0 values":  func(all map[string][]float32) { delete(all, "layers.1.k.weight") },
		"has 63 values": func(all map[string][]float32) { all["layers.1.k.weight"] = all["layers.1.k.weight"][1:] },
	} {
		all := numbered(t, a)
		spoil(all)
		dir := filepath.Join(t.TempDir(), "out")
		err := Write(dir, a, checkpoints.F32, ByName(all), checkpoints.WriteOptions{})
		wantError(t, err, "tensor model.layers.1.self_attn.k_proj.weight: weight layers.1.k.weight "+name+", want [8 8]")
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("%v is left", entries)
		}
	}
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line with %q", err, part)
	}
}

func TestOpenSaysWhatKindOfInput(t *testing.T) {
	dir, _ := write(t, llama, checkpoints.F32)
	file := filepath.Join(dir, "model.safetensors")
	if s := open(t, dir, Options{}); s.Single || s.Inferred || string(s.Config) != llama {
		t.Errorf("a folder: single %v, inferred %v", s.Single, s.Inferred)
	}
	if s := open(t, file, Options{}); !s.Single || s.Inferred || s.Dir != dir {
		t.Errorf("a file: single %v, inferred %v", s.Single, s.Inferred)
	}
	if s := open(t, file, Options{Family: "llama", Heads: 4}); s.Inferred {
		t.Error("config.json counts where there is one")
	}
	if err := os.Remove(filepath.Join(dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	s := open(t, file, Options{Family: "llama", Heads: 4})
	if !s.Inferred || s.Arch.KVHeads != 4 || s.Arch.FFN != 5 || !bytes.Contains(s.Config, []byte(`"num_attention_heads": 4`)) {
		t.Errorf("inferred %v: %s", s.Inferred, s.Config)
	}
}

func TestOpenFolderNamedLikeAFile(t *testing.T) {
	dir, _ := write(t, llama, checkpoints.F32)
	renamed := filepath.Join(t.TempDir(), "model.safetensors")
	if err := os.Rename(dir, renamed); err != nil {
		t.Fatal(err)
	}
	if open(t, renamed, Options{}).Single {
		t.Error("a folder is no single file")
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	good, _ := write(t, llama, checkpoints.F32)
	bare, _ := write(t, llama, checkpoints.F32)
	if err := os.Remove(filepath.Join(bare, "config.json")); err != nil {
		t.Fatal(err)
	}
	other, _ := write(t, llama, checkpoints.F32)
	if err := os.WriteFile(filepath.Join(other, "config.json"), []byte(with(llama, "head_dim", "4")), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		o    Options
		want string
	}{
		{filepath.Join(good, "nowhere"), Options{}, "nowhere: there is no such file or folder"},
		{filepath.Join(good, "config.json", "x"), Options{}, "not a directory"},
		{t.TempDir(), Options{}, "holds no weights"},
		{bare, Options{}, bare + ": there is no config.json beside the weights"},
		{bare, Options{Family: "llama"}, "there is no config.json beside the weights"},
		{bare, Options{Family: "llama", Heads: 3}, "heads is 3, which does not divide the 8 query dims"},
		{bare, Options{Family: "opt-7b", Heads: 4}, `family is "opt-7b", which is none of the `},
		{good, Options{Heads: 8}, good + ": heads is 8, but config.json says 4"},
		{good, Options{Family: "gpt2"}, good + ": no tensor has a name that family gpt2 knows"},
		{other, Options{}, other + ": the tensors do not fit family llama with this config.json; wrong shape: model.layers.0.self_attn.q_proj.weight is [8 8], want [16 8]"},
	} {
		s, err := Open(c.path, c.o)
		if s != nil {
			s.Close()
		}
		wantError(t, err, c.want)
	}
}

// TestQuantised: the error names the tensor that cannot be read.
func TestQuantised(t *testing.T) {
	a := resolve(t, llama)
	tensors, err := a.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	var specs []checkpoints.Spec
	for _, x := range tensors {
		specs = append(specs, checkpoints.Spec{Name: x.Name, DType: checkpoints.I8, Shape: x.Shape})
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := checkpoints.Write(dir, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, w io.Writer) error {
		_, err := w.Write(make([]byte, s.Bytes()))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(llama), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, dir, Options{}).All(t.Context())
	wantError(t, err, `tensor "model.embed_tokens.weight" is I8; want a float tensor`)
}

func TestReadOfNoTensor(t *testing.T) {
	dir, _ := write(t, llama, checkpoints.F32)
	_, err := open(t, dir, Options{}).Read(t.Context(), configs.Param{Name: "x", Tensor: "model.x.weight"})
	wantError(t, err, "tensor model.x.weight is not in the checkpoint")
}

// TestWriteFloats writes more than one piece, in every dtype, as one encoding would.
func TestWriteFloats(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 16, 1<<16 + 1, 150001} {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(i) / 3
		}
		for _, dtype := range []checkpoints.DType{checkpoints.F64, checkpoints.F32, checkpoints.F16, checkpoints.BF16} {
			want := make([]byte, n*dtype.Size())
			if err := checkpoints.EncodeFloats(want, values, dtype); err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := WriteFloats(&got, values, dtype); err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%d values as %s: %v, %d bytes", n, dtype, err, got.Len())
			}
		}
	}
	wantError(t, WriteFloats(io.Discard, make([]float32, 3), checkpoints.I8), "I8")
	reader, writer := io.Pipe()
	reader.Close()
	wantError(t, WriteFloats(writer, make([]float32, 3), checkpoints.F32), "closed pipe")
}

// TestTiedHead: a head beside the embedding that it is tied to must be the same matrix.
func TestTiedHead(t *testing.T) {
	specs := []checkpoints.Spec{}
	config := with(llama, "tie_word_embeddings", "false")
	dir, _ := write(t, config, checkpoints.F32)
	src := open(t, dir, Options{})
	for _, name := range src.Names() {
		x, _ := src.Tensor(name)
		specs = append(specs, x.Spec())
	}
	for _, same := range []bool{true, false} {
		tied := t.TempDir()
		err := checkpoints.Write(tied, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, w io.Writer) error {
			if same && s.Name == "lm_head.weight" {
				s.Name = "model.embed_tokens.weight"
			}
			x, _ := src.Tensor(s.Name)
			_, err := x.WriteTo(w)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tied, "config.json"), []byte(with(llama, "tie_word_embeddings", "true")), 0o666); err != nil {
			t.Fatal(err)
		}
		got, err := Open(tied, Options{})
		if same && err != nil {
			t.Fatal(err)
		}
		if !same {
			wantError(t, err, "lm_head.weight differs from model.embed_tokens.weight; to use the head, set tie_word_embeddings to false")
			continue
		}
		got.Close()
	}
}

// TestOneShard: the error for a single shard says what to give instead.
func TestOneShard(t *testing.T) {
	dir, all := write(t, llama, checkpoints.F32)
	src := open(t, dir, Options{})
	sharded := t.TempDir()
	if err := Write(sharded, src.Arch, checkpoints.F32, ByName(all), checkpoints.WriteOptions{ShardSize: 1000}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sharded, "config.json"), []byte(llama), 0o666); err != nil {
		t.Fatal(err)
	}
	shards, err := filepath.Glob(filepath.Join(sharded, "model-*.safetensors"))
	if err != nil || len(shards) < 2 {
		t.Fatal(shards, err)
	}
	_, err = Open(shards[0], Options{})
	wantError(t, err, "is one shard of several; give the folder or the .index.json file")
}

// TestNotes: the note of a family's variant is reported once, and those of others are not.
func TestNotes(t *testing.T) {
	const falcon = `{"model_type": "falcon", "alibi": true, "vocab_size": 6, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4}`
	before := slog.Default()
	defer slog.SetDefault(before)
	for config, want := range map[string]int{falcon: 0, with(falcon, "transformers_version", `"5.17.0"`): 1} {
		dir, _ := write(t, config, checkpoints.F32)
		src, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		var log bytes.Buffer
		slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
		if src.TellNotes(); strings.Count(log.String(), "ALiBi") != want || strings.Count(log.String(), "\n") != want {
			t.Errorf("%s: told %q, want %d notes", config, log.String(), want)
		}
	}
}
