package convert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"gqa/checkpoints"
	"gqa/internal/file"
	"gqa/internal/weights"
)

// summaryFile is the name of the file that describes a conversion, and by which a conversion is recognized.
const summaryFile = "conversion.json"

// File describes a file of a conversion in conversion.json.
type File struct {
	Bytes  int64  `json:"bytes"`            // its size
	SHA256 string `json:"sha256,omitempty"` // in hexadecimal digits; empty for a file larger than smallFile that an earlier version wrote
}

// smallFile is the largest size, in bytes, of a file that a user may have edited.
const smallFile = 32 << 20

// record is the content of conversion.json.
type record struct {
	*Summary
	Files map[string]File `json:"files"` // all other files of the conversion, by slash-separated path
}

// write writes conversion.json into the folder of an otherwise complete conversion. It reads every file once, for its hash.
func (s *Summary) write(ctx context.Context, dir string, progress func(bytes int64)) error {
	digests, err := checkpoints.Digests(ctx, dir, progress)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	files := make(map[string]File, len(digests))
	for name, d := range digests {
		files[name] = File(d)
	}
	data, err := weights.MarshalJSON(record{s, files})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, summaryFile), data, 0o666)
}

// recordKeys are the keys that every conversion.json has.
var recordKeys = []string{
	"source", "family", "heads", "source_groups", "groups", "method", "seed", "target", "dtype", "layout", "loads_in",
	"tensors_pooled", "tensors_copied", "bytes",
}

// Recognize is a [checkpoints.Recognizer] of conversions.
func Recognize(dir string) (checkpoints.Owned, error) {
	var owned checkpoints.Owned
	text, err := checkpoints.ReadMark(dir, summaryFile)
	if err != nil {
		return owned, fmt.Errorf("it is not a conversion: %w; remove it yourself", err)
	}
	r, err := parseRecord(text)
	if err != nil {
		return owned, fmt.Errorf("its %s is not that of a conversion: %w; remove it yourself", summaryFile, err)
	}
	owned.Files = map[string]int64{summaryFile: checkpoints.AnySize}
	if r.Files == nil {
		owned.Note = "conversion.json is of an earlier version, which did not list the files: what else is the conversion's own cannot be verified and is kept"
		return owned, addKnown(owned, dir)
	}
	for name, f := range r.Files {
		owned.Files[name] = f.Bytes
		if f.edited(filepath.Join(dir, filepath.FromSlash(name))) {
			return owned, fmt.Errorf("its %s was changed after it was written; move it elsewhere", name)
		}
	}
	return owned, nil
}

// edited reports whether the file at path has its original size but different bytes. A large file is not read.
func (f File) edited(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.Bytes || f.Bytes > smallFile || f.SHA256 == "" {
		return false
	}
	now, err := checkpoints.DigestFile(context.Background(), path, nil)
	return err != nil || now.SHA256 != f.SHA256
}

// parseRecord parses a conversion.json, including one of an earlier version. A file of another program is an error.
func parseRecord(text []byte) (record, error) {
	r := record{Summary: &Summary{}}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return r, errors.New("it is not a JSON object")
	}
	for _, key := range recordKeys {
		if _, ok := keys[key]; !ok {
			return r, fmt.Errorf("it has no key %s", key)
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, errors.New("a key has a value of the wrong type")
	}
	if !slices.Contains(append([]string{string(MethodLatent)}, Methods...), string(r.Method)) || !slices.Contains(Targets, string(r.Target)) {
		return r, fmt.Errorf("method %q or target %q is unknown", r.Method, r.Target)
	}
	return r, nil
}

// known matches the names of files that conversions wrote before they listed them, except for names that a user may
// choose.
var known = regexp.MustCompile(`^(config\.json|generation_config\.json|tokenizer\.json|tokenizer\.model|tokenizer_config\.json|` +
	`special_tokens_map\.json|added_tokens\.json|vocab\.json|merges\.txt|spiece\.model|model\.gguf|model\.safetensors|` +
	`model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json)$`)

func addKnown(owned checkpoints.Owned, dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if known.MatchString(e.Name()) {
			owned.Files[e.Name()] = checkpoints.AnySize
		}
	}
	return err
}

// recognize is Recognize for a folder that the conversion replaces. A file cannot stay there if it would count as a
// weight file or config of the result, or if a side file has the same name.
func (p *Plan) recognize(dir string) (checkpoints.Owned, error) {
	owned, err := Recognize(dir)
	owned.Excludes = func(name string) bool {
		return weights.IsWeightFile(name) || slices.Contains(p.Files, filepath.FromSlash(name)) && !p.copies(dir, name)
	}
	return owned, err
}

// copies reports whether the file in dir is the one that the conversion would copy there.
func (p *Plan) copies(dir, name string) bool {
	old, err := checkpoints.ReadMark(dir, name)
	if err != nil {
		return false
	}
	text, err := file.Read(filepath.Join(p.Source.Dir, filepath.FromSlash(name)))
	return err == nil && bytes.Equal(old, text)
}

// checkSpace returns an error if the conversion does not fit on the disk.
func (p *Plan) checkSpace(target string) error {
	need, err := p.diskBytes()
	if err != nil {
		return err
	}
	return checkpoints.CheckSpace(target, need)
}

// diskBytes returns the disk space in bytes that the conversion needs, including temporary files.
func (p *Plan) diskBytes() (int64, error) {
	need := p.Work()
	for _, name := range p.Files {
		info, err := os.Stat(filepath.Join(p.Source.Dir, name))
		if err != nil {
			return 0, err
		}
		need += info.Size()
	}
	return need + max(0, p.mergedBytes()-heldBytes), nil
}

// mergedBytes returns the size of the weights that a merge computes.
func (p *Plan) mergedBytes() (n int64) {
	for _, w := range p.result.Weights {
		if p.merged[w.Name] {
			n += 4 * int64(w.Size())
		}
	}
	return n
}
