// Package torchtest writes files as torch.save does, for tests: anything that a pickle can express,
// including what PyTorch would never write.
package torchtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Values of a pickle besides nil, bool, int and string.
type (
	// Global is a class or function, "torch.FloatStorage".
	Global struct{ Module, Name string }
	// Tuple is a tuple.
	Tuple []any
	// List is a list.
	List []any
	// Dict is a dict: alternating keys and values.
	Dict []any
	// Ordered is an OrderedDict: alternating keys and values.
	Ordered []any
	// Call is a function called with arguments.
	Call struct {
		Func any
		Args Tuple
	}
	// Build is an object whose state is set after its creation.
	Build struct{ Object, State any }
	// Persistent is an object stored outside the pickle, by its ID.
	Persistent struct{ ID any }
	// Raw is opcodes, written unchanged.
	Raw string
)

// Pickle writes v in protocol 2.
func Pickle(v any) []byte {
	p := &pickler{}
	return p.pickle(v)
}

// pickler writes pickles and records the storages that they refer to.
type pickler struct {
	bytes.Buffer
	legacy   bool
	storages []*Storage // in order of appearance
}

func (p *pickler) pickle(v any) []byte {
	p.WriteString("\x80\x02")
	p.value(v)
	p.WriteByte('.')
	return p.Bytes()
}

func (p *pickler) value(v any) {
	switch v := v.(type) {
	case nil:
		p.WriteByte('N')
	case bool:
		p.WriteByte(map[bool]byte{true: '\x88', false: '\x89'}[v])
	case int:
		p.integer(v)
	case string:
		p.WriteByte('X')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(v))))
		p.WriteString(v)
	case Raw:
		p.WriteString(string(v))
	case Global:
		fmt.Fprintf(p, "c%s\n%s\n", v.Module, v.Name)
	case Tuple:
		p.items("(", v, "t")
	case List:
		p.items("](", v, "e")
	case Dict:
		p.items("}(", v, "u")
	case Ordered:
		p.items("ccollections\nOrderedDict\n)R(", v, "u")
	case Call:
		p.value(v.Func)
		p.items("(", v.Args, "tR")
	case Build:
		p.value(v.Object)
		p.value(v.State)
		p.WriteByte('b')
	case Persistent:
		p.value(v.ID)
		p.WriteByte('Q')
	case *Storage:
		p.storage(v)
	case *Tensor:
		p.value(v.call())
	default:
		panic(fmt.Sprintf("torchtest: %T", v))
	}
}

func (p *pickler) integer(v int) {
	if v == int(int32(v)) {
		p.WriteByte('J')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(v)))
		return
	}
	p.WriteString("\x8a\x08")
	p.Write(binary.LittleEndian.AppendUint64(nil, uint64(v)))
}

func (p *pickler) items(before string, items []any, after string) {
	p.WriteString(before)
	for _, item := range items {
		p.value(item)
	}
	p.WriteString(after)
}
