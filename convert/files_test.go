package convert

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// lying are files beside the weights; those with true belong to a model wherever it lies.
var lying = map[string]bool{
	"tokenizer.json": true, "tokenizer_config.json": true, "tokenizer.model": true, "vocab.json": true, "vocab.txt": true, "merges.txt": true,
	"special_tokens_map.json": true, "generation_config.json": true, "chat_template.jinja": true, "modeling_llama.py": true, "qwen.tiktoken": true,
	"README.md": false, "LICENSE": true, "notes.json": false,
}

// replaced are weights of any kind, what is hidden, and what is written anew.
var replaced = []string{
	"config.json", "conversion.json", ".gitattributes", "other.safetensors", "other.safetensors.index.json", "pytorch_model.bin",
	"pytorch_model.bin.index.json", "model.pt", "consolidated.00.pth", "last.ckpt", "tf_model.h5", "flax_model.msgpack", "model-q4.gguf",
	"model.onnx", "model.onnx_data", "original/params.json",
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
	for _, name := range replaced {
		if name != "config.json" {
			writeFile(t, filepath.Join(dir, name), name)
		}
	}
	for path, want := range map[string][]string{dir: all, filepath.Join(dir, "model.safetensors"): companions} {
		out := convertTo(t, path, Options{Groups: 2})
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

// TestSideFilesThroughLinks copies what links lead to, as a hub's cache is made of them, and passes over those that lead nowhere.
func TestSideFilesThroughLinks(t *testing.T) {
	dir := model{config: llamaConfig}.write(t)
	blob := filepath.Join(t.TempDir(), "blob")
	writeFile(t, blob, "tokens")
	for name, to := range map[string]string{"tokenizer.json": blob, "vocab.json": filepath.Join(dir, "nowhere"), "folder": t.TempDir()} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Skipf("links cannot be made here: %v", err)
		}
	}
	out := convertTo(t, dir, Options{Groups: 2})
	if got, want := names(t, out.Dir), []string{"config.json", "conversion.json", "model.safetensors", "tokenizer.json"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	info, err := os.Lstat(filepath.Join(out.Dir, "tokenizer.json"))
	if err != nil || !info.Mode().IsRegular() || readFile(t, filepath.Join(out.Dir, "tokenizer.json")) != "tokens" {
		t.Errorf("the link's file is not copied: %v, %v", info, err)
	}
}
