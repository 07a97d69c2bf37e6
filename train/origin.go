package train

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// origin is what a run takes from the checkpoint that it starts from: the architecture and all that is in the folder beside
// the weights. It is in memory: the folder may be gone when the run ends.
type origin struct {
	dir    string
	arch   *configs.Arch
	config []byte
	dtype  checkpoints.DType // of the embedding
	side   map[string][]byte // tokenizer and other small files by name
}

// companions are the files, by pattern, that go with a model wherever its weights go.
var companions = []string{
	"tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.tiktoken", "spiece.model",
	"sentencepiece.bpe.model", "chat_template*", "generation_config.json", "conversion.json", "*.py", "LICENSE*", "NOTICE*",
}

// openOrigin opens a checkpoint and reads its weights in f32, by the forward pass's names.
func openOrigin(path string) (*origin, map[string][]float32, error) {
	src, err := weights.Open(path, weights.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	all, err := src.All()
	if err != nil {
		return nil, nil, err
	}
	o := &origin{dir: src.Dir, arch: src.Arch, config: src.Config}
	if o.dtype, err = embeddingDType(src); err != nil {
		return nil, nil, err
	}
	o.side, err = readCompanions(src.Dir)
	return o, all, err
}

// embeddingDType stands for that of the checkpoint, whose norms or buffers may be in another.
func embeddingDType(src *weights.Source) (checkpoints.DType, error) {
	params, err := src.Arch.Params()
	if err != nil {
		return 0, err
	}
	t, _ := src.Tensor(params[0].Tensor) // the first that a forward pass meets; it was read already
	return t.DType, nil
}

func readCompanions(dir string) (map[string][]byte, error) {
	side := map[string][]byte{}
	for _, pattern := range companions {
		names, err := filepath.Glob(filepath.Join(escapeGlob(dir), pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if side[filepath.Base(name)], err = os.ReadFile(name); err != nil {
				return nil, err
			}
		}
	}
	return side, nil
}

// escapeGlob makes a path stand for itself in a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// write makes dir a Hugging Face folder of the weights in dtype.
func (o *origin) write(dir string, dtype checkpoints.DType, all map[string][]float32) error {
	const shardSize = 5e9
	if err := weights.Write(dir, o.arch, dtype, all, checkpoints.WriteOptions{ShardSize: shardSize}); err != nil {
		return err
	}
	config, err := withDType(o.config, dtype)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
		return err
	}
	for name, text := range o.side {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// withDType is a config.json that names the dtype of its weights truly, if it names one: as dtype (transformers from 5.0)
// or torch_dtype.
func withDType(config []byte, dtype checkpoints.DType) ([]byte, error) {
	name := map[checkpoints.DType]string{
		checkpoints.F64: "float64", checkpoints.F32: "float32", checkpoints.F16: "float16", checkpoints.BF16: "bfloat16",
	}[dtype]
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber() // keeps the spelling of numbers
	var keys map[string]any
	if err := dec.Decode(&keys); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	changed := false
	for _, key := range []string{"dtype", "torch_dtype"} {
		if old, ok := keys[key]; ok && old != name {
			keys[key], changed = name, true
		}
	}
	if !changed {
		return config, nil
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(keys)
	return out.Bytes(), err
}

// exportDType is the dtype of the result: what the recipe says, or that of the origin.
func exportDType(recipe *configs.Recipe, source checkpoints.DType) (checkpoints.DType, error) {
	if recipe.ExportDType == "keep" {
		return source, nil
	}
	return checkpoints.ParseDType(strings.ToUpper(recipe.ExportDType))
}
