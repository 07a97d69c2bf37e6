package sample

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gqa/checkpoints"
)

func TestExtract(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	for range 2 { // the second time everything is there
		if err := Extract(dir); err != nil {
			t.Fatal(err)
		}
	}
	c := open(t, dir)
	var config struct {
		Type  string `json:"model_type"`
		Heads int    `json:"num_attention_heads"`
		Vocab int    `json:"vocab_size"`
		Dim   int    `json:"hidden_size"`
	}
	if err := json.Unmarshal(c.Config, &config); err != nil {
		t.Fatal(err)
	}
	if config.Type != "llama" || config.Heads != 8 {
		t.Errorf("config says %+v", config)
	}
	embed, ok := c.Tensor("model.embed_tokens.weight")
	if !ok || embed.DType != checkpoints.BF16 || embed.Elements() != config.Vocab*config.Dim {
		t.Errorf("embedding is %+v", embed)
	}
	parameters := 0
	for _, name := range c.Names() {
		tensor, _ := c.Tensor(name)
		parameters += tensor.Elements()
	}
	if parameters != 3737856 {
		t.Errorf("%d parameters, want 3737856", parameters)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(files) {
		t.Errorf("the folder holds %v (%v)", entries, err)
	}
}

func TestExtractKeepsOthers(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "config.json")
	if err := os.WriteFile(mine, []byte("{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	wantError(t, Extract(dir), "config.json: exists and differs from the sample's")
	if data, _ := os.ReadFile(mine); string(data) != "{}" {
		t.Errorf("the file was changed to %q", data)
	}
}

// TestSampleFolderOpens opens the embedded folder as it lies in the repository, where
// reference.safetensors is beside the weights.
func TestSampleFolderOpens(t *testing.T) {
	c := open(t, Name)
	if len(c.Files) != 1 || c.Files[0] != weights {
		t.Errorf("opened %v, want %s alone", c.Files, weights)
	}
}

func TestCorpus(t *testing.T) {
	tests := []struct {
		split  string
		size   int
		sha256 string // of the first 500 000 bytes; figures depend on them
	}{
		{"train", 6379880, "075405dd9e7405c7ef92351828eab9eae56aa93ac4a8724590b30aa43d84dfb7"},
		{"val", 549433, "478628eded57178dade73f7c28640df60f675a87875078a4be9da7d5a37c1c34"},
	}
	for _, test := range tests {
		text, err := Corpus(test.split)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) != test.size || !bytes.HasSuffix(text, []byte("<|endoftext|>")) {
			t.Errorf("%s: %d bytes ending in %q", test.split, len(text), text[len(text)-20:])
		}
		sum := sha256.Sum256(text[:500_000])
		if got := hex.EncodeToString(sum[:]); got != test.sha256 {
			t.Errorf("%s: SHA-256 %s, want %s", test.split, got, test.sha256)
		}
	}
	_, err := Corpus("test")
	wantError(t, err, `no split "test"; want train or val`)
}

func open(t *testing.T, path string) *checkpoints.Checkpoint {
	t.Helper()
	c, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want %q", err, part)
	}
}
