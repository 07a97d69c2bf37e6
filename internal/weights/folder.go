package weights

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gqa/checkpoints"
)

// companions are the files, by pattern, that go with a model wherever its weights go.
var companions = []string{
	"tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "*.tiktoken",
	"sentencepiece.bpe.model", "generation_config.json", "preprocessor_config.json", "chat_template*", "configuration_*.py",
	"modeling_*.py", "tokenization_*.py", "LICENSE*", "NOTICE*", modulesFile, "*sentence*.json",
}

// modulesFile lists what a sentence-transformers model is made of: the transformer, and folders of what follows it.
const modulesFile = "modules.json"

// IsCompanion says whether a file of that name goes with a model wherever its weights go.
func IsCompanion(name string) bool {
	return slices.ContainsFunc(companions, func(pattern string) bool {
		ok, _ := filepath.Match(pattern, name)
		return ok
	})
}

// SideFiles lists the regular files of a folder, also behind links (a hub cache is made of them), whose names keep says; with
// modules.json those in the folders that it names, too.
func SideFiles(dir string, keep func(name string) bool) ([]string, error) {
	names, err := regularFiles(dir, keep)
	if !slices.Contains(names, modulesFile) {
		return names, err
	}
	for _, folder := range Modules(dir) {
		files, _ := regularFiles(filepath.Join(dir, folder), func(string) bool { return true })
		for _, name := range files {
			names = append(names, filepath.Join(folder, name))
		}
	}
	return names, err
}

// Modules are the folders in dir that modules.json names: what a sentence-transformers model does with the transformer's output.
func Modules(dir string) (folders []string) {
	data, err := os.ReadFile(filepath.Join(dir, modulesFile))
	var modules []struct{ Path string }
	if err != nil || json.Unmarshal(data, &modules) != nil {
		return nil
	}
	for _, m := range modules {
		if m.Path != "" && filepath.IsLocal(m.Path) {
			folders = append(folders, m.Path)
		}
	}
	return folders
}

func regularFiles(dir string, keep func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err == nil && info.Mode().IsRegular() && keep(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// RewriteConfig changes keys of a config.json. Numbers keep their spelling; keys are sorted and indented by two spaces, as
// transformers writes them.
func RewriteConfig(config []byte, change func(keys map[string]any)) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber()
	var keys map[string]any
	if err := dec.Decode(&keys); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	change(keys)
	return MarshalJSON(keys)
}

// MarshalJSON writes JSON as transformers does: indented by two spaces, nothing escaped for HTML.
func MarshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// SetDType writes transformers' name of dtype into a config.json's keys: under dtype (from 5.0) if that is there, else
// torch_dtype.
func SetDType(keys map[string]any, dtype checkpoints.DType) {
	names := map[checkpoints.DType]string{
		checkpoints.F64: "float64", checkpoints.F32: "float32", checkpoints.F16: "float16", checkpoints.BF16: "bfloat16",
	}
	key := "torch_dtype"
	if _, ok := keys["dtype"]; ok {
		key = "dtype"
	}
	keys[key] = names[dtype]
}
