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

// Digest tells whether a file still holds what was written to it.
type Digest struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // in hexadecimal digits
}

// Digests returns the digest of every file in dir and in the folders below it, by name: relative to dir, with slashes.
func Digests(ctx context.Context, dir string) (map[string]Digest, error) {
	names, err := filesBelow(dir)
	if err != nil {
		return nil, err
	}
	all := make([]Digest, len(names))
	err = atOnce(len(names), func(i int) (err error) {
		all[i], err = DigestFile(ctx, filepath.Join(dir, filepath.FromSlash(names[i])))
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

// VerifySizes checks that the files of dir that want names are there and have their sizes. It reads none of them. The error
// names the first file that differs.
func VerifySizes(dir string, want map[string]Digest) error {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("%s: leads out of the folder", name)
		}
		switch info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s is missing", name)
		case err != nil:
			return err
		case info.Size() != want[name].Bytes:
			return fmt.Errorf("%s has %d bytes, but %d were written", name, info.Size(), want[name].Bytes)
		}
	}
	return nil
}

// Verify checks that the files of dir that want names hold what was written to them. The error names the first file that
// differs.
func Verify(ctx context.Context, dir string, want map[string]Digest) error {
	if err := VerifySizes(dir, want); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(want))
	return atOnce(len(names), func(i int) error {
		got, err := DigestFile(ctx, filepath.Join(dir, filepath.FromSlash(names[i])))
		if err == nil && got != want[names[i]] {
			err = fmt.Errorf("%s is damaged: its SHA-256 is not that of what was written", names[i])
		}
		return err
	})
}

// atOnce runs n tasks, as many at a time as there are threads, and returns the error of the first that failed, in their order.
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

// DigestFile returns the digest of one file.
func DigestFile(ctx context.Context, path string) (Digest, error) {
	f, err := file.Open(path)
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.CopyBuffer(sum, cancelled{ctx, f}, make([]byte, chunkBytes))
	if err != nil {
		return Digest{}, fmt.Errorf("%s: %w", path, err)
	}
	return Digest{n, hex.EncodeToString(sum.Sum(nil))}, nil
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	io.Reader
}

func (c cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(b)
}

// filesBelow lists the regular files of dir and of the folders below it, relative to dir, with slashes, sorted.
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
