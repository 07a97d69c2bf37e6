package weights

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
)

// recorded are the files of a small folder. b/deep.json and b2 lie in folders of their own.
var recorded = map[string]string{
	"config.json": `{"a": 1}`, "model-00001-of-00002.safetensors": "first shard", "model-00002-of-00002.safetensors": "second shard",
	"generation_config.json": `{"t": 0.7}`, "README.md": "# Model", "1_Pooling/config.json": "{}", "empty.txt": "",
}

// record writes the files and a record of them.
func record(t *testing.T) *Record {
	t.Helper()
	dir := t.TempDir()
	for name, text := range recorded {
		put(t, dir, name, text)
	}
	files, err := checkpoints.Digests(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "conversion.json", "{}")
	return &Record{Path: filepath.Join(dir, "conversion.json"), Dir: dir, Files: files}
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666)); err != nil {
		t.Fatal(err)
	}
}

// found returns the findings as "kind file", notes with a question mark.
func found(t *testing.T, r *Record) (list []string, texts string) {
	t.Helper()
	findings, err := r.VerifyFolder(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		mark := ""
		if f.Note {
			mark = "?"
		}
		list = append(list, fmt.Sprintf("%s%s %s", f.Kind, mark, f.File))
		texts += f.File + " " + f.Text + "\n"
	}
	return list, texts
}

func TestVerifyFolder(t *testing.T) {
	const first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	join := filepath.Join
	for name, test := range map[string]struct {
		spoil func(dir string) error
		want  []string
		text  string
	}{
		"unchanged":       {func(string) error { return nil }, nil, ""},
		"a flipped bit":   {func(dir string) error { return os.WriteFile(join(dir, first), []byte("firsu shard"), 0o666) }, []string{"content " + first}, "has 11 bytes with SHA-256 4d043b"},
		"truncated":       {func(dir string) error { return os.Truncate(join(dir, second), 5) }, []string{"size " + second}, "has 5 bytes, want 12"},
		"appended":        {func(dir string) error { return os.WriteFile(join(dir, "empty.txt"), []byte("x"), 0o666) }, []string{"size empty.txt"}, "has 1 bytes, want 0"},
		"missing":         {func(dir string) error { return os.Remove(join(dir, first)) }, []string{"missing " + first}, "is missing; want 11 bytes with SHA-256 "},
		"missing below":   {func(dir string) error { return os.RemoveAll(join(dir, "1_Pooling")) }, []string{"missing 1_Pooling/config.json"}, ""},
		"renamed":         {func(dir string) error { return os.Rename(join(dir, first), join(dir, "model.safetensors")) }, []string{"missing " + first, "unlisted model.safetensors"}, "; these are the contents of model.safetensors"},
		"swapped":         {swap, []string{"size " + first, "size " + second}, ""},
		"extra weights":   {func(dir string) error { return os.WriteFile(join(dir, "adapter.safetensors"), nil, 0o666) }, []string{"unlisted adapter.safetensors"}, "programs may read it"},
		"extra, harmless": {func(dir string) error { return os.WriteFile(join(dir, "notes.txt"), nil, 0o666) }, []string{"unlisted? notes.txt"}, ""},
		"extra folder":    {func(dir string) error { return os.MkdirAll(join(dir, "logs", "deep"), 0o777) }, []string{"unlisted? logs/"}, ""},
		"extra below":     {func(dir string) error { return os.WriteFile(join(dir, "1_Pooling", "x"), nil, 0o666) }, []string{"unlisted? 1_Pooling/x"}, ""},
		"a folder instead": {func(dir string) error {
			return errors.Join(os.Remove(join(dir, first)), os.Mkdir(join(dir, first), 0o777))
		}, []string{"unreadable " + first}, "cannot be read: is a folder; want a regular file; want 11 bytes"},
		"edited sampling":  {func(dir string) error { return os.WriteFile(join(dir, "generation_config.json"), nil, 0o666) }, []string{"edited? generation_config.json"}, "was edited: has 0 bytes, want 10"},
		"edited card":      {func(dir string) error { return os.WriteFile(join(dir, "README.md"), []byte("# model"), 0o666) }, []string{"edited? README.md"}, "was edited: has 7 bytes with"},
		"sampling is gone": {func(dir string) error { return os.Remove(join(dir, "generation_config.json")) }, []string{"missing generation_config.json"}, ""},
		"edited config":    {func(dir string) error { return os.WriteFile(join(dir, "config.json"), []byte(`{"a": 2}`), 0o666) }, []string{"content config.json"}, ""},
		"edited below": {func(dir string) error {
			return os.WriteFile(join(dir, "1_Pooling", "config.json"), []byte(`[]`), 0o666)
		}, []string{"content 1_Pooling/config.json"}, ""},
		"everything is gone": {func(dir string) error { return os.RemoveAll(dir) }, []string{
			"missing 1_Pooling/config.json", "missing README.md", "missing config.json", "missing empty.txt", "missing generation_config.json", "missing " + first, "missing " + second,
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(t)
			if err := test.spoil(r.Dir); err != nil {
				t.Fatal(err)
			}
			got, texts := found(t, r)
			if !slices.Equal(got, test.want) || !strings.Contains(texts, test.text) {
				t.Errorf("found %q, want %q\n%s", got, test.want, texts)
			}
		})
	}
}

