package checkpoints

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// writer writes the files of a checkpoint.
type writer struct {
	dir   string
	files []*os.File
	laid  [][]part // the parts of each file
}

// part is one tensor to be written: its spec and where its bytes go.
type part struct {
	spec Spec
	file io.WriterAt
	at   int64 // offset in file, bytes
}

// add creates a file, which must not exist, and writes its header.
func (w *writer) add(name string, specs []Spec, metadata map[string]string) error {
	path := filepath.Join(w.dir, name)
	head, err := encodeHeader(specs, metadata)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	w.files = append(w.files, f)
	parts, err := begin(f, head, specs)
	w.laid = append(w.laid, parts)
	return err
}

// begin writes a header and returns the positions of the tensors that follow it.
func begin(f io.WriterAt, head []byte, specs []Spec) ([]part, error) {
	if _, err := f.WriteAt(head, 0); err != nil {
		return nil, err
	}
	parts, at := make([]part, len(specs)), int64(len(head))
	for i, s := range specs {
		parts[i] = part{s, f, at}
		at += s.Bytes()
	}
	return parts, nil
}

// parts lists all tensors: file by file for one worker; for several workers taking turns between the files, since the
// system lets only one of them write to a file at a time.
func (w *writer) parts(workers int) []part {
	var all []part
	for i, left := 0, true; left && workers > 1; i++ {
		left = false
		for _, parts := range w.laid {
			if i < len(parts) {
				all, left = append(all, parts[i]), true
			}
		}
	}
	if workers > 1 {
		return all
	}
	for _, parts := range w.laid {
		all = append(all, parts...)
	}
	return all
}

// close closes the files and removes them if err is not nil or closing fails.
func (w *writer) close(err error) error {
	for _, f := range w.files {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		for _, f := range w.files {
			os.Remove(f.Name())
		}
	}
	return err
}

// writeParts writes the bytes of parts, with the given number of workers, until one fails.
func writeParts(parts []part, workers int, data func(Spec, io.Writer) error) error {
	var next atomic.Int64
	var failed atomic.Bool
	work := func() error {
		w := newTensorWriter()
		for !failed.Load() {
			i := int(next.Add(1)) - 1
			if i >= len(parts) {
				break
			}
			if err := w.write(parts[i], data); err != nil {
				failed.Store(true)
				return err
			}
		}
		return nil
	}
	errs := make([]error, max(1, min(workers, len(parts))))
	var group sync.WaitGroup
	for i := range errs[1:] {
		group.Go(func() { errs[i+1] = work() })
	}
	errs[0] = work()
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tensorWriter writes the bytes of one tensor in order, and refuses more bytes than it has.
type tensorWriter struct {
	part       // at advances as bytes leave buf
	left int64 // bytes that data may still write
	buf  *bufio.Writer
}

func newTensorWriter() *tensorWriter {
	t := &tensorWriter{}
	t.buf = bufio.NewWriterSize((*cursor)(t), chunkBytes)
	return t
}

// write writes one whole tensor.
func (t *tensorWriter) write(p part, data func(Spec, io.Writer) error) error {
	t.part, t.left = p, p.spec.Bytes()
	err := data(p.spec, t)
	var beyond rangeError
	if errors.As(err, &beyond) {
		return fmt.Errorf("tensor %q %w", p.spec.Name, beyond)
	}
	if err != nil {
		return err
	}
	if t.left != 0 {
		return fmt.Errorf("tensor %q: %d bytes were written, want %d (%v %v)", p.spec.Name, p.spec.Bytes()-t.left, p.spec.Bytes(), p.spec.DType, p.spec.Shape)
	}
	return t.buf.Flush()
}

func (t *tensorWriter) Write(b []byte) (int, error) {
	if err := t.claim(int64(len(b))); err != nil {
		return 0, err
	}
	return t.buf.Write(b)
}

// claim accounts for n bytes that are about to be written.
func (t *tensorWriter) claim(n int64) error {
	if n > t.left {
		return fmt.Errorf("tensor %q: more than its %d bytes (%v %v) were written", t.spec.Name, t.spec.Bytes(), t.spec.DType, t.spec.Shape)
	}
	t.left -= n
	return nil
}

// copyFrom writes n bytes of src from offset off. From file to file, the kernel copies as much as it can without a pass
// through user memory.
func (t *tensorWriter) copyFrom(src io.ReaderAt, off, n int64) error {
	if err := t.claim(n); err != nil {
		return err
	}
	if err := t.buf.Flush(); err != nil {
		return err
	}
	to, ok := t.file.(*os.File)
	from, ok2 := src.(*os.File)
	if ok && ok2 {
		done := copyFileRange(to, t.at, from, off, n)
		t.at, off, n = t.at+done, off+done, n-done
	}
	m, err := io.Copy(t.buf, io.NewSectionReader(src, off, n))
	if err == nil && m < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// cursor is the io.Writer below a tensorWriter's buffer: a position in a file.
type cursor tensorWriter

func (c *cursor) Write(b []byte) (int, error) {
	n, err := c.file.WriteAt(b, c.at)
	c.at += int64(n)
	return n, err
}

// WriteLaid writes the file path, which must not exist, in a format of the caller's: head, then the tensors in order,
// each padded with zeros to a multiple of align bytes. workers and data are as in [WriteOptions] and [Write]. On an
// error the file is removed.
func WriteLaid(path string, head []byte, specs []Spec, align int64, workers int, data func(Spec, io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	w := &writer{files: []*os.File{f}}
	defer func() { err = w.close(err) }()
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	parts, at := make([]part, len(specs)), int64(len(head))
	for i, s := range specs {
		parts[i] = part{s, f, at}
		at += (s.Bytes() + align - 1) / align * align
	}
	if err := f.Truncate(at); err != nil { // fills the gaps with zeros
		return err
	}
	return writeParts(parts, workers, data)
}
