package checkpoints

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// loadZip loads the format that PyTorch has written since 1.6: a zip of a folder with the pickle data.pkl and the
// storages data/KEY, all uncompressed.
func (f *torchFile) loadZip() (any, error) {
	z, err := zip.NewReader(f.src, f.size)
	if err != nil {
		return nil, fmt.Errorf("its zip directory cannot be read (%w): download or save it again", err)
	}
	members := make(map[string]*zip.File, len(z.File))
	folder := ""
	for _, m := range z.File {
		if members[m.Name] != nil {
			return nil, torchErrorf("it has the member %q twice", m.Name)
		}
		members[m.Name] = m
		if dir, ok := strings.CutSuffix(m.Name, "/data.pkl"); ok && !strings.Contains(dir, "/") {
			folder = dir + "/"
		}
	}
	switch {
	case folder == "":
		return nil, torchErrorf("it is a zip without the data.pkl that torch.save writes")
	case members[folder+"constants.pkl"] != nil:
		return nil, torchErrorf("it is a TorchScript archive, which holds code: save model.state_dict()")
	}
	if err := f.checkByteOrder(members[folder+"byteorder"]); err != nil {
		return nil, err
	}
	at, size, err := f.member(members[folder+"data.pkl"])
	if err != nil {
		return nil, err
	}
	u := unpickler{f.src, f.size, torchClass, func(id any) (any, error) {
		view, _, err := f.view(id)
		if err != nil {
			return nil, err
		}
		name := folder + "data/" + view.key
		view.at, view.torchStorage.size, err = f.member(members[name])
		if err != nil {
			return nil, torchErrorf("storage %q: %v", name, err)
		}
		return view, nil
	}}
	value, _, err := u.load(at, at+size)
	return value, err
}

// member returns the position of a member's stored bytes.
func (f *torchFile) member(m *zip.File) (at, size int64, err error) {
	if m == nil {
		return 0, 0, torchErrorf("is missing: download or save the file again")
	}
	if m.Method != zip.Store || m.CompressedSize64 != m.UncompressedSize64 || m.Flags&1 != 0 {
		return 0, 0, torchErrorf("member %q is compressed or encrypted; torch.save does neither", m.Name)
	}
	if at, err = m.DataOffset(); err != nil {
		return 0, 0, err
	}
	if at < 0 || at > f.size || m.UncompressedSize64 > uint64(f.size-at) {
		return 0, 0, torchErrorf("member %q extends beyond the end of the file: it is truncated", m.Name)
	}
	return at, int64(m.UncompressedSize64), nil
}

// checkByteOrder rejects files written by a big-endian machine.
func (f *torchFile) checkByteOrder(m *zip.File) error {
	if m == nil { // written before 2.1 on a little-endian machine
		return nil
	}
	at, size, err := f.member(m)
	if err != nil {
		return err
	}
	order := make([]byte, min(size, 16))
	if _, err := f.src.ReadAt(order, at); err != nil && err != io.EOF {
		return err
	}
	if string(order) != "little" {
		return torchErrorf("its byte order is %q, want little: save it again on a little-endian machine", order)
	}
	return nil
}

// loadLegacy loads the format that PyTorch wrote before 1.6: pickles of a magic number, a version, the machine, the
// value and the storages' keys, followed by the storages, each preceded by its number of elements.
func (f *torchFile) loadLegacy() (any, error) {
	u := unpickler{f.src, f.size, torchClass, f.legacyView}
	at, err := f.checkLegacy(&u)
	if err != nil {
		return nil, err
	}
	value, at, err := u.load(at, f.size)
	if err != nil {
		return nil, err
	}
	keys, at, err := u.load(at, f.size)
	if err != nil {
		return nil, err
	}
	list, ok := keys.(*types.List)
	if !ok {
		return nil, torchErrorf("it holds %s, want the storages' keys", kindOf(keys))
	}
	return value, f.placeLegacy(*list, at)
}

const (
	legacyMagic   = "1950a86a20f9469cfc6c"
	legacyVersion = 1001
)

// checkLegacy reads what precedes the value and returns the value's offset.
func (f *torchFile) checkLegacy(u *unpickler) (at int64, err error) {
	magic, at, err := u.load(0, f.size)
	if n, ok := magic.(*big.Int); err != nil || !ok || n.Text(16) != legacyMagic {
		return 0, torchErrorf("it is a pickle that torch.save did not write: want a model written by torch.save")
	}
	version, at, err := u.load(at, f.size)
	if err != nil {
		return 0, err
	}
	if version != legacyVersion {
		return 0, torchErrorf("its format version is not %d, the only one supported", legacyVersion)
	}
	machine, at, err := u.load(at, f.size)
	if err != nil {
		return 0, err
	}
	entries, _ := dictEntries(machine)
	for _, e := range entries {
		if e.key == "little_endian" && e.value != true {
			return 0, torchErrorf("it was written by a big-endian machine: save it again on a little-endian one")
		}
	}
	return at, nil
}

// legacyView parses a persistent ID, whose last part is None or describes a part of the storage: (key, first element,
// elements).
func (f *torchFile) legacyView(id any) (any, error) {
	view, t, err := f.view(id)
	if err != nil {
		return nil, err
	}
	if view.dtype == 0 {
		return nil, torchErrorf("storage %q has no dtype", view.key)
	}
	if t.Len() < 6 || t.Get(5) == nil {
		return view, nil
	}
	part, ok := t.Get(5).(*types.Tuple)
	if !ok || part.Len() != 3 {
		return nil, torchErrorf("storage %q is part of another that its pickle does not name", view.key)
	}
	begin, ok1 := part.Get(1).(int)
	elements, ok2 := part.Get(2).(int)
	if !ok1 || !ok2 || begin < 0 || elements < 0 || int64(begin) > f.size || int64(elements) > f.size {
		return nil, torchErrorf("storage %q is elements %v to %v of another, beyond the end of the file", view.key, part.Get(1), part.Get(2))
	}
	view.skip, view.elements = int64(begin*view.dtype.Size()), int64(elements)
	return view, nil
}

// placeLegacy finds the storages, which follow one another from offset at.
func (f *torchFile) placeLegacy(keys types.List, at int64) error {
	for _, k := range keys {
		key, _ := k.(string)
		root := f.roots[key]
		if root == nil {
			return torchErrorf("it holds the storage %s, which its pickle does not mention", oneLine(strconv.Quote(key)))
		}
		var elements [8]byte
		if _, err := f.src.ReadAt(elements[:], at); err != nil {
			return torchErrorf("it ends before storage %q: it is truncated", key)
		}
		at += int64(len(elements))
		n := binary.LittleEndian.Uint64(elements[:])
		if n > uint64(f.size-at)/uint64(root.width) {
			return torchErrorf("storage %q has %d elements, more than the file holds: it is truncated", key, n)
		}
		root.at, root.size = at, int64(n)*int64(root.width)
		at += root.size
	}
	return nil
}
