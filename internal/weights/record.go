package weights

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"gqa/checkpoints"
	"gqa/internal/file"
)

// Record lists the files that a command wrote into a folder.
type Record struct {
	Path  string                        // the file with the list
	Dir   string                        // the folder of the files
	Files map[string]checkpoints.Digest // by slash-separated path below Dir; hashes may be missing
}

// Kind is the way in which a file differs from its record.
type Kind string

// The kinds of findings.
const (
	Missing    Kind = "missing"    // it does not exist
	Resized    Kind = "size"       // it has another size
	Changed    Kind = "content"    // it has the same size, but another hash
	Unreadable Kind = "unreadable" // it cannot be read, or is not a file
	Unrecorded Kind = "no-hash"    // it has its size, but the record has no hash
	Unlisted   Kind = "unlisted"   // it is not in the record
	Edited     Kind = "edited"     // it differs, and is one that users edit
	NoRecord   Kind = "no-record"  // nothing is known about the folder's files
)

// Finding is a difference between a folder and its record.
type Finding struct {
	File  string              `json:"file"` // slash-separated path; a folder's ends in a slash
	Kind  Kind                `json:"kind"`
	Want  *checkpoints.Digest `json:"want,omitempty"`
	Found *checkpoints.Digest `json:"found,omitempty"` // without a hash if the size is wrong
	Text  string              `json:"text"`            // what is wrong, for people
	Note  bool                `json:"-"`               // the model is not affected
}

// Bytes returns the size of the listed files.
func (r *Record) Bytes() (n int64) {
	for _, d := range r.Files {
		n += max(0, d.Bytes)
	}
	return n
}

// Only returns the record of one file. If it is not listed, all that is known is that.
func (r *Record) Only(name string) *Record {
	only := &Record{Path: r.Path, Dir: r.Dir, Files: map[string]checkpoints.Digest{}}
	if d, ok := r.Files[name]; ok {
		only.Files[name] = d
	}
	return only
}

