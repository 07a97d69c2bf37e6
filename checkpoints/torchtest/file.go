package torchtest

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Storage holds the elements of tensors.
type Storage struct {
	Class string // "FloatStorage"
	Width int    // bytes of an element
	Data  []byte
	Key   string // given when it is written, if empty
	Part  any    // of a legacy file: nil, or Tuple{key, begin, elements}
}

// Tensor is a view of a storage, in elements.
type Tensor struct {
	*Storage
	Offset        int
	Shape, Stride []int
	DType         string // if not empty, it is rebuilt with this dtype: "float8_e5m2"
	Parameter     bool   // wrapped in a torch.nn.Parameter
}

// Contiguous returns a tensor that covers a whole new storage.
func Contiguous(class string, width int, data []byte, shape ...int) *Tensor {
	stride, step := make([]int, len(shape)), 1
	for i := len(shape) - 1; i >= 0; i-- {
		stride[i] = step
		step *= shape[i]
	}
	return &Tensor{Storage: &Storage{Class: class, Width: width, Data: data}, Shape: shape, Stride: stride}
}

// call returns the call that PyTorch pickles for the tensor.
func (t *Tensor) call() Call {
	args := Tuple{t.Storage, t.Offset, ints(t.Shape), ints(t.Stride), false, Ordered{}}
	name := "_rebuild_tensor_v2"
	if t.DType != "" {
		name, args = "_rebuild_tensor_v3", append(args, Global{"torch", t.DType})
	}
	made := Call{Global{"torch._utils", name}, args}
	if t.Parameter {
		made = Call{Global{"torch._utils", "_rebuild_parameter"}, Tuple{made, true, Ordered{}}}
	}
	return made
}

func ints(values []int) Tuple {
	tuple := make(Tuple, len(values))
	for i, v := range values {
		tuple[i] = v
	}
	return tuple
}

// storage writes a storage's persistent id.
func (p *pickler) storage(s *Storage) {
	if !slices.Contains(p.storages, s) {
		p.storages = append(p.storages, s)
		if s.Key == "" {
			s.Key = fmt.Sprint(len(p.storages) - 1)
		}
	}
	module := "torch"
	if s.Class == "UntypedStorage" {
		module = "torch.storage"
	}
	id := Tuple{"storage", Global{module, s.Class}, s.Key, "cpu", len(s.Data) / s.Width}
	if p.legacy {
		id = append(id, s.Part)
	}
	p.value(Persistent{id})
}

// Zip returns a file as torch.save has written it since 1.6; members replace or extend those of the zip.
func Zip(root any, members map[string]string) []byte {
	p := &pickler{}
	all := map[string]string{"model/data.pkl": string(p.pickle(root)), "model/byteorder": "little", "model/version": "3\n"}
	for _, s := range p.storages {
		all["model/data/"+s.Key] = string(s.Data)
	}
	for name, data := range members {
		all[name] = data
	}
	return Archive(all, zip.Store)
}

// Archive returns a zip with these members, stored with method.
func Archive(members map[string]string, method uint16) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range members {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err == nil {
			_, err = w.Write([]byte(data))
		}
		if err != nil {
			panic(err) // writing to memory
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// LegacyMagic is the pickle at the start of a file written before 1.6.
const LegacyMagic = "\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

// Legacy returns a file as torch.save wrote it before 1.6.
func Legacy(root any) []byte {
	p := &pickler{legacy: true}
	value := p.pickle(root)
	keys := List{}
	var data []byte
	seen := map[string]bool{}
	for _, s := range p.storages {
		if seen[s.Key] { // another part of it
			continue
		}
		seen[s.Key] = true
		keys = append(keys, s.Key)
		data = binary.LittleEndian.AppendUint64(data, uint64(len(s.Data)/s.Width))
		data = append(data, s.Data...)
	}
	machine := Dict{"protocol_version", 1001, "little_endian", true, "type_sizes", Dict{"short", 2, "int", 4, "long", 4}}
	return slices.Concat([]byte(LegacyMagic), Pickle(1001), Pickle(machine), value, Pickle(keys), data)
}
