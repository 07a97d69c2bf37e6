package checkpoints

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"gqa/internal/file"
)

// A Recognizer returns what this toolkit wrote into a folder, judging by the contents of its files. The error says why
// the folder is not an output.
type Recognizer func(dir string) (Owned, error)

// AnySize stands for the size of a file that may have any size.
const AnySize = -1

// Owned is what this toolkit wrote into a folder.
type Owned struct {
	// Files are the slash-separated paths of regular files below the folder, with their sizes. A path that ends in a
	// slash is a folder, which may be empty.
	Files map[string]int64
	// Excludes, if not nil, reports whether a file of another name must not stay beside a new output because it would
	// count as part of it.
	Excludes func(name string) bool
	// Note, if not empty, is logged before the folder is replaced.
	Note string
}

// Add adds the files of a subfolder; dir is its slash-separated path.
func (o *Owned) Add(dir string, below Owned) {
	if o.Files == nil {
		o.Files = map[string]int64{}
	}
	for name, size := range below.Files {
		o.Files[dir+"/"+name] = size
	}
	o.Note = cmp.Or(o.Note, below.Note)
}

// ReadMark reads a small file by which an output is recognised. The file must be in the folder itself, not behind a
// link.
func ReadMark(dir, name string) ([]byte, error) {
	const most = 256 << 20
	info, err := os.Lstat(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("it has no %s", name)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("its %s is not a regular file", name)
	}
	return file.ReadMax(filepath.Join(dir, name), most)
}

// IsJSONOf reports whether text is a JSON object that decodes into v, a pointer to a struct, has all of the required
// keys, and has no key that v lacks.
func IsJSONOf(v any, text []byte, required ...string) bool {
	var keys map[string]json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if decoder.Decode(v) != nil || json.Unmarshal(text, &keys) != nil {
		return false
	}
	return !slices.ContainsFunc(required, func(key string) bool { _, ok := keys[key]; return !ok })
}

// RemoveOwned removes the files of dir that one of own recognises, and dir itself unless it holds other files. If dir
// is a link, the link is kept.
func RemoveOwned(dir string, own ...Recognizer) error {
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return nil
	}
	c, err := recognize(dir, own)
	if err != nil {
		return nil // not ours: keep it
	}
	for _, name := range c.removed {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, filepath.FromSlash(name))))
	}
	os.Remove(dir)
	return err
}

// contents says what replacing a folder means for its files, as slash-separated paths below it.
type contents struct {
	removed []string // our own files
	bytes   int64
	note    string
	kept    []string // all other files; a folder without files of ours stands for everything in it
}

// recognize examines dir. It is an error if no recognizer accepts it as an output, or if it holds something else that
// can be neither kept nor removed.
func recognize(dir string, own []Recognizer) (contents, error) {
	err := errors.New("this kind of output is never replaced")
	for _, recognizer := range own {
		var owned Owned
		if owned, err = recognizer(dir); err == nil {
			return owned.survey(dir)
		}
	}
	return contents{}, err
}

func (o Owned) survey(dir string) (contents, error) {
	c := contents{note: o.Note}
	if _, err := o.walk(dir, "", &c); err != nil {
		return c, err
	}
	for _, name := range c.kept {
		if o.Excludes != nil && o.Excludes(name) {
			return c, fmt.Errorf("its %s is not part of the old output, but would count as part of the new one; move it elsewhere", name)
		}
	}
	return c, nil
}

// walk adds the contents of the folder sub of dir to c, without following links. ours reports whether some of it was
// written by this toolkit.
func (o Owned) walk(dir, sub string, c *contents) (ours bool, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(sub)))
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		name := path.Join(sub, e.Name())
		mine, err := o.entry(dir, name, e, c)
		if err != nil {
			return false, err
		}
		if !mine {
			c.kept = append(c.kept, name)
		}
		ours = ours || mine
	}
	return ours, nil
}

