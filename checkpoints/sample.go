package checkpoints

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
)

// SampleName is the name of the embedded sample model: a multi-head Llama of 3.7
// million parameters and 8 heads, pre-trained on the Go standard library's source.
const SampleName = "gopher-4m"

//go:embed gopher-4m corpus/train.txt.gz corpus/val.txt.gz
var embedded embed.FS

// sampleFiles are the checkpoint's own files; the weights come last, so that a folder
// that has them has everything.
var sampleFiles = []string{
	configFile, "generation_config.json", "tokenizer.json", "tokenizer_config.json", weightsFile,
}

// ExtractSample writes the sample checkpoint into the folder dir, made if needed:
// config, weights and tokenizer. Files that are there already are left alone; it is an
// error if one has other contents.
func ExtractSample(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, name := range sampleFiles {
		data, err := SampleFile(name)
		if err != nil {
			return err
		}
		if err := extract(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return nil
}

// RecognizeSample is a [Recognizer] of folders that ExtractSample made.
func RecognizeSample(dir string) (Owned, error) {
	owned := Owned{Files: map[string]int64{}}
	for _, name := range sampleFiles {
		want, err := SampleFile(name)
		if err != nil {
			return owned, err
		}
		if got, err := ReadMark(dir, name); err == nil && bytes.Equal(got, want) {
			owned.Files[name] = int64(len(want))
		}
	}
	return owned, nil
}

func extract(path string, data []byte) error {
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return WriteFileAtomic(path, data, 0o666)
	case err != nil:
		return err
	case !bytes.Equal(old, data):
		return fmt.Errorf("%s: exists and is not the sample's; extract the sample into another folder", path)
	}
	return nil
}

// SampleFile returns a file of the sample: one of the checkpoint's, or of what
// transformers says about it: reference.safetensors, reference.json (losses as is and
// mean-pooled), tokens.json (texts and their token ids).
func SampleFile(name string) ([]byte, error) {
	return embedded.ReadFile(path.Join(SampleName, name))
}

// SampleReference returns transformers' results for the sample, as tensors:
// input_ids [1, 64], logits [1, 64, 2048], and greedy_ids [1, 96], a prompt of 32
// tokens and its greedy continuation. They are in memory; there is nothing to close.
func SampleReference() (*Checkpoint, error) {
	const name = "reference.safetensors"
	data, err := SampleFile(name)
	if err != nil {
		return nil, err
	}
	return Read(name, bytes.NewReader(data), int64(len(data)))
}

// SampleCorpus returns the "train" (6 MB) or "val" (0.5 MB) split of the sample's
// corpus: documents, each followed by <|endoftext|>. The validation text was held out
// when the sample was trained.
func SampleCorpus(split string) ([]byte, error) {
	if split != "train" && split != "val" {
		return nil, fmt.Errorf("the sample corpus has no split %q; want train or val", split)
	}
	f, err := embedded.Open("corpus/" + split + ".txt.gz")
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