// VerifyFiles compares the listed files with those of the folder. Links are followed: what counts is what a reader would
// read. progress, which may be nil, is called with the number of bytes as they are read; calls may overlap. Findings are
// in the order of the files. The error is that of the context.
func (r *Record) VerifyFiles(ctx context.Context, progress func(bytes int64)) ([]Finding, error) {
	names := slices.Sorted(maps.Keys(r.Files))
	found := make([]*Finding, len(names))
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var group sync.WaitGroup
	for i, name := range names {
		free <- struct{}{}
		group.Go(func() {
			found[i] = r.verifyFile(ctx, name, progress)
			<-free
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var findings []Finding
	for _, f := range found {
		if f != nil {
			findings = append(findings, *f)
		}
	}
	return findings, nil
}

// VerifyFolder is like VerifyFiles, and also lists the files of the folder that the record does not list.
func (r *Record) VerifyFolder(ctx context.Context, progress func(bytes int64)) ([]Finding, error) {
	findings, err := r.VerifyFiles(ctx, progress)
	if err != nil {
		return nil, err
	}
	others := r.unlisted()
	if err := r.findRenamed(ctx, findings, others); err != nil {
		return nil, err
	}
	findings = append(findings, others...)
	slices.SortStableFunc(findings, func(a, b Finding) int { return strings.Compare(a.File, b.File) })
	return findings, nil
}

func (r *Record) full(name string) string { return filepath.Join(r.Dir, filepath.FromSlash(name)) }

// verifyFile compares a file with its record. It returns nil if they agree.
func (r *Record) verifyFile(ctx context.Context, name string, progress func(bytes int64)) *Finding {
	want := r.Files[name]
	finding := func(kind Kind, found *checkpoints.Digest, format string, args ...any) *Finding {
		f := &Finding{File: name, Kind: kind, Want: &want, Found: found, Text: fmt.Sprintf(format, args...)}
		if (kind == Resized || kind == Changed) && isEditable(name) {
			f.Kind, f.Note, f.Text = Edited, true, "was edited: "+f.Text
		}
		return f
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return finding(Unreadable, nil, "is not looked at: its path leads out of the folder, so %s is damaged", filepath.Base(r.Path))
	}
	full := r.full(name)
	info, err := os.Stat(full)
	if errors.Is(err, fs.ErrNotExist) {
		if to, err := os.Readlink(full); err == nil {
			return finding(Missing, nil, "is missing: it is a link to %s, which does not exist; want %s", to, describe(want))
		}
		return finding(Missing, nil, "is missing; want %s", describe(want))
	}
	if err == nil {
		err = file.Check(full, info)
	}
	if err != nil {
		return finding(Unreadable, nil, "cannot be read: %v; want %s", file.Reason(full, err), describe(want))
	}
	if info.Size() != want.Bytes {
		return finding(Resized, &checkpoints.Digest{Bytes: info.Size()}, "has %d bytes, want %d", info.Size(), want.Bytes)
	}
	if want.SHA256 == "" {
		return finding(Unrecorded, &checkpoints.Digest{Bytes: info.Size()}, "has its %d bytes, but an earlier version wrote %s without its hash, so its contents cannot be verified", want.Bytes, filepath.Base(r.Path))
	}
	found, err := checkpoints.DigestFile(ctx, full, progress)
	switch {
	case err != nil:
		return finding(Unreadable, nil, "cannot be read: %v; want %s", file.Reason(full, err), describe(want))
	case found != want:
		return finding(Changed, &found, "has %s, want %s", describe(found), describe(want))
	}
	return nil
}

func describe(d checkpoints.Digest) string {
	if d.SHA256 == "" {
		return fmt.Sprintf("%d bytes", d.Bytes)
	}
	return fmt.Sprintf("%d bytes with SHA-256 %s", d.Bytes, d.SHA256)
}

// unlisted lists the files of the folder that are not in the record. A folder without any listed file is one finding.
func (r *Record) unlisted() (findings []Finding) {
	folders := map[string]bool{".": true}
	for name := range r.Files {
		for dir := path.Dir(name); !folders[dir] && dir != "/"; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	itself, _ := filepath.Rel(r.Dir, r.Path)
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		if !filepath.IsLocal(filepath.FromSlash(folder)) {
			continue
		}
		entries, err := os.ReadDir(r.full(folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			findings = append(findings, Finding{File: folder + "/", Kind: Unreadable, Text: fmt.Sprintf("cannot be listed: %v", file.Reason(r.full(folder), err))})
		}
		for _, e := range entries {
			name := path.Join(folder, e.Name())
			if _, listed := r.Files[name]; !listed && name != filepath.ToSlash(itself) && !folders[name] {
				findings = append(findings, r.unlistedEntry(name, e))
			}
		}
	}
	return findings
}

func (r *Record) unlistedEntry(name string, e fs.DirEntry) Finding {
	f := Finding{File: name, Kind: Unlisted, Note: true, Text: "is not listed in " + filepath.Base(r.Path)}
	if e.IsDir() {
		f.File += "/"
		return f
	}
	if info, err := os.Stat(r.full(name)); err == nil && info.Mode().IsRegular() {
		f.Found = &checkpoints.Digest{Bytes: info.Size()}
	}
	if IsWeightFile(name) {
		f.Note = false
		f.Text += ", but programs may read it as weights or config of the model; move it elsewhere"
	}
	return f
}

// findRenamed adds to the findings about missing files where their contents are, if that is another file of the folder.
func (r *Record) findRenamed(ctx context.Context, missing, others []Finding) error {
	for i, m := range missing {
		if m.Kind != Missing || m.Want.SHA256 == "" || m.Want.Bytes == 0 {
			continue
		}
		for _, o := range others {
			if o.Found == nil || o.Found.Bytes != m.Want.Bytes {
				continue
			}
			found, err := checkpoints.DigestFile(ctx, r.full(o.File), nil)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil && found == *m.Want {
				missing[i].Text += "; these are the contents of " + o.File
				break
			}
		}
	}
	return nil
}

// isEditable reports whether users are expected to edit a file of that name: how to sample, and the model card. The
// forward pass and the tokenizer do not read it.
func isEditable(name string) bool {
	for _, pattern := range []string{"generation_config.json", "README*", "MODEL_CARD*", "model_card*", "CITATION*"} {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// weightEndings are the extensions of files that hold weights in some format.
var weightEndings = []string{
	".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf",
}

// IsWeightFile reports whether a file in a model's folder, given by its slash-separated path, is read as its weights or
// config.
func IsWeightFile(name string) bool {
	if strings.Contains(name, "/") {
		return false
	}
	return name == "config.json" || slices.ContainsFunc(weightEndings, func(ending string) bool { return strings.HasSuffix(name, ending) })
}
