package checkpoints

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
)

// Limits on the memory that loading a pickle may take, estimated roughly: a fixed part, plus the second for each byte
// of the file, and never more than the last.
const (
	pickleMemory        = 1 << 20
	pickleMemoryPerByte = 32
	maxPickleMemory     = 1 << 30
)

// unpickler loads pickles from one file. It never runs code: a pickle is a program for a machine that makes numbers,
// strings, tuples, lists and dicts, and calls only what class and persistent return.
type unpickler struct {
	src  io.ReaderAt
	size int64 // size of src, bytes
	// class returns a stand-in for a Python class or function.
	class func(module, name string) (any, error)
	// persistent returns a stand-in for an object stored outside the pickle.
	persistent func(id any) (any, error)
}

// load loads the pickle that begins at off and ends no later than end, and returns its end. It scans the pickle first:
// one that would take more memory than the file justifies, or uses opcodes that no PyTorch file has, is rejected before
// anything is allocated.
func (u *unpickler) load(off, end int64) (value any, next int64, err error) {
	s := pickleScan{
		r:      bufio.NewReader(io.NewSectionReader(u.src, off, end-off)),
		left:   end - off,
		memory: min(pickleMemory+pickleMemoryPerByte*u.size, maxPickleMemory),
	}
	if err := s.scan(); err != nil {
		return nil, 0, err
	}
	next = end - s.left
	value, err = u.run(io.NewSectionReader(u.src, off, next-off))
	return value, next, err
}

// run runs a pickle that has been scanned. The pickle machine trusts its input and may panic; run turns a panic into an
// error.
func (u *unpickler) run(r io.Reader) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its pickle is malformed (%s)", oneLine(fmt.Sprint(p)))
		}
	}()
	vm := pickle.NewUnpickler(bufio.NewReader(r))
	vm.FindClass = u.class
	vm.PersistentLoad = u.persistent
	value, err = vm.Load()
	var known *torchError
	if err != nil && !errors.As(err, &known) {
		err = fmt.Errorf("its pickle is malformed (%s)", oneLine(err.Error()))
	}
	return value, err
}

// oneLine shortens an error text caused by a damaged file.
func oneLine(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
}

// argument describes how an opcode's argument is encoded: a fixed number of bytes if positive, else one of the
// constants below.
type argument int8

const (
	line      argument = -1 - iota // up to a newline
	twoLines                       // a module and a name
	counted1                       // a one-byte length, then that many bytes
	counted4                       // a four-byte length
	counted8                       // an eight-byte length
	unusable                       // not used by any PyTorch file
	maxLine   = 4096               // bytes
	perOpcode = 32                 // estimated bytes of memory
	perObject = 256                // for an opcode that makes a container
)

// opcodes maps the opcodes that PyTorch files use, in protocols 0 to 5, to their arguments.
var opcodes = func() (table [256]argument) {
	for i := range table {
		table[i] = unusable
	}
	for kind, codes := range map[argument]string{
		0:        "(.012NQRabdelstu)}]\x81\x85\x86\x87\x88\x89\x93\x94",
		1:        "Khq\x80",
		2:        "M",
		4:        "Jjr",
		8:        "G\x95",
		line:     "FILSVgp",
		twoLines: "c",
		counted1: "U\x8aC\x8c",
		counted4: "TXB",
		counted8: "\x8d\x8e",
	} {
		for i := range len(codes) {
			table[codes[i]] = kind
		}
	}
	return table
}()

// containers are the opcodes that make or fill a container.
const containers = "(dlt)}]R\x81\x85\x86\x87"

// pickleScan scans one pickle without running it.
type pickleScan struct {
	r            *bufio.Reader
	left, memory int64 // bytes
	word         [8]byte
}

func (s *pickleScan) scan() error {
	for {
		n, err := s.take(1)
		if err != nil {
			return err
		}
		op := byte(n)
		s.memory -= perOpcode
		if strings.IndexByte(containers, op) >= 0 {
			s.memory -= perObject
		}
		if s.memory < 0 {
			return errors.New("its pickle needs far more memory than the size of the file justifies")
		}
		if err := s.argument(op); err != nil {
			return err
		}
		if op == '.' {
			return nil
		}
	}
}

// argument skips an opcode's argument.
func (s *pickleScan) argument(op byte) error {
	switch kind := opcodes[op]; kind {
	case unusable:
		return fmt.Errorf("its pickle has the opcode 0x%02x, which no PyTorch checkpoint has", op)
	case twoLines:
		if err := s.line(); err != nil {
			return err
		}
		return s.line()
	case line:
		return s.line()
	case counted1, counted4, counted8:
		return s.counted(map[argument]int{counted1: 1, counted4: 4, counted8: 8}[kind], op)
	default:
		n, err := s.take(int(kind))
		if err == nil && op == 0x95 { // a frame: its bytes are scanned as opcodes
			err = s.fits(n)
		}
		return err
	}
}

// counted skips a length and that many bytes.
func (s *pickleScan) counted(width int, op byte) error {
	n, err := s.take(width)
	if err != nil {
		return err
	}
	if op == 0x8a && n == 0 { // a zero-length integer, which no writer produces
		return errors.New("its pickle has an integer of no bytes")
	}
	if err := s.fits(n); err != nil {
		return err
	}
	_, err = s.r.Discard(int(n))
	s.left -= int64(n)
	return err
}

func (s *pickleScan) fits(n uint64) error {
	if n > uint64(s.left) {
		return fmt.Errorf("its pickle wants %d bytes where only %d follow: it is truncated", n, s.left)
	}
	return nil
}

// take returns the next n bytes, at most 8, as a number.
func (s *pickleScan) take(n int) (uint64, error) {
	if err := s.fits(uint64(n)); err != nil {
		return 0, err
	}
	clear(s.word[:])
	_, err := io.ReadFull(s.r, s.word[:n])
	s.left -= int64(n)
	return binary.LittleEndian.Uint64(s.word[:]), err
}

func (s *pickleScan) line() error {
	for range maxLine {
		b, err := s.take(1)
		if err != nil || b == '\n' {
			return err
		}
	}
	return fmt.Errorf("its pickle has a line of more than %d bytes", maxLine)
}