func swap(dir string) error {
	a, b, c := filepath.Join(dir, "model-00001-of-00002.safetensors"), filepath.Join(dir, "model-00002-of-00002.safetensors"), filepath.Join(dir, "c")
	return errors.Join(os.Rename(a, c), os.Rename(b, a), os.Rename(c, b))
}

// TestVerifyLinks: links are followed, whether they replace a file or a folder.
func TestVerifyLinks(t *testing.T) {
	r := record(t)
	other := t.TempDir()
	for _, name := range []string{"config.json", "1_Pooling"} {
		path := filepath.Join(r.Dir, name)
		if err := os.Rename(path, filepath.Join(other, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(other, name), path); err != nil {
			t.Skipf("links cannot be made here: %v", err)
		}
	}
	if got, texts := found(t, r); got != nil {
		t.Errorf("links to the same contents: %q", texts)
	}
	put(t, other, "config.json", `{"a": 3}`)
	if got, _ := found(t, r); !slices.Equal(got, []string{"content config.json"}) {
		t.Errorf("a link to other contents: %q", got)
	}
	os.Remove(filepath.Join(other, "config.json"))
	if got, texts := found(t, r); !slices.Equal(got, []string{"missing config.json"}) || !strings.Contains(texts, "is a link to "+filepath.Join(other, "config.json")+", which does not exist") {
		t.Errorf("a dangling link: %q", texts)
	}
}

func TestVerifyUnreadable(t *testing.T) {
	r := record(t)
	if err := os.Chmod(filepath.Join(r.Dir, "config.json"), 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open(filepath.Join(r.Dir, "config.json")); err == nil {
		f.Close()
		t.Skip("this user may read everything")
	}
	if got, texts := found(t, r); !slices.Equal(got, []string{"unreadable config.json"}) || !strings.Contains(texts, "cannot be read: permission denied; want 8 bytes") {
		t.Errorf("%q", texts)
	}
}

// TestVerifyRecords has records that are damaged, or of an earlier version.
func TestVerifyRecords(t *testing.T) {
	r := record(t)
	r.Files["../config.json"] = checkpoints.Digest{Bytes: 8}
	r.Files["config.json"] = checkpoints.Digest{Bytes: 8}
	got, texts := found(t, r)
	want := []string{"unreadable ../config.json", "no-hash config.json"}
	if !slices.Equal(got, want) || !strings.Contains(texts, "leads out of the folder") || !strings.Contains(texts, "earlier version") {
		t.Errorf("found %q, want %q\n%s", got, want, texts)
	}
	if only := r.Only("nowhere"); len(only.Files) != 0 {
		t.Errorf("an unlisted file has a digest: %v", only.Files)
	}
}

// TestVerifyMutations changes, removes and adds a byte at every position of every file: each change is found, and only
// it. That there are findings at all shows that the check can fail.
func TestVerifyMutations(t *testing.T) {
	r := record(t)
	for name, text := range recorded {
		for i := range len(text) {
			for bit := range 8 {
				b := []byte(text)
				b[i] ^= 1 << bit
				mutate(t, r, name, b)
			}
			mutate(t, r, name, []byte(text[:i]))
			mutate(t, r, name, []byte(text[:i]+"\x00"+text[i:]))
		}
		put(t, r.Dir, name, text)
	}
	if got, _ := found(t, r); got != nil {
		t.Errorf("restored: %q", got)
	}
}

func mutate(t *testing.T, r *Record, name string, text []byte) {
	t.Helper()
	put(t, r.Dir, name, string(text))
	got, _ := found(t, r)
	if len(got) != 1 || !strings.HasSuffix(got[0], " "+name) {
		t.Fatalf("%s is %q: found %q", name, text, got)
	}
}

// TestVerifyStreams reads a file that is larger than the memory it may take, and stops when it is told to.
func TestVerifyStreams(t *testing.T) {
	const size = 64 << 20
	r := &Record{Dir: t.TempDir(), Files: map[string]checkpoints.Digest{}}
	put(t, r.Dir, "large", "")
	if err := os.Truncate(filepath.Join(r.Dir, "large"), size); err != nil {
		t.Fatal(err)
	}
	r.Files["large"] = checkpoints.Digest{Bytes: size, SHA256: "3b6a07d0d404fab4e23b6d34bc6696a6a312dd92821332385e5af7c01c421351"} // sha256sum of 64 MiB of zeros
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	total := int64(0)
	findings, err := r.VerifyFiles(t.Context(), func(n int64) { total += n })
	runtime.ReadMemStats(&after)
	if err != nil || len(findings) != 0 || total != size || after.TotalAlloc-before.TotalAlloc > size/8 {
		t.Errorf("%v, %v, %d bytes reported, %d allocated", findings, err, total, after.TotalAlloc-before.TotalAlloc)
	}
	ctx, cancel := context.WithCancel(t.Context())
	total = 0
	if _, err := r.VerifyFiles(ctx, func(n int64) { total += n; cancel() }); !errors.Is(err, context.Canceled) || total > size/8 {
		t.Errorf("cancelled: %v after %d bytes", err, total)
	}
}
