package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// folder makes a folder with these files: name to contents.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shard returns a safetensors file with one-byte tensors of the given names.
func shard(names ...string) string {
	header := "{"
	for i, name := range names {
		if i > 0 {
			header += ","
		}
		header += fmt.Sprintf(`%q:{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}`, name, i, i+1)
	}
	return string(raw(header+"}", len(names)))
}

const twoShards = `{"metadata":{"total_size":3},"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}}`

func TestOpen(t *testing.T) {
	sharded := map[string]string{indexFile: twoShards, "1.safetensors": shard("c", "a"), "2.safetensors": shard("b"), "3.safetensors": shard("z")}
	renamed := map[string]string{"x.safetensors.index.json": twoShards, "1.safetensors": shard("c", "a"), "2.safetensors": shard("b"), configFile: "{}"}
	tests := []struct {
		name  string
		files map[string]string
		path  string // below the folder
		names []string
		index string
	}{
		{"folder", map[string]string{weightsFile: shard("a"), "reference.safetensors": shard("z"), configFile: "{}"}, "", []string{"a"}, ""},
		{"folder with both", map[string]string{weightsFile: shard("m"), indexFile: twoShards}, "", []string{"m"}, ""},
		{"folder, other name", map[string]string{"weights.safetensors": shard("a"), "pytorch_model.bin": "PK"}, "", []string{"a"}, ""},
		{"file", map[string]string{"x.safetensors": shard("a"), "y.safetensors": shard("z")}, "x.safetensors", []string{"a"}, ""},
		{"file, no extension", map[string]string{"blob": shard("a")}, "blob", []string{"a"}, ""},
		{"shards", sharded, "", []string{"c", "a", "b"}, indexFile},
		{"index file", sharded, indexFile, []string{"c", "a", "b"}, indexFile},
		{"index, other name", renamed, "", []string{"c", "a", "b"}, "x.safetensors.index.json"},
		{"index.json", map[string]string{"index.json": twoShards, "1.safetensors": shard("a", "c"), "2.safetensors": shard("b")}, "index.json", []string{"a", "c", "b"}, "index.json"},
		{"no tensors", map[string]string{weightsFile: string(raw("{}", 0))}, "", nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := folder(t, test.files)
			c := mustOpen(t, filepath.Join(dir, test.path))
			if got := c.Names(); !slices.Equal(got, test.names) {
				t.Errorf("names %v, want %v", got, test.names)
			}
			if c.Dir != dir || c.Index != test.index {
				t.Errorf("folder %q, index %q; want %q, %q", c.Dir, c.Index, dir, test.index)
			}
			if want := test.files[configFile]; string(c.Config) != want {
				t.Errorf("config %q, want %q", c.Config, want)
			}
			for _, name := range test.names {
				tensor, ok := c.Tensor(name)
				if !ok {
					t.Fatalf("no tensor %q", name)
				}
				if _, err := tensor.Int64(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		path  string
		want  string
	}{
		{"no weights", map[string]string{configFile: "{}"}, "", "holds no weights; want a folder with model.safetensors"},
		{"PyTorch folder", map[string]string{"pytorch_model.bin": "PK\x03\x04"}, "", "pytorch_model.bin: cannot read this PyTorch checkpoint: its zip directory cannot be read"},
		{"several PyTorch files", map[string]string{"a.pth": "", "b.bin": "", "training_args.bin": "", "rng_state_0.pth": ""}, "", "holds 2 PyTorch files (a.pth, ...) and no index; name the one to open, or add pytorch_model.bin.index.json"},
		{"several files", map[string]string{"a.safetensors": "", "b.safetensors": ""}, "", "holds 2 .safetensors files (a.safetensors, ...) and no index"},
		{"several indexes", map[string]string{"a.safetensors.index.json": "", "b.safetensors.index.json": ""}, "", "holds several indexes"},
		{"config for weights", map[string]string{configFile: "{\n}"}, configFile, "is a JSON file; want a safetensors or PyTorch file"},
		{"index is not JSON", map[string]string{indexFile: "weights"}, "", "is not JSON"},
		{"index is empty", map[string]string{indexFile: ""}, "", "is not JSON: unexpected end"},
		{"no weight_map", map[string]string{indexFile: `{"metadata":{}}`}, "", "has no weight_map"},
		{"weight_map twice", map[string]string{indexFile: `{"weight_map":{},"weight_map":{}}`}, "", `has the key "weight_map" twice`},
		{"weight_map is a list", map[string]string{indexFile: `{"weight_map":[]}`}, "", "has a weight_map that has [, want {"},
		{"tensor twice in index", map[string]string{indexFile: `{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}`}, "", `has the key "a" twice`},
		{"number for a shard", map[string]string{indexFile: `{"weight_map":{"a":1}}`}, "", "has 1, want a string"},
		{"path upwards", map[string]string{indexFile: `{"weight_map":{"a":"../1.safetensors"}}`}, "", `maps tensor "a" to "../1.safetensors"; want the name of a .safetensors or .bin file in the same folder`},
		{"absolute path", map[string]string{indexFile: `{"weight_map":{"a":"/1.safetensors"}}`}, "", "in the same folder"},
		{"Windows path", map[string]string{indexFile: `{"weight_map":{"a":"..\\1.safetensors"}}`}, "", "in the same folder"},
		{"folder for a shard", map[string]string{indexFile: `{"weight_map":{"a":".."}}`}, "", "in the same folder"},
		{"PyTorch index", map[string]string{"pytorch_model.bin.index.json": `{"weight_map":{"a":"pytorch_model-1.bin"}}`}, "", "names the shard pytorch_model-1.bin, which is missing"},
		{"shard is missing", map[string]string{indexFile: twoShards, "1.safetensors": shard("a", "c")}, "", "names the shard 2.safetensors, which is missing"},
		{"empty", map[string]string{"pytorch_model.bin": ""}, "", "pytorch_model.bin: was not written by torch.save, or is damaged"},
		{"neither", map[string]string{"a.pth": strings.Repeat("\xfe", 32)}, "", "a.pth: was not written by torch.save"},
		{"damaged shard", map[string]string{indexFile: twoShards, "1.safetensors": shard("a", "c")[:9], "2.safetensors": shard("b")}, "", "1.safetensors: the header length is"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := folder(t, test.files)
			_, err := Open(filepath.Join(dir, test.path))
			wantError(t, err, dir, test.want)
		})
	}
}

func TestOpenMissing(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "nowhere"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one that is fs.ErrNotExist", err)
	}
}

// The hub cache has a folder per model, which holds snapshots whose files are links.
func TestOpenHub(t *testing.T) {
	dir := t.TempDir()
	snapshot := filepath.Join(dir, "snapshots", "abc")
	if err := os.MkdirAll(snapshot, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	wantError(t, err, "name the snapshot in it: "+snapshot)
	blob := filepath.Join(dir, "blob")
	if err := os.Symlink(blob, filepath.Join(snapshot, weightsFile)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(snapshot)
	wantError(t, err, weightsFile, "is a link to "+blob+", which is missing; download it again")
	if err := os.WriteFile(blob, []byte(shard("a")), 0o666); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, snapshot)
}

func TestOpenFolderAsWeights(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, weightsFile), 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	wantError(t, err, weightsFile+": is a folder; want a regular file")
}

func TestMetadataOfShards(t *testing.T) {
	dir := folder(t, map[string]string{
		weightsFile:     string(raw("{}", 0)),
		"1.safetensors": string(raw(`{"__metadata__":{"format":"pt"}}`, 0)),
	})
	if got := mustOpen(t, dir).Metadata; got == nil || len(got) != 0 {
		t.Errorf("metadata of a file without is %v, want an empty map", got)
	}
	if got := mustOpen(t, filepath.Join(dir, "1.safetensors")).Metadata["format"]; got != "pt" {
		t.Errorf("format is %q, want pt", got)
	}
}
