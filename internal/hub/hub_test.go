package hub

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cache makes a cache as huggingface_hub does, and makes it the one that is searched.
func cache(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path, content, _ := strings.Cut(f, "=")
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HF_HUB_CACHE", dir)
	t.Chdir(t.TempDir())
	return dir
}

func TestFind(t *testing.T) {
	dir := cache(t, "models--a--b/refs/main=c1\n", "models--a--b/refs/v2=c2", "models--a--b/snapshots/c1/config.json", "models--a--b/snapshots/c2/config.json",
		"datasets--a--b/snapshots/c3/data/x.parquet", "models--a--old/refs/main=gone", "models--a--old/snapshots/c4/x", "models--a--old/snapshots/c5/x")
	if err := os.MkdirAll("local/model", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind       Kind
		name, want string // below the cache if it begins with /
	}{
		{Model, "a/b", "/models--a--b/snapshots/c1"},
		{Model, "a/b@v2", "/models--a--b/snapshots/c2"},
		{Model, "a/b@c2", "/models--a--b/snapshots/c2"},
		{Dataset, "a/b", "/datasets--a--b/snapshots/c3"},
		{Dataset, "a/b/data/*.parquet", "/datasets--a--b/snapshots/c3/data/*.parquet"},
		{Model, "local/model", "local/model"},
		{Model, "local/missing", "local/missing"},
		{Model, "some/where/else", "some/where/else"},
		{Dataset, "missing/train.jsonl", "missing/train.jsonl"},
		{Dataset, "./a/b", "./a/b"},
		{Dataset, "/a/b", "/a/b"},
		{Dataset, "sample:train", "sample:train"},
	} {
		want := c.want
		if strings.HasPrefix(c.want, "/models") || strings.HasPrefix(c.want, "/datasets") {
			want = dir + c.want
		}
		if got, err := Find(c.kind, c.name); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, want)
		}
	}
	for _, c := range []struct {
		kind       Kind
		name, want string
	}{
		{Model, "a/none", "a/none: there is no such file or folder, and no such model in the hub's cache " + dir + "; download it: hf download a/none"},
		{Dataset, "a/none/data/*.parquet", "download it: hf download --repo-type dataset a/none"},
		{Model, "a/b@v9", "cannot be used: it has 2 revisions, but not v9; download it: hf download a/b --revision v9"},
		{Model, "a/old", "it has 2 revisions, but not main; download it: hf download a/old"},
	} {
		if _, err := Find(c.kind, c.name); !errors.As(err, new(MissingError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestCache(t *testing.T) {
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", "/home/x")
	if got := Cache(); got != "/home/x/.cache/huggingface/hub" {
		t.Error(got)
	}
	t.Setenv("HF_HOME", "/h")
	if got := Cache(); got != "/h/hub" {
		t.Error(got)
	}
	t.Setenv("HF_HUB_CACHE", "/c")
	if got := Cache(); got != "/c" {
		t.Error(got)
	}
}
