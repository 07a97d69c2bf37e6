package checkpoints

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"gqa/internal/file"
)

// Digest is the size and hash of a file, used to check whether its contents have changed.
type Digest struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"` // hexadecimal; empty if it is not known
}

// Digests returns the digest of every file in dir and its subfolders, keyed by slash-separated path relative to dir.
// progress, which may be nil, is called with the number of bytes as they are read; calls may overlap.
func Digests(ctx context.Context, dir string, progress func(bytes int64)) (map[string]Digest, error) {
	names, err := filesBelow(dir)
	if err != nil {
		return nil, err
	}
	all := make([]Digest, len(names))
	err = atOnce(len(names), func(i int) (err error) {
		all[i], err = DigestFile(ctx, filepath.Join(dir, filepath.FromSlash(names[i])), progress)
		return err
	})
	if err != nil {
		return nil, err
	}
	digests := make(map[string]Digest, len(names))
	for i, name := range names {
		digests[name] = all[i]
	}
	return digests, nil
}

// VerifySizes checks that the files of dir listed in want exist and have the right sizes, without reading them. The
// error names the first file that differs.
func VerifySizes(dir string, want map[string]Digest) error {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("%s: points outside the folder", name)
		}
		switch info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s is missing", name)
		case err != nil:
			return err
		case info.Size() != want[name].Bytes:
			return fmt.Errorf("%s has %d bytes, want %d as written", name, info.Size(), want[name].Bytes)
		}
	}
	return nil
}

// Verify checks that the files of dir listed in want still have the contents that were written. The error names the
// first file that differs.
func Verify(ctx context.Context, dir string, want map[string]Digest) error {
	if err := VerifySizes(dir, want); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(want))
	return atOnce(len(names), func(i int) error {
		got, err := DigestFile(ctx, filepath.Join(dir, filepath.FromSlash(names[i])), nil)
		if err == nil && got != want[names[i]] {
			err = fmt.Errorf("%s is damaged: its SHA-256 differs from that of the file written", names[i])
		}
		return err
	})
}

// atOnce runs n tasks, GOMAXPROCS at a time, and returns the error of the lowest-numbered task that failed.
func atOnce(n int, task func(i int) error) error {
	errs, free := make([]error, n), make(chan struct{}, runtime.GOMAXPROCS(0))
	var group sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		group.Go(func() {
			errs[i] = task(i)
			<-free
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// DigestFile returns the digest of one file. progress, which may be nil, is called with the number of bytes as they are
// read.
func DigestFile(ctx context.Context, path string, progress func(bytes int64)) (Digest, error) {
	f, err := file.Open(path)
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.CopyBuffer(sum, cancelled{ctx, f, progress}, make([]byte, chunkBytes))
	if err != nil {
		return Digest{}, fmt.Errorf("%s: %w", path, err)
	}
	return Digest{n, hex.EncodeToString(sum.Sum(nil))}, nil
}

// cancelled is a reader that fails once its context is done, and reports the bytes read.
type cancelled struct {
	ctx context.Context
	io.Reader
	progress func(bytes int64) // may be nil
}

func (c cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.Reader.Read(b)
	if c.progress != nil {
		c.progress(int64(n))
	}
	return n, err
}

// filesBelow returns the regular files in dir and its subfolders, as sorted slash-separated paths relative to dir.
func filesBelow(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	return names, err
}