// entry is walk for a single entry; a folder without files of ours is not ours and adds nothing.
func (o Owned) entry(dir, name string, e fs.DirEntry, c *contents) (ours bool, err error) {
	full := filepath.Join(dir, filepath.FromSlash(name))
	if h, ok := parseTempName(full); ok && h.kind == tmpKind && h.gone() {
		c.removed = append(c.removed, name)
		return true, nil
	}
	if e.IsDir() {
		kept := len(c.kept)
		ours, err := o.walk(dir, name, c)
		if !ours {
			c.kept = c.kept[:kept]
			_, ours = o.Files[name+"/"]
			entries, _ := os.ReadDir(full)
			ours = ours && len(entries) == 0
		}
		return ours, err
	}
	size, listed := o.Files[name]
	if !listed || !e.Type().IsRegular() {
		return false, nil
	}
	info, err := e.Info()
	if err != nil {
		return false, err
	}
	if size != AnySize && info.Size() != size {
		return false, fmt.Errorf("its %s was changed after it was written (%d bytes then, %d now); move it elsewhere", name, size, info.Size())
	}
	c.removed, c.bytes = append(c.removed, name), c.bytes+info.Size()
	return true, nil
}

// report logs what happens to the files of target.
func (c contents) report(target string) {
	if c.note != "" {
		slog.Warn(c.note, "path", target)
	}
	args := []any{"path", target, "removes", some(c.removed), "bytes", c.bytes}
	if len(c.kept) > 0 {
		args = append(args, "keeps", some(c.kept))
	}
	slog.Info("replacing an output", args...)
}

// some returns the first few names, as many as fit on a line.
func some(names []string) string {
	const most = 8
	text := strings.Join(names[:min(most, len(names))], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// settle checks how the kept files of the folder old fit with the new one in dir. A file that is in both with the same
// contents need not be kept; any other name that is in both is an error.
func (c contents) settle(old, dir string) (contents, error) {
	var kept []string
	for _, name := range c.kept {
		from, to := filepath.Join(old, filepath.FromSlash(name)), filepath.Join(dir, filepath.FromSlash(name))
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			kept = append(kept, name)
			continue
		}
		if !sameFile(from, to) {
			return c, fmt.Errorf("its %s is not part of the old output, and the new one has a file of that name; move it elsewhere", name)
		}
		c.removed = append(c.removed, name)
	}
	c.kept = kept
	return c, nil
}

// sameFile reports whether a and b are regular files with the same contents.
func sameFile(a, b string) bool {
	infoA, errA := os.Lstat(a)
	infoB, errB := os.Lstat(b)
	if errA != nil || errB != nil || !infoA.Mode().IsRegular() || !infoB.Mode().IsRegular() || infoA.Size() != infoB.Size() {
		return false
	}
	f, errA := os.Open(a)
	g, errB := os.Open(b)
	if errA != nil || errB != nil {
		return false
	}
	defer f.Close()
	defer g.Close()
	return equalBytes(f, g)
}

// equalBytes reports whether the rest of f equals the rest of g.
func equalBytes(f, g io.Reader) bool {
	const chunk = 1 << 16
	a, b := make([]byte, chunk), make([]byte, chunk)
	for {
		n, errA := io.ReadFull(f, a)
		m, errB := io.ReadFull(g, b)
		if !bytes.Equal(a[:n], b[:m]) || errA != errB {
			return false
		}
		if errA != nil {
			return errA == io.EOF || errA == io.ErrUnexpectedEOF
		}
	}
}

// moveAll moves the named entries from one folder to the other, all of them or none. Nothing is overwritten.
func moveAll(from, to string, names []string) (err error) {
	var done []string
	for _, name := range names {
		if err = move(from, to, name); err != nil {
			break
		}
		done = append(done, name)
	}
	if err == nil {
		return nil
	}
	for _, name := range done {
		err = errors.Join(err, move(to, from, name))
	}
	return err
}

func move(from, to, name string) error {
	name = filepath.FromSlash(name)
	target := filepath.Join(to, name)
	if _, err := os.Lstat(target); err == nil {
		return fmt.Errorf("%s: is in the way of a file that was there before", target)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o777); err != nil {
		return err
	}
	return os.Rename(filepath.Join(from, name), target)
}
