package convert

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/internal/golden"
)

// lying are files beside the weights; those with true belong to a model wherever it lies.
var lying = map[string]bool{
	"tokenizer.json": true, "tokenizer_config.json": true, "tokenizer.model": true, "vocab.json": true, "vocab.txt": true, "merges.txt": true,
	"special_tokens_map.json": true, "generation_config.json": true, "chat_template.jinja": true, "modeling_llama.py": true, "qwen.tiktoken": true,
	"README.md": false, "LICENSE": true, "USE_POLICY.md": true, "added_tokens.json": true, "spiece.model": true, "sentencepiece.bpe.model": true, "source.spm": true,
}

// behind are files that are not copied: weights of any kind, a trainer's files, hidden files, and files that are written
// anew.
var behind = []string{
	"config.json", "conversion.json", ".gitattributes", "other.safetensors", "other.safetensors.index.json", "pytorch_model.bin",
	"pytorch_model.bin.index.json", "model.pt", "consolidated.00.pth", "last.ckpt", "tf_model.h5", "flax_model.msgpack", "model-q4.gguf",
	"model.onnx", "model.onnx_data", "notes.json", "adapter_config.json", "quantize_config.json", "trainer_state.json", "training_args.bin",
	"zero_to_fp32.py", "events.out.tfevents.1", "optimizer.pt", "scheduler.pt", "rng_state.pth", "openvino_model.xml", "model.lock",
	"weights.model", "ggml.model",
}

func TestSideFiles(t *testing.T) {
	dir := model{config: llamaConfig}.write(t)
	var all, companions []string
	for name, companion := range lying {
		writeFile(t, filepath.Join(dir, name), name)
		all = append(all, name)
		if companion {
			companions = append(companions, name)
		}
	}
	for _, name := range behind {
		if name != "config.json" {
			writeFile(t, filepath.Join(dir, name), name)
		}
	}
	for path, want := range map[string][]string{dir: all, filepath.Join(dir, "model.safetensors"): companions} {
		out := convertTo(t, path, Options{Goal: Groups(2)})
		want = slices.Concat(want, []string{"config.json", "conversion.json", "model.safetensors"})
		slices.Sort(want)
		if got := names(t, out.Dir); !slices.Equal(got, want) {
			t.Errorf("%s: files %q, want %q", path, got, want)
		}
		for _, name := range companions {
			if readFile(t, filepath.Join(out.Dir, name)) != name {
				t.Errorf("%s changed", name)
			}
		}
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestModules: what follows the transformer in a sentence-transformers model is copied, and determines llama.cpp's
// pooling.
func TestModules(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden.Named(t, "bert").Dir)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "modules.json"), `[{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Pooling"}, {"path": "../x"}, {"path": "gone"}]`)
	for _, folder := range []string{"1_Pooling", "onnx"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o777); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, folder, "config.json"), `{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}`)
	}
	out := convertTo(t, dir, Options{Goal: Groups(2)})
	if got := readFile(t, filepath.Join(out.Dir, "1_Pooling", "config.json")); !strings.Contains(got, "cls") {
		t.Errorf("1_Pooling/config.json is %q", got)
	}
	if _, err := os.Stat(filepath.Join(out.Dir, "onnx")); err == nil {
		t.Error("onnx is there, which modules.json does not name")
	}
	if got := toGGUF(t, dir, Options{Goal: Groups(2)}).Keys["bert.pooling_type"]; got != uint32(2) {
		t.Errorf("pooling_type is %v, want 2", got)
	}
}

// TestSideFilesThroughLinks follows links, which a hub's cache consists of, and skips broken ones.
func TestSideFilesThroughLinks(t *testing.T) {
	dir := model{config: llamaConfig}.write(t)
	blob := filepath.Join(t.TempDir(), "blob")
	writeFile(t, blob, "tokens")
	for name, to := range map[string]string{"tokenizer.json": blob, "vocab.json": filepath.Join(dir, "nowhere"), "folder": t.TempDir()} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Skipf("links cannot be made here: %v", err)
		}
	}
	out := convertTo(t, dir, Options{Goal: Groups(2)})
	if got, want := names(t, out.Dir), []string{"config.json", "conversion.json", "model.safetensors", "tokenizer.json"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	info, err := os.Lstat(filepath.Join(out.Dir, "tokenizer.json"))
	if err != nil || !info.Mode().IsRegular() || readFile(t, filepath.Join(out.Dir, "tokenizer.json")) != "tokens" {
		t.Errorf("the link's file is not copied: %v, %v", info, err)
	}
}
