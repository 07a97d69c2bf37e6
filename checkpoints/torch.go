package checkpoints

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nlpodyssey/gopickle/types"
)

// torchError is an error about the contents of a PyTorch file, which need not be damaged.
type torchError struct{ text string }

func (e *torchError) Error() string { return e.text }

func torchErrorf(format string, args ...any) error {
	return &torchError{fmt.Sprintf(format, args...)}
}

// isTorch reports whether a file that begins with start may have been written by torch.save: a zip file, or a sequence
// of pickles. The brace is where the header of safetensors begins.
func isTorch(start []byte) bool {
	if len(start) > 8 && start[8] == '{' {
		return false
	}
	return bytes.HasPrefix(start, []byte(zipMagic)) || len(start) > 1 && start[0] == 0x80 && start[1] <= 5
}

const zipMagic = "PK\x03\x04"

// readTorch returns the tensors of a file written by torch.save, in the order of the state dict. It reads only their
// positions, not their bytes.
func readTorch(src io.ReaderAt, size int64, start []byte) ([]*Tensor, error) {
	f := &torchFile{src: src, size: size, roots: map[string]*torchStorage{}}
	load := f.loadLegacy
	if bytes.HasPrefix(start, []byte(zipMagic)) {
		load = f.loadZip
	}
	value, err := load()
	if err != nil {
		return nil, err
	}
	entries, err := stateDict(value)
	if err != nil {
		return nil, err
	}
	tensors := make([]*Tensor, 0, len(entries))
	for _, e := range entries {
		t, err := f.tensor(e)
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, t)
	}
	return tensors, nil
}

// torchFile is a file written by torch.save, while it is being opened.
type torchFile struct {
	src   io.ReaderAt
	size  int64
	roots map[string]*torchStorage // root storages by key
}

// torchStorage is a range of the file that holds tensor data.
type torchStorage struct {
	key      string
	width    int   // element size in bytes, set by the first view
	at, size int64 // bytes, offset from the start of the file
}

// torchView is a storage as a pickle refers to it: elements of a dtype, starting at some byte.
type torchView struct {
	*torchStorage
	dtype    DType // 0 for untyped bytes
	skip     int64 // bytes
	elements int64
}

// torchTensor is a tensor as a pickle describes it, unchecked.
type torchTensor struct {
	torchView
	offset        int64 // in elements
	shape, stride []int
}

// torchEntry is one key of a dict with its value.
type torchEntry struct{ key, value any }

// dictEntries returns the entries of a dict; ok is false if v is not one.
func dictEntries(v any) (entries []torchEntry, ok bool) {
	switch d := v.(type) {
	case *types.Dict:
		for _, e := range *d {
			entries = append(entries, torchEntry{e.Key, e.Value})
		}
		return entries, true
	case *types.OrderedDict:
		for e := d.List.Front(); e != nil; e = e.Next() {
			entry := e.Value.(*types.OrderedDictEntry)
			entries = append(entries, torchEntry{entry.Key, entry.Value})
		}
		return entries, true
	}
	return nil, false
}

// wrappers are the keys under which trainers store a state dict beside other things.
var wrappers = []string{"state_dict", "model_state_dict", "model", "module"}

// stateDict finds the dict of tensors in the contents of a file: the value itself, or the value of one of the wrappers.
func stateDict(v any) ([]torchEntry, error) {
	for range len(wrappers) {
		entries, ok := dictEntries(v)
		if !ok {
			return nil, torchErrorf("it holds %s, want a state dict: save model.state_dict()", kindOf(v))
		}
		inner := wrapped(entries)
		if inner == nil {
			return onlyState(entries)
		}
		v = inner
	}
	return nil, torchErrorf("it holds nested dicts, want a state dict: save model.state_dict()")
}

func wrapped(entries []torchEntry) any {
	for _, wrapper := range wrappers {
		for _, e := range entries {
			if _, ok := dictEntries(e.value); ok && e.key == wrapper {
				return e.value
			}
		}
	}
	return nil
}

// onlyState returns entries or, if they hold dicts instead of tensors, the only dict of tensors below them.
func onlyState(entries []torchEntry) ([]torchEntry, error) {
	states := states{seen: map[any]bool{}}
	states.find("", 0, entries)
	switch {
	case len(states.paths) > 1:
		return nil, torchErrorf("it holds several dicts of tensors (%s): save only the model's", oneLine(list(states.paths)))
	case len(states.paths) == 1:
		return states.first, nil
	}
	return entries, nil
}

