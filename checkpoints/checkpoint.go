package checkpoints

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"gqa/internal/file"
)

// File names used by transformers.
const (
	configFile  = "config.json"
	weightsFile = "model.safetensors"
	indexFile   = "model.safetensors.index.json"

	torchFileName  = "pytorch_model.bin"
	torchIndexFile = "pytorch_model.bin.index.json"
)

// Checkpoint is the tensors of one model, stored in one or more safetensors or PyTorch files, and the folder that holds
// the files.
type Checkpoint struct {
	Dir      string            // the folder
	Files    []string          // weight files, base names, sorted
	Index    string            // base name of the index, empty without one
	Config   []byte            // config.json, nil if there is none
	Metadata map[string]string // __metadata__ of all files, never nil; where files disagree, the first one wins
	Unlisted []string          // tensors that are in a shard but not in the index
	Notes    []string          // remarks for the user on how the folder was read

	order   []*Tensor // in file order, including tensors shadowed by another of the same name
	tensors map[string]*Tensor
	closers []io.Closer
	listed  map[string]string // tensor name to shard according to the index; nil if there is no index
	copies  []string          // tensors found in shards other than those the index names
}

// Open opens a checkpoint. path is a folder, a .safetensors file, a file written by torch.save (.bin, .pt, .pth), or an
// index file (index.json). A folder holds model.safetensors, or an index and its shards, or a complete set of shards,
// or a single .safetensors file, or the same in PyTorch's .bin format. The config is read from the same folder if there
// is one. Open reads and checks every header; an error names the file and tensor at fault. If a folder holds more than
// one possible set of weights, Notes records which was chosen.
func Open(path string) (*Checkpoint, error) {
	what, err := resolve(path)
	if err != nil {
		return nil, err
	}
	c, err := open(what)
	switch {
	case what.rival == nil:
	case err == nil:
		c.compare(what)
	default:
		return instead(what, err)
	}
	return c, err
}

// instead opens the complete set of shards beside a file that cannot be read. Weights in another format may come from
// another save, so the error only mentions them.
func instead(what choice, err error) (*Checkpoint, error) {
	c, rivalErr := open(*what.rival)
	switch {
	case rivalErr == nil && what.kind == what.rival.kind:
		c.Notes = append(c.Notes, fmt.Sprintf("%v; reading the complete set %s beside it instead", err, what.rival))
		return c, nil
	case rivalErr == nil:
		c.Close()
	case rivalErr.Error() == err.Error(): // both errors are about config.json
		return nil, err
	}
	return nil, fmt.Errorf("%w; the folder also holds other weights: %s", err, what.rival)
}

