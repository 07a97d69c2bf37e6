package checkpoints

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestExtractSample(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	for range 2 { // the second time everything is there
		if err := ExtractSample(dir); err != nil {
			t.Fatal(err)
		}
	}
	c := mustOpen(t, dir)
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
	if !ok || embed.DType != BF16 || embed.Elements() != config.Vocab*config.Dim {
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
	names, err := readNames(dir)
	if err != nil || len(names) != len(sampleFiles) {
		t.Errorf("the folder holds %v (%v)", names, err)
	}
}

func TestExtractSampleKeepsOthers(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, configFile)
	if err := os.WriteFile(mine, []byte("{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	wantError(t, ExtractSample(dir), "config.json: exists and is not the sample's")
	if data, _ := os.ReadFile(mine); string(data) != "{}" {
		t.Errorf("the file was changed to %q", data)
	}
}

// TestSampleFolderOpens opens the embedded folder as it lies in the repository, where
// reference.safetensors is beside the weights.
func TestSampleFolderOpens(t *testing.T) {
	c := mustOpen(t, SampleName)
	if len(c.Files) != 1 || c.Files[0] != weightsFile {
		t.Errorf("opened %v, want %s alone", c.Files, weightsFile)
	}
}

func TestSampleReference(t *testing.T) {
	c, err := SampleReference()
	if err != nil {
		t.Fatal(err)
	}
	logits, _ := c.Tensor("logits")
	values, err := logits.Float32(nil)
	if err != nil || len(values) != 64*2048 {
		t.Fatalf("%d logits: %v", len(values), err)
	}
	tensor, _ := c.Tensor("input_ids")
	ids, err := tensor.Int64()
	if err != nil || len(ids) != 64 {
		t.Fatalf("%d ids: %v", len(ids), err)
	}
	greedy, _ := c.Tensor("greedy_ids")
	continued, err := greedy.Int64()
	if err != nil || len(continued) != 96 {
		t.Fatalf("%d greedy ids: %v", len(continued), err)
	}
	// The first greedy token must be the likeliest after the prompt: logits and ids are of one model.
	row := values[31*2048:][:2048]
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	if int64(best) != continued[32] {
		t.Errorf("likeliest token %d, greedy continuation %d", best, continued[32])
	}
}

func TestSampleCorpus(t *testing.T) {
	tests := []struct {
		split  string
		size   int
		sha256 string // of the first 500 000 bytes; figures depend on them
	}{
		{"train", 6379880, "075405dd9e7405c7ef92351828eab9eae56aa93ac4a8724590b30aa43d84dfb7"},
		{"val", 549433, "478628eded57178dade73f7c28640df60f675a87875078a4be9da7d5a37c1c34"},
	}
	for _, test := range tests {
		text, err := SampleCorpus(test.split)
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
	_, err := SampleCorpus("test")
	wantError(t, err, `no split "test"; want train or val`)
}
