package checkpoints

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// valued returns a safetensors file of one-byte tensors.
func valued(value byte, names ...string) string {
	text := []byte(shard(names...))
	for i := len(text) - len(names); i < len(text); i++ {
		text[i] = value
	}
	return string(text)
}

const (
	one, two     = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	three        = "model-00003-of-00003.safetensors"
	indexOfTwo   = `{"weight_map":{"a":"` + one + `","b":"` + two + `"}}`
	indexOfThree = `{"weight_map":{"a":"model-00001-of-00003.safetensors","b":"` + three + `"}}`
)

func both(more map[string]string) map[string]string {
	files := map[string]string{one: valued(1, "a"), two: valued(2, "b")}
	maps.Copy(files, more)
	return files
}

// TestShards opens folders whose files do not agree, where one answer is the only one or the usual one.
func TestShards(t *testing.T) {
	tests := []struct {
		name   string
		files  map[string]string
		path   string // below the folder
		values string // a and b
		notes  []string
	}{
		{"no index", both(nil), "", "12", nil},
		{"no index, from 0", map[string]string{"m_0-of-2.safetensors": valued(1, "a"), "m_1-of-2.safetensors": valued(2, "b")}, "", "12", nil},
		{"no index, others beside", both(map[string]string{"adapter_model.safetensors": "", "optimizer.safetensors": "", "model.fp16-00001-of-00001.safetensors": ""}), "", "12", nil},
		{"no index, an incomplete set beside", both(map[string]string{three: ""}), "", "12", nil},
		{"null metadata", both(map[string]string{two: string(raw(`{"__metadata__":null,"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 0)) + "\x02"}), "", "12", nil},
		{"stale index", both(map[string]string{indexFile: indexOfThree}), "", "12", []string{"is out of date: it names the shards model-00001-of-00003.safetensors, " + three + ", which are missing; the complete set " + one}},
		{"stale index by name", both(map[string]string{indexFile: indexOfThree}), indexFile, "12", []string{"is out of date"}},
		{"index of one shard", both(map[string]string{indexFile: `{"weight_map":{"b":"` + two + `"}}`}), "", "12", []string{"it names 1 of 2 shards"}},
		{"index of tensors that no shard holds", both(map[string]string{indexFile: strings.Replace(indexOfTwo, "{\"a", `{"c":"`+one+`","a`, 1)}), "", "12", []string{"it lists 3 tensors, 1 of which are in no shard: c"}},
		{"empty index", both(map[string]string{indexFile: `{"weight_map":{}}`}), "", "12", []string{"it lists no tensors; the complete set " + one + " … " + two + " is read without the index"}},
		{"damaged single and shards", both(map[string]string{indexFile: indexOfTwo, weightsFile: valued(7, "a")[:9]}), "", "12", []string{"; the file is damaged: download or save it again; reading the complete set " + one + " … " + two + " beside it instead"}},
		{"index with another order", both(map[string]string{indexFile: `{"weight_map":{"a":"` + two + `","b":"` + one + `"}}`}), "", "12", []string{"a is in " + one + ", not in " + two}},
		{"an old set beside", both(map[string]string{indexFile: indexOfTwo, "model-1-of-1.safetensors": valued(9, "a", "b")}), "", "12", []string{"also holds the shards model-1-of-1.safetensors"}},
		{"copy in a later shard", both(map[string]string{indexFile: indexOfTwo, two: valued(2, "a", "b")}), "", "12", []string{"these copies are not read: a in " + two}},
		{"copy in an earlier shard", both(map[string]string{indexFile: indexOfTwo, one: valued(1, "a", "b")}), "", "12", []string{"these copies are not read: b in " + one}},
		{"single and shards", both(map[string]string{indexFile: indexOfTwo, weightsFile: valued(7, "a", "b")}), "", "77", []string{"holds both model.safetensors and " + one + " … " + two + ", which differ in tensor a: model.safetensors is read"}},
		{"the same twice", map[string]string{weightsFile: valued(1, "a", "b"), "model-1-of-1.safetensors": valued(1, "a", "b")}, "", "11", []string{"model.safetensors is read"}},
		{"single and an index of nothing", map[string]string{weightsFile: valued(1, "a", "b"), indexFile: indexOfTwo}, "", "11", nil},
		{"single and damaged shards", both(map[string]string{weightsFile: valued(7, "a", "b"), two: "x"}), "", "77", []string{"the other cannot be read: "}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := mustOpen(t, filepath.Join(folder(t, test.files), test.path))
			if names := c.Names(); !slices.Equal(slices.Sorted(slices.Values(names)), []string{"a", "b"}) {
				t.Errorf("tensors %v, want a and b", names)
			}
			for i, name := range []string{"a", "b"} {
				tensor, _ := c.Tensor(name)
				if got, err := tensor.Int64(); err != nil || got[0] != int64(test.values[i]-'0') {
					t.Errorf("%s is %v, %v, want %c", name, got, err, test.values[i])
				}
			}
			if len(c.Notes) != len(test.notes) {
				t.Fatalf("notes %q, want %d", c.Notes, len(test.notes))
			}
			for i, want := range test.notes {
				if !strings.Contains(c.Notes[i], want) || strings.Contains(c.Notes[i], "\n") {
					t.Errorf("note %q, want %q", c.Notes[i], want)
				}
			}
		})
	}
}

func TestShardsErrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"one is missing", map[string]string{one: valued(1, "a")}, "holds " + one + ", but not the shard " + two + ", which is missing; download it too"},
		{"most are missing", map[string]string{"model-00002-of-90000.safetensors": ""}, "but not the shards model-00001-of-90000.safetensors, model-00003-of-90000.safetensors, model-00004-of-90000.safetensors, …, which are missing"},
		{"two sets", both(map[string]string{"model-1-of-1.safetensors": ""}), "holds two complete sets of shards"},
		{"PyTorch", map[string]string{"pytorch_model-00002-of-00002.bin": ""}, "the shard pytorch_model-00001-of-00002.bin, which is missing"},
		{"empty index alone", map[string]string{indexFile: `{"weight_map":{}}`}, "lists no tensors, and there is no complete set of shards beside it"},
		{"empty index, a shard is missing", map[string]string{indexFile: `{"weight_map":{}}`, one: valued(1, "a")}, "lists no tensors, and there is no complete set"},
		{"damaged single and PyTorch", map[string]string{weightsFile: valued(7, "a")[:9], torchFileName: ""}, "download or save it again; the folder also holds other weights: pytorch_model.bin"},
		{"damaged single and shards", both(map[string]string{weightsFile: "x", two: "y"}), "the folder also holds other weights: " + one + " … " + two},
		{"config and shards", both(map[string]string{weightsFile: valued(7, "a"), configFile: strings.Repeat(" ", maxText+1)}), "the limit"},
		{"a tensor twice", both(map[string]string{two: valued(2, "a", "b")}), `tensor "a" is also in `},
		{"unlisted twice", both(map[string]string{indexFile: indexOfTwo, one: valued(1, "a", "c"), two: valued(2, "b", "c")}), `tensor "c" is also in `},
		{"only what is not the model's", map[string]string{"adapter_model.safetensors": "", "training_args.bin": ""}, ErrNoWeights.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Open(folder(t, test.files))
			wantError(t, err, test.want)
		})
	}
}

// TestUnlisted distinguishes tensors that the index does not list from others.
func TestUnlisted(t *testing.T) {
	c := mustOpen(t, folder(t, both(map[string]string{indexFile: indexOfTwo, two: valued(2, "b", "c")})))
	if !slices.Equal(c.Unlisted, []string{"c"}) || !slices.Equal(c.Names(), []string{"a", "b", "c"}) {
		t.Errorf("tensors %v, unlisted %v", c.Names(), c.Unlisted)
	}
	if err := c.Rename(func(name string) string { return "x." + name }); err != nil || !slices.Equal(c.Unlisted, []string{"x.c"}) {
		t.Errorf("%v, unlisted %v", err, c.Unlisted)
	}
	if err := c.Rename(func(string) string { return "" }); err != nil || c.Unlisted != nil {
		t.Errorf("%v, unlisted %v", err, c.Unlisted)
	}
}

func TestRename(t *testing.T) {
	c := mustOpen(t, folder(t, map[string]string{weightsFile: shard("x.a", "x.b", "x.c")}))
	if err := c.Rename(func(name string) string { return map[string]string{"x.a": "a", "x.b": "b"}[name] }); err != nil {
		t.Fatal(err)
	}
	c.Alias("z", "b")
	z, _ := c.Tensor("z")
	if got := c.Names(); !slices.Equal(got, []string{"a", "b", "z"}) || z.Name != "z" {
		t.Errorf("tensors %v", got)
	}
	wantError(t, c.Rename(func(string) string { return "y" }), `tensors "a" and "b" are both renamed to "y"`)
}
