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

// companions are the files beside the weights that are copied into a result. All others are left behind: some change
// what a folder loads as (an adapter's config), others are weights or a trainer's state.
var companions = []struct {
	why      string
	patterns []string
	folder   bool // only for a model folder: a single weight file may lie beside unrelated files
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

// modulesFile lists the modules of a sentence-transformers model: the transformer, and the folders of the modules after
// it.
const modulesFile = "modules.json"

// maxJSON is the size limit, in bytes, for small files that are read whole.
const maxJSON = 16 << 20

// isCompanion reports whether a file of that name belongs to a model: one in a folder, or a single weight file.
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

// IsCompanion reports whether a file of that name belongs to a model folder.
func IsCompanion(name string) bool { return isCompanion(name, false) }

// SideFiles returns the files that accompany the weights, as paths below their folder: the regular files that belong to
// a model, including those behind links (a hub cache consists of them); the code named in auto_map and its imports; and
// the folders named in modules.json. left are the other files and folders, except weight files and dot files.
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

// TellLeft logs the files of a folder that do not accompany its weights.
func TellLeft(left []string) {
	if len(left) > 0 {
		slog.Info("not copied into the result: these files are not needed to load it", "files", few(left, 20))
	}
}

// filesBelow returns the regular files in a folder and its subfolders, and in deeper folders that are named.
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
		files, _ := regularFiles(filepath.Join(dir, folder), all) // an unreadable folder has no files to copy
		for _, name := range files {
			names = append(names, filepath.Join(folder, name))
		}
	}
	return names, nil
}

// Modules returns the folders in dir that modules.json names: the modules that a sentence-transformers model applies to
// the transformer's output.
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

// codeFiles returns the Python files named in the auto_map of a folder's configs, and the local files that they import,
// resolved as in transformers.
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

// classFiles returns the files of an entry of auto_map: a class or, for a tokenizer, the slow and the fast one.
func classFiles(entry any) (files []string) {
	list, several := entry.([]any)
	if !several {
		list = []any{entry}
	}
	for _, class := range list {
		text, _ := class.(string)
		if module, _, ok := strings.Cut(text, "."); ok && !strings.Contains(module, "--") { // otherwise it is in another repository
			files = append(files, module+".py")
		}
	}
	return files
}

var relativeImport = regexp.MustCompile(`(?m)^\s*(?:from\s+\.(\w*)\s+import\s+([^#\n]*)|import\s+\.(\w+))`)

// imports returns the local files that a Python file imports.
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