// states collects the dicts of tensors in a file, by path.
type states struct {
	paths []string // keys, joined by dots
	first []torchEntry
	seen  map[any]bool
}

// find searches a dict at path, nested depth levels deep. It skips dicts with a key that is not a string, such as those
// of an optimizer.
func (s *states) find(path string, depth int, entries []torchEntry) {
	const deepest = 3
	for _, e := range entries {
		if _, ok := e.key.(string); !ok {
			return
		}
		if _, ok := e.value.(*torchTensor); ok {
			if s.paths = append(s.paths, path); len(s.paths) == 1 {
				s.first = entries
			}
			return
		}
	}
	for _, e := range entries {
		if below, ok := dictEntries(e.value); ok && depth < deepest && !s.seen[e.value] {
			s.seen[e.value] = true
			s.find(strings.TrimPrefix(fmt.Sprint(path, ".", e.key), "."), depth+1, below)
		}
	}
}

// kindOf describes the type of a pickle's value.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "None"
	case bool:
		return "a bool"
	case int, float64:
		return "a number"
	case string:
		return "a string"
	case *types.Tuple, *types.List:
		return "a list"
	case *torchTensor:
		return "a single tensor"
	case torchView:
		return "a storage"
	}
	if _, ok := dictEntries(v); ok {
		return "a dict"
	}
	return "something"
}

// tensor checks the description of one tensor in the pickle.
func (f *torchFile) tensor(e torchEntry) (*Tensor, error) {
	name, ok := e.key.(string)
	if !ok {
		return nil, torchErrorf("its state dict has %s as a key, want the name of a tensor: save only model.state_dict()", kindOf(e.key))
	}
	if !utf8.ValidString(name) || name == metadataKey {
		return nil, torchErrorf("it has a tensor named %s, a name that safetensors does not allow", oneLine(strconv.Quote(name)))
	}
	t, ok := e.value.(*torchTensor)
	if !ok {
		return nil, torchErrorf("%q is %s, want a tensor: save only model.state_dict()", name, kindOf(e.value))
	}
	placed, err := f.place(t)
	if err != nil {
		return nil, fmt.Errorf("tensor %q %w", name, err)
	}
	placed.Name = name
	return placed, nil
}

// place finds a tensor's bytes in the file.
func (f *torchFile) place(t *torchTensor) (*Tensor, error) {
	if t.dtype == 0 {
		return nil, fmt.Errorf("has no dtype")
	}
	size, ok := byteSize(t.dtype, t.shape)
	switch {
	case len(t.shape) != len(t.stride):
		return nil, fmt.Errorf("has shape %v and strides %v, want the same number of each", t.shape, t.stride)
	case !ok || size > f.size:
		return nil, fmt.Errorf("has shape %v of %v, larger than the file of %d bytes", t.shape, t.dtype, f.size)
	}
	placed := &Tensor{DType: t.dtype, Shape: t.shape, src: f.src, size: size}
	if size == 0 {
		return placed, nil
	}
	last, ok := t.last()
	if held := t.elements; !ok || last >= held {
		return nil, fmt.Errorf("reaches outside its storage of %d elements: shape %v, strides %v, offset %d", held, t.shape, t.stride, t.offset)
	}
	width := int64(t.dtype.Size())
	if held := t.torchStorage.size - t.skip; (last+1)*width > held {
		return nil, fmt.Errorf("ends at byte %d of its storage, of which the file holds only %d: it is truncated", (last+1)*width, held)
	}
	placed.offset = t.at + t.skip + t.offset*width
	if !contiguous(t.shape, t.stride) {
		placed.src, placed.offset = &strided{f.src, placed.offset, size, int(width), t.shape, t.stride}, 0
	}
	return placed, nil
}

// last returns the largest storage index that the tensor reads; ok is false if the index is negative or too large for
// any storage. The tensor must not be empty.
func (t *torchTensor) last() (int64, bool) {
	const most = 1 << 50 // elements; keeps the products below from overflowing
	last := t.offset
	if last < 0 || last > most {
		return 0, false
	}
	for i, n := range t.shape {
		if n == 1 {
			continue
		}
		if t.stride[i] < 0 || int64(t.stride[i]) > most/int64(n-1) {
			return 0, false
		}
		if last += int64(t.stride[i]) * int64(n-1); last > most {
			return 0, false
		}
	}
	return last, true
}

// contiguous reports whether the elements are row-major without gaps.
func contiguous(shape, stride []int) bool {
	step := 1
	for i := len(shape) - 1; i >= 0; i-- {
		if shape[i] != 1 && stride[i] != step {
			return false
		}
		step *= shape[i]
	}
	return true
}