func open(what choice) (*Checkpoint, error) {
	c := newCheckpoint(what.dir)
	if err := c.open(what); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func newCheckpoint(dir string) *Checkpoint {
	return &Checkpoint{Dir: dir, Metadata: map[string]string{}, tensors: map[string]*Tensor{}}
}

func (c *Checkpoint) open(what choice) error {
	var err error
	c.Config, err = file.ReadMax(filepath.Join(c.Dir, configFile), maxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if what.index != "" {
		return c.openIndex(what.index)
	}
	return c.openFiles(what.files)
}

// openFiles opens weight files in the checkpoint's folder and adds their tensors.
func (c *Checkpoint) openFiles(names []string) error {
	for _, name := range names {
		if err := c.openFile(filepath.Join(c.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Checkpoint) openFile(path string) error {
	f, err := file.Open(path)
	if err != nil {
		return broken(path, err)
	}
	c.closers = append(c.closers, f)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return c.add(path, f, info.Size())
}

// broken returns err, or a clearer error if path is a dangling link: the hub's cache links to files that an interrupted
// download did not fetch.
func broken(path string, err error) error {
	target, isLink := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) && isLink == nil {
		return fmt.Errorf("%s: is a link to %s, which is missing; download it again", path, target)
	}
	return err
}

// compare notes which of two sets of weights was chosen, unless they look the same.
func (c *Checkpoint) compare(what choice) {
	dir, taken, left := c.Dir, what.String(), what.rival.String()
	note := func(format string, args ...any) { c.Notes = append(c.Notes, fmt.Sprintf(format, args...)) }
	other, err := open(*what.rival)
	if err != nil {
		note("%s: holds both %s and %s: %s is read, as transformers does; the other cannot be read: %v", dir, taken, left, taken, err)
		return
	}
	defer other.Close()
	differ := c.differs(other)
	switch {
	case differ != "":
		note("%s: holds both %s and %s, which differ in tensor %s: %s is read, as transformers does; remove the files of the earlier save",
			dir, taken, left, differ, taken)
	case what.kind == what.rival.kind: // holding the same weights in both formats is common
		note("%s: holds both %s and %s: %[2]s is read, as transformers does", dir, taken, left)
	}
}

// differs returns the name of a tensor that differs between the two checkpoints, judging by the first bytes of each
// tensor, or "" if there is none. It ignores tensors that only one of them has: they may be buffers or tied copies.
func (c *Checkpoint) differs(other *Checkpoint) string {
	var a, b [4096]byte
	common := false
	for _, name := range c.Names() {
		t, u := c.tensors[name], other.tensors[name]
		if u == nil {
			continue
		}
		common = true
		if t.DType != u.DType || !slices.Equal(t.Shape, u.Shape) {
			return name
		}
		n := min(t.size, int64(len(a)))
		_, err1 := t.src.ReadAt(a[:n], t.offset)
		_, err2 := u.src.ReadAt(b[:n], u.offset)
		if err1 != nil || err2 != nil || !bytes.Equal(a[:n], b[:n]) {
			return name
		}
	}
	if names := c.Names(); !common && len(names) > 0 {
		return names[0]
	}
	return ""
}

// Read returns the checkpoint in a single weight file of size bytes, which need not be on disk. Errors and tensors
// refer to the file as name. The caller must keep r open for as long as it reads tensors.
func Read(name string, r io.ReaderAt, size int64) (*Checkpoint, error) {
	c := newCheckpoint(filepath.Dir(name))
	if err := c.add(name, r, size); err != nil {
		return nil, err
	}
	return c, nil
}

// add adds the tensors of one weight file.
func (c *Checkpoint) add(path string, r io.ReaderAt, size int64) error {
	h, err := parseFile(path, r, size)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, t := range h.tensors {
		t.File = path
		if err := c.addTensor(t); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	c.Files = append(c.Files, filepath.Base(path))
	for key, value := range h.metadata {
		if _, ok := c.Metadata[key]; !ok {
			c.Metadata[key] = value
		}
	}
	return nil
}

// addTensor adds a tensor. If two tensors share a name, the index decides between them.
func (c *Checkpoint) addTensor(t *Tensor) error {
	other, shard := c.tensors[t.Name], filepath.Base(t.File)
	place, listed := c.listed[t.Name]
	switch {
	case other == nil:
		if c.listed != nil && !listed {
			c.Unlisted = append(c.Unlisted, t.Name)
		}
	case listed && place == shard: // the other one is not where the index says
		c.copies = append(c.copies, fmt.Sprintf("%s in %s", t.Name, filepath.Base(other.File)))
	case listed && place == filepath.Base(other.File):
		c.copies = append(c.copies, fmt.Sprintf("%s in %s", t.Name, shard))
		return nil
	default:
		return fmt.Errorf("tensor %q is also in %s; want it in one of them", t.Name, other.File)
	}
	c.tensors[t.Name], c.order = t, append(c.order, t)
	return nil
}

// parseFile reads the header of a weight file.
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
			return nil, errors.New("was not written by torch.save, or is damaged: download or save it again")
		}
		return nil, fmt.Errorf("%w; the file is damaged: download or save it again", err)
	}
	return h, nil
}

// Close closes the weight files. Tensors cannot be read afterwards.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.closers {
		errs = append(errs, f.Close())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// Names returns the names of the tensors in file order: shards by file name, and tensors by offset within a file.
func (c *Checkpoint) Names() []string {
	names := make([]string, 0, len(c.order))
	for _, t := range c.order {
		if c.tensors[t.Name] == t {
			names = append(names, t.Name)
		}
	}
	return names
}

// Tensor returns the tensor with the given name, and reports whether there is one.
func (c *Checkpoint) Tensor(name string) (*Tensor, bool) {
	t, ok := c.tensors[name]
	return t, ok
}

// Rename renames every tensor to to(name), and drops those for which it returns "". It is an error if two tensors get
// the same name.
func (c *Checkpoint) Rename(to func(name string) string) error {
	was, isUnlisted := map[string]string{}, map[string]bool{}
	for _, name := range c.Unlisted {
		isUnlisted[name] = true
	}
	tensors, order, unlisted := map[string]*Tensor{}, []*Tensor(nil), []string(nil)
	for _, name := range c.Names() {
		t, renamed := c.tensors[name], to(name)
		if renamed == "" {
			continue
		}
		if other, ok := was[renamed]; ok {
			return fmt.Errorf("tensors %q and %q are both renamed to %q", other, name, renamed)
		}
		was[renamed], t.Name = name, renamed
		tensors[renamed], order = t, append(order, t)
		if isUnlisted[name] {
			unlisted = append(unlisted, renamed)
		}
	}
	c.tensors, c.order, c.Unlisted = tensors, order, unlisted
	return nil
}

// Alias makes the tensor called name available as alias too.
func (c *Checkpoint) Alias(alias, name string) {
	t := *c.tensors[name]
	t.Name = alias
	c.tensors[alias], c.order = &t, append(c.order, &t)
}
