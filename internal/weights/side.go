package weights

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gqa/internal/file"
)

// companions are the files that a result has of what lies beside the weights that it is made from. Whatever else is there stays
// behind: some files change what a folder loads as (an adapter's config), others are weights or a trainer's state.
var companions = []struct {
	why      string
	patterns []string
	folder   bool // only of a model's folder: a single weight file may lie among anything
}{
	{"how to sample", []string{"generation_config.json"}, false},
	{"the tokenizer", []string{
		"tokenizer.json", "tokenizer_config.json", "tokenizer.vocab", "tokenizer_*.json", "special_tokens_map.json", "added_tokens.json",
		"vocab.json", "vocab.txt", "vocab.bpe", "merges.txt", "tokenizer.model", "tokenizer.model.*",
		"tokenizer_*.model", "spiece.model", "*sentencepiece*.model", "*spm*.model", "bpe.model", "ice_text.model", "*.spm", "*.tiktoken", "tekken.json",
		"sentencepiece.bpe.vocab", "spiece.vocab", "bpe.codes", "dict.txt",
	}, false},
	{"how a chat becomes text", []string{"chat_template.*", "chat_template*.jinja", "additional_chat_templates/*.jinja"}, false},
	{"how inputs are prepared", []string{"preprocessor_config.json", "processor_config.json", "*_preprocessor_config.json"}, false},
	{"code that auto_map may name", []string{"configuration_*.py", "modeling_*.py", "tokenization_*.py", "processing_*.py", "image_processing_*.py"}, false},
	{"the licence", []string{"LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*", "USAGE_POLICY*", "license.*"}, false},
	{"the model card", []string{"README*", "MODEL_CARD*", "model_card*", "CITATION*"}, true},
	{"sentence-transformers", []string{modulesFile, "*sentence*.json"}, false},
}

// modulesFile lists what a sentence-transformers model is made of: the transformer, and folders of what follows it.
const modulesFile = "modules.json"

// maxJSON bounds the small files that are read whole, in bytes.
const maxJSON = 16 << 20

// isCompanion says whether a file of that name goes with a model: with one that is a folder, or with a single file of weights.
func isCompanion(name string, single bool) bool {
	for _, kind := range companions {
		if kind.folder && single {
			continue
		}
		if slices.ContainsFunc(kind.patterns, func(pattern string) bool { ok, _ := filepath.Match(pattern, name); return ok }) {
			return true
		}
	}
	return false
}

// IsCompanion says whether a file of that name goes with a model that is a folder.
func IsCompanion(name string) bool { return isCompanion(name, false) }

// SideFiles lists what goes with the weights wherever they go, as paths below their folder: the regular files, also behind links
// (a hub cache is made of them), that belong to a model; the code that auto_map names and what it imports; and what
// modules.json names. left are the other files and folders, without those that hold the weights and what is hidden.
func (s *Source) SideFiles() (carried, left []string, err error) {
	code, modules := codeFiles(s.Dir), Modules(s.Dir)
	names, err := filesBelow(s.Dir, modules)
	if err != nil {
		return nil, nil, err
	}
	keep := func(name string) bool {
		return isCompanion(name, s.Single) || slices.Contains(code, name) || slices.Contains(modules, filepath.Dir(name))
	}
	weights := append([]string{s.Index, "config.json", "conversion.json"}, s.Files...)
	for _, name := range names {
		top, _, below := strings.Cut(filepath.ToSlash(name), "/")
		switch {
		case strings.HasPrefix(name, "."):
		case keep(name):
			carried = append(carried, name)
		case s.Single || slices.Contains(weights, name):
		case below && !slices.Contains(left, top+"/"):
			left = append(left, top+"/")
		case !below:
			left = append(left, name)
		}
	}
	return carried, left, nil
}

// TellLeft logs what of a folder does not go with its weights.
func TellLeft(left []string) {
	if len(left) > 0 {
		slog.Info("not carried into the result: they are no part of what it loads as", "files", few(left, 20))
	}
}

// filesBelow lists the regular files of a folder, of the folders in it, and of those further down that are named.
func filesBelow(dir string, named []string) ([]string, error) {
	all := func(string) bool { return true }
	names, err := regularFiles(dir, all)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	folders := slices.Clone(named)
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err == nil && info.IsDir() && !slices.Contains(folders, e.Name()) {
			folders = append(folders, e.Name())
		}
	}
	for _, folder := range folders {
		files, _ := regularFiles(filepath.Join(dir, folder), all) // one that cannot be read has nothing to carry
		for _, name := range files {
			names = append(names, filepath.Join(folder, name))
		}
	}
	return names, nil
}

// Modules are the folders in dir that modules.json names: what a sentence-transformers model does with the transformer's output.
func Modules(dir string) (folders []string) {
	data, err := file.ReadMax(filepath.Join(dir, modulesFile), maxJSON)
	var modules []struct{ Path string }
	if err != nil || json.Unmarshal(data, &modules) != nil {
		return nil
	}
	for _, m := range modules {
		if path := filepath.Clean(m.Path); m.Path != "" && path != "." && filepath.IsLocal(path) {
			folders = append(folders, path)
		}
	}
	return folders
}

// codeFiles lists the Python files that the auto_map of a folder's configs names, and those that they import from beside them, as
// transformers finds them.
func codeFiles(dir string) (files []string) {
	for _, config := range []string{"config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"} {
		var keys struct {
			AutoMap map[string]any `json:"auto_map"`
		}
		data, err := file.ReadMax(filepath.Join(dir, config), maxJSON)
		if err != nil || json.Unmarshal(data, &keys) != nil {
			continue
		}
		for _, v := range keys.AutoMap {
			files = append(files, classFiles(v)...)
		}
	}
	for i := 0; i < len(files); i++ { // grows as imports are found
		for _, name := range imports(filepath.Join(dir, files[i])) {
			if !slices.Contains(files, name) {
				files = append(files, name)
			}
		}
	}
	return files
}

// classFiles lists the files of an entry of auto_map: a class, or of a tokenizer the slow and the fast one.
func classFiles(entry any) (files []string) {
	list, several := entry.([]any)
	if !several {
		list = []any{entry}
	}
	for _, class := range list {
		text, _ := class.(string)
		if module, _, ok := strings.Cut(text, "."); ok && !strings.Contains(module, "--") { // else it is in another repository
			files = append(files, module+".py")
		}
	}
	return files
}

var relativeImport = regexp.MustCompile(`(?m)^\s*(?:from\s+\.(\w*)\s+import\s+([^#\n]*)|import\s+\.(\w+))`)

// imports lists the files beside a Python file that it imports.
func imports(path string) (files []string) {
	text, err := file.ReadMax(path, maxJSON)
	if err != nil {
		return nil
	}
	for _, m := range relativeImport.FindAllStringSubmatch(string(text), -1) {
		modules := []string{m[1] + m[3]}
		if modules[0] == "" { // from . import a, b
			modules = regexp.MustCompile(`\w+`).FindAllString(m[2], -1)
		}
		for _, module := range modules {
			files = append(files, module+".py")
		}
	}
	return files
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
