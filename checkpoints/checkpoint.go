package checkpoints

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// The names that transformers gives a checkpoint's files.
const (
	configFile  = "config.json"
	weightsFile = "model.safetensors"
	indexFile   = "model.safetensors.index.json"

	torchFileName  = "pytorch_model.bin"
	torchIndexFile = "pytorch_model.bin.index.json"
)

// Checkpoint is the tensors of one model over one or more safetensors or PyTorch files,
// with the folder they lie in.
type Checkpoint struct {
	Dir      string            // the folder
	Files    []string          // weight files, base names, sorted
	Index    string            // base name of the index, empty without one
	Config   []byte            // config.json, nil if there is none
	Metadata map[string]string // __metadata__ of all files; never nil; where files differ, the first one's

	names   []string
	tensors map[string]*Tensor
	closers []io.Closer
}

// Open opens a checkpoint: a folder (with model.safetensors, or an index and its
// shards, or a single .safetensors file, or the same of PyTorch's .bin files), a
// .safetensors file, what torch.save wrote (.bin, .pt, .pth), or an index file
// (index.json). The config is taken from the same folder if it is there. Every
// header is read and checked; the error says which file and tensor is wrong.
func Open(path string) (*Checkpoint, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	c := newCheckpoint(path)
	if err := c.open(filepath.Base(path)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func newCheckpoint(path string) *Checkpoint {
	return &Checkpoint{
		Dir:      filepath.Dir(path),
		Metadata: map[string]string{},
		tensors:  map[string]*Tensor{},
	}
}

func (c *Checkpoint) open(name string) error {
	var err error
	c.Config, err = os.ReadFile(filepath.Join(c.Dir, configFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if isIndex(name) {
		return c.openIndex(name)
	}
	return c.openFile(name)
}

// openFile adds one weight file of the folder.
func (c *Checkpoint) openFile(name string) error {
	path := filepath.Join(c.Dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return broken(path, err)
	}
	if !info.Mode().IsRegular() { // a pipe, say, which would never open
		return fmt.Errorf("%s: is not a regular file; want a safetensors or PyTorch file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	c.closers = append(c.closers, f)
	return c.add(path, f, info.Size())
}

// broken is err, of opening a file, or what is more to the point: the hub's cache has links to files that a download that was
// broken off has not brought.
func broken(path string, err error) error {
	target, isLink := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) && isLink == nil {
		return fmt.Errorf("%s: is a link to %s, which is missing: download it again", path, target)
	}
	return err
}

// Read returns the checkpoint in one weight file of size bytes that need not lie on a
// disk. Errors and tensors call it name. The caller keeps r open while
// tensors are read.
func Read(name string, r io.ReaderAt, size int64) (*Checkpoint, error) {
	c := newCheckpoint(name)
	if err := c.add(name, r, size); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Checkpoint) add(path string, r io.ReaderAt, size int64) error {
	h, err := parseFile(path, r, size)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, t := range h.tensors {
		if other := c.tensors[t.Name]; other != nil {
			return fmt.Errorf("%s: tensor %q is also in %s; want it in one of them", path, t.Name, other.File)
		}
		t.File = path
		c.tensors[t.Name] = t
		c.names = append(c.names, t.Name)
	}
	c.Files = append(c.Files, filepath.Base(path))
	for key, value := range h.metadata {
		if _, ok := c.Metadata[key]; !ok {
			c.Metadata[key] = value
		}
	}
	return nil
}

// parseFile reads what says where the tensors of a weight file lie.
func parseFile(name string, r io.ReaderAt, size int64) (*header, error) {
	start := make([]byte, min(size, 512))
	if _, err := r.ReadAt(start, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if isTorch(start) {
		tensors, err := readTorch(r, size, start)
		if err != nil {
			return nil, fmt.Errorf("cannot read this PyTorch checkpoint: %w", err)
		}
		return &header{tensors: tensors}, nil
	}
	h, err := readHeader(r, size)
	if err != nil {
		if kind := sniff(start); kind != "" {
			return nil, fmt.Errorf("is %s; want a safetensors or PyTorch file", kind)
		}
		if isTorchName(name) {
			return nil, errors.New("is not what torch.save writes; the file is damaged: download or save it again")
		}
		return nil, fmt.Errorf("%w; the file is damaged: download or save it again", err)
	}
	return h, nil
}

// Close closes the weight files; tensors cannot be read afterwards.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.closers {
		errs = append(errs, f.Close())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// Names returns the tensors' names in file order: shards by file name, within a
// file by offset.
func (c *Checkpoint) Names() []string { return slices.Clone(c.names) }

// Tensor returns the tensor of that name, false if there is none.
func (c *Checkpoint) Tensor(name string) (*Tensor, bool) {
	t, ok := c.tensors[name]
	return t, ok
}
