// Package sample is the embedded sample: a small pre-trained model with its tokenizer, and the text that it was trained on.
package sample

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"gqa/checkpoints"
)

// Name is the name of the embedded sample model: a multi-head Llama of 3.7
// million parameters and 8 heads, pre-trained on the Go standard library's source.
const Name = "gopher-4m"

const weights = "model.safetensors"

//go:embed gopher-4m corpus/train.txt.gz corpus/val.txt.gz
var embedded embed.FS

// files are the checkpoint's own files; the weights come last, so that a folder
// that has them has everything.
var files = []string{
	"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", weights,
}

// Extract writes the sample checkpoint into the folder dir, made if needed:
// config, weights and tokenizer. Files that are there already are left alone; it is an
// error if one has other contents.
func Extract(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, name := range files {
		data, err := File(name)
		if err != nil {
			return err
		}
		if err := extract(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return nil
}

// Recognize is a [checkpoints.Recognizer] of folders that Extract made.
func Recognize(dir string) (checkpoints.Owned, error) {
	owned := checkpoints.Owned{Files: map[string]int64{}}
	for _, name := range files {
		want, err := File(name)
		if err != nil {
			return owned, err
		}
		if got, err := checkpoints.ReadMark(dir, name); err == nil && bytes.Equal(got, want) {
			owned.Files[name] = int64(len(want))
		}
	}
	return owned, nil
}

func extract(path string, data []byte) error {
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return checkpoints.WriteFileAtomic(path, data, 0o666)
	case err != nil:
		return err
	case !bytes.Equal(old, data):
		return fmt.Errorf("%s: exists and is not the sample's; extract the sample into another folder", path)
	}
	return nil
}

// File returns a file of the sample: one of the checkpoint's, or of what
// transformers says about it: reference.safetensors, reference.json (losses as is and
// mean-pooled), tokens.json (texts and their token ids).
func File(name string) ([]byte, error) {
	return embedded.ReadFile(path.Join(Name, name))
}

// Corpus returns the "train" (6 MB) or "val" (0.5 MB) split of the sample's
// corpus: documents, each followed by <|endoftext|>. The validation text was held out
// when the sample was trained.
func Corpus(split string) ([]byte, error) {
	if split != "train" && split != "val" {
		return nil, fmt.Errorf("the sample corpus has no split %q; want train or val", split)
	}
	return decompress("corpus/" + split + ".txt.gz")
}

func decompress(name string) ([]byte, error) {
	f, err := embedded.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
