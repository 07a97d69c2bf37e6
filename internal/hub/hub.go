// Package hub finds models and data sets that were downloaded from Hugging Face's hub in its local cache. It downloads nothing.
package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Kind is a kind of repository.
type Kind struct{ folder, option, what string }

// The kinds of repositories.
var (
	Model   = Kind{"models", "", "model"}
	Dataset = Kind{"datasets", "--repo-type dataset ", "data set"}
)

// Cache returns the folder of the cache, as huggingface_hub finds it; "" if there is no home folder.
func Cache() string {
	for _, place := range []struct{ variable, below string }{
		{"HF_HUB_CACHE", ""}, {"HUGGINGFACE_HUB_CACHE", ""}, {"HF_HOME", "hub"}, {"XDG_CACHE_HOME", "huggingface/hub"},
	} {
		if dir := os.Getenv(place.variable); dir != "" {
			return filepath.Join(dir, filepath.FromSlash(place.below))
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".cache", "huggingface", "hub")
}

// id matches org/name, a revision, and a path or glob within the repository.
var id = regexp.MustCompile(`^([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)(?:@([\w.-]+))?((?:/.*)?)$`)

// fileName matches names that are meant as files.
var fileName = regexp.MustCompile(`(?i)\.(safetensors|bin|gguf|json|jsonl|ndjson|parquet|txt|md|csv|tsv|arrow|ya?ml|index|pth?|ckpt|gz|zst|xz)$`)

// MissingError reports an id that the cache does not have.
type MissingError struct {
	Kind     Kind
	ID, Rev  string
	Cache    string
	Outdated error // why what is there cannot be used; nil if nothing is
}

// Error says what is missing and how to download it.
func (e MissingError) Error() string {
	reason := fmt.Sprintf("there is no such file or folder, and no such %s in the hub's cache %s", e.Kind.what, e.Cache)
	if e.Outdated != nil {
		reason = fmt.Sprintf("the %s in the hub's cache %s cannot be used: %v", e.Kind.what, e.Cache, e.Outdated)
	}
	rev := ""
	if e.Rev != "" {
		rev = " --revision " + e.Rev
	}
	return fmt.Sprintf("%s: %s; download it: hf download %s%s%s", e.ID, reason, e.Kind.option, e.ID, rev)
}

// Find returns the folder in the cache of a repository org/name, org/name@revision, or a path or glob below one of data. It returns
// name itself if that is a path, or cannot be an id.
func Find(kind Kind, name string) (string, error) {
	m := id.FindStringSubmatch(name)
	if m == nil || exists(name) || exists(m[1]) || m[4] == "" && fileName.MatchString(m[2]) || m[4] != "" && kind == Model {
		return name, nil
	}
	missing := MissingError{Kind: kind, ID: m[1] + "/" + m[2], Rev: m[3], Cache: Cache()}
	repo := filepath.Join(missing.Cache, kind.folder+"--"+m[1]+"--"+m[2])
	if !exists(repo) {
		return "", missing
	}
	snapshot, err := snapshotOf(repo, m[3])
	if err != nil {
		missing.Outdated = err
		return "", missing
	}
	return filepath.Join(snapshot, filepath.FromSlash(m[4])), nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// snapshotOf returns the folder of a revision; "" is the main branch, or the only revision there is.
func snapshotOf(repo, revision string) (string, error) {
	snapshots := filepath.Join(repo, "snapshots")
	name := revision
	if name == "" {
		name = "main"
	}
	commit, err := os.ReadFile(filepath.Join(repo, "refs", name))
	switch {
	case err == nil:
		name = strings.TrimSpace(string(commit))
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if dir := filepath.Join(snapshots, name); exists(dir) {
		return dir, nil
	}
	all, err := os.ReadDir(snapshots)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if revision == "" && len(all) == 1 {
		return filepath.Join(snapshots, all[0].Name()), nil
	}
	if revision == "" {
		revision = "main"
	}
	return "", fmt.Errorf("it has %d revisions, but not %s", len(all), revision)
}
