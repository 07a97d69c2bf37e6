package checkpoints

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints/torchtest"
)

// formats are the two formats of torch.save.
var formats = map[string]func(root any) []byte{
	"zip":    func(root any) []byte { return torchtest.Zip(root, nil) },
	"legacy": torchtest.Legacy,
}

func readBytes(file []byte) (*Checkpoint, error) {
	return Read("model.bin", bytes.NewReader(file), int64(len(file)))
}

// numbers returns n elements of width bytes; element i holds i.
func numbers(n, width int) []byte {
	var b []byte
	for i := range n {
		b = append(b, binary.LittleEndian.AppendUint64(nil, uint64(i))[:width]...)
	}
	return b
}

// wantTensor fails the test unless c has a tensor of that dtype and shape with those bytes.
func wantTensor(t *testing.T, c *Checkpoint, name string, d DType, shape []int, data []byte) {
	t.Helper()
	x, ok := c.Tensor(name)
	if !ok || x.DType != d || !slices.Equal(x.Shape, shape) || x.Bytes() != int64(len(data)) {
		t.Fatalf("tensor %q is %+v, want %v %v", name, x, d, shape)
	}
	if got, err := io.ReadAll(x.Open()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("tensor %q holds % x (%v), want % x", name, got, err, data)
	}
}

func TestTorchDTypes(t *testing.T) {
	for class, d := range torchStorages {
		if d == 0 {
			continue
		}
		data := numbers(6, d.Size())
		root := torchtest.Ordered{"a.weight", torchtest.Contiguous(class, d.Size(), data, 2, 3)}
		for format, write := range formats {
			c, err := readBytes(write(root))
			if err != nil {
				t.Fatalf("%s, %s: %v", format, class, err)
			}
			wantTensor(t, c, "a.weight", d, []int{2, 3}, data)
		}
	}
	for name, d := range torchDTypes { // of bytes without a type: newer dtypes have no class of storages
		data := numbers(6, d.Size())
		x := torchtest.Contiguous("UntypedStorage", 1, data, 3, 2)
		x.DType = name
		c, err := readBytes(torchtest.Zip(torchtest.Dict{"a", x}, nil))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantTensor(t, c, "a", d, []int{3, 2}, data)
	}
}

// TestTorchViews reads views of one storage of 24 elements, in which element i holds i.
func TestTorchViews(t *testing.T) {
	for name, v := range map[string]struct {
		offset        int
		shape, stride []int
		want          []int64
	}{
		"all":                   {0, []int{24}, []int{1}, sequence(0, 24)},
		"part":                  {5, []int{2, 3}, []int{3, 1}, sequence(5, 11)},
		"scalar":                {7, nil, nil, []int64{7}},
		"nothing":               {0, []int{3, 0}, []int{1, 1}, nil},
		"nothing, at the end":   {24, []int{0}, []int{1}, nil},
		"transposed":            {0, []int{4, 2}, []int{1, 4}, []int64{0, 4, 1, 5, 2, 6, 3, 7}},
		"columns":               {1, []int{3, 2}, []int{8, 1}, []int64{1, 2, 9, 10, 17, 18}},
		"every third":           {2, []int{4}, []int{3}, []int64{2, 5, 8, 11}},
		"permuted":              {0, []int{2, 2, 2}, []int{2, 12, 1}, []int64{0, 1, 12, 13, 2, 3, 14, 15}},
		"repeated":              {3, []int{2, 3}, []int{0, 1}, []int64{3, 4, 5, 3, 4, 5}},
		"strides of single dim": {4, []int{1, 3, 1}, []int{99, 1, -7}, []int64{4, 5, 6}},
		"strided single dim":    {4, []int{3, 1}, []int{2, 2}, []int64{4, 6, 8}},
	} {
		for format, write := range formats {
			t.Run(name+"/"+format, func(t *testing.T) {
				for _, class := range []string{"ShortStorage", "ByteStorage", "LongStorage"} {
					width := torchStorages[class].Size()
					s := &torchtest.Storage{Class: class, Width: width, Data: numbers(24, width)}
					view := &torchtest.Tensor{Storage: s, Offset: v.offset, Shape: v.shape, Stride: v.stride, Parameter: true}
					c, err := readBytes(write(torchtest.Ordered{"first", torchtest.Contiguous("CharStorage", 1, []byte{1}, 1), "view", view}))
					if err != nil {
						t.Fatal(err)
					}
					x, _ := c.Tensor("view")
					if got, err := x.Int64(); err != nil || !slices.Equal(got, v.want) {
						t.Errorf("%v (%v), want %v", got, err, v.want)
					}
				}
			})
		}
	}
}

func sequence(from, to int64) (s []int64) {
	for ; from < to; from++ {
		s = append(s, from)
	}
	return s
}

// TestStridedReadAt reads a transposed matrix, larger than what is gathered at a time, at odd places.
func TestStridedReadAt(t *testing.T) {
	const rows, cols, width = 300, 500, 2
	data := numbers(rows*cols, width)
	var want []byte
	for c := range cols {
		for r := range rows {
			want = append(want, data[(r*cols+c)*width:][:width]...)
		}
	}
	s := &strided{bytes.NewReader(data), 0, int64(len(data)), width, []int{cols, rows}, []int{1, cols}}
	for _, off := range []int{0, 1, 7777, len(data) - 3, len(data)} {
		for _, n := range []int{0, 1, 5, len(data)} {
			p := make([]byte, n)
			got, err := s.ReadAt(p, int64(off))
			if full := min(n, len(data)-off); got != full || !bytes.Equal(p[:full], want[off:off+full]) || (err == io.EOF) != (full < n) {
				t.Errorf("%d bytes at %d: read %d, %v", n, off, got, err)
			}
		}
	}
	if _, err := (&strided{bytes.NewReader(data[:9]), 0, 20, 2, []int{10}, []int{3}}).ReadAt(make([]byte, 20), 0); err == nil {
		t.Error("no error where the source ends early")
	}
}

// TestStridedAnyView reads parts of random views of up to four dimensions, and compares element by element.
func TestStridedAnyView(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	data := numbers(5000, 4)
	for range 300 {
		s := &strided{src: bytes.NewReader(data), width: 4, size: 4}
		for range r.IntN(5) {
			s.shape, s.stride = append(s.shape, 1+r.IntN(6)), append(s.stride, r.IntN(20))
			s.size *= int64(s.shape[len(s.shape)-1])
		}
		var want []byte
		for i := range int(s.size) / s.width {
			at := 0
			for d := len(s.shape) - 1; d >= 0; d-- {
				at += i % s.shape[d] * s.stride[d]
				i /= s.shape[d]
			}
			want = append(want, data[4*at:4*at+4]...)
		}
		off := r.IntN(len(want))
		got := make([]byte, r.IntN(len(want)-off+1))
		if n, err := s.ReadAt(got, int64(off)); n != len(got) || err != nil || !bytes.Equal(got, want[off:off+n]) {
			t.Fatalf("shape %v, strides %v: %d bytes at %d: % x (%v), want % x", s.shape, s.stride, len(got), off, got, err, want[off:off+n])
		}
	}
}

// TestTorchState reads what surrounds tensors: shared storages, wrappers, metadata.
func TestTorchState(t *testing.T) {
	data := numbers(4, 4)
	embed := torchtest.Contiguous("FloatStorage", 4, data, 2, 2)
	head := &torchtest.Tensor{Storage: embed.Storage, Shape: []int{2, 2}, Stride: []int{2, 1}, Parameter: true}
	state := torchtest.Ordered{"embed", embed, "head", head}
	old := torchtest.Call{Func: torchtest.Global{Module: "torch._utils", Name: "_rebuild_tensor"}, Args: torchtest.Tuple{embed.Storage, 0, torchtest.Tuple{2, 2}, torchtest.Tuple{2, 1}}}
	sized := torchtest.Call{Func: torchtest.Global{Module: "torch", Name: "Size"}, Args: torchtest.Tuple{torchtest.Tuple{2, 2}}}
	for name, root := range map[string]any{
		"tied":          state,
		"plain dict":    torchtest.Dict{"embed", embed, "head", head},
		"with metadata": torchtest.Build{Object: state, State: torchtest.Dict{"_metadata", torchtest.Ordered{"", torchtest.Dict{"version", 1}}}},
		"state_dict":    torchtest.Dict{"epoch", 3, "state_dict", state, "best", nil, "sizes", torchtest.List{sized}},
		"in two":        torchtest.Dict{"model", torchtest.Dict{"state_dict", state}, "optimizer", torchtest.Dict{"moment", embed}},
		"another wrapper": torchtest.Dict{
			"epoch", 3, "net", state, "args",
			torchtest.Dict{"lr", 1},
			"optimizer",
			torchtest.Dict{"state", torchtest.Dict{0, torchtest.Dict{"exp_avg", embed}}, "param_groups", torchtest.List{}},
		},
		"a wrapper in another": torchtest.Dict{"state", torchtest.Dict{"model", state, "step", 3}},
		"first rebuild":        torchtest.Dict{"embed", old, "head", old},
		"key given last":       torchtest.Dict{"embed", old, "head", embed, "head", head},
	} {
		for format, write := range formats {
			t.Run(name+"/"+format, func(t *testing.T) {
				c, err := readBytes(write(root))
				if name == "key given last" { // which a dict has once
					wantError(t, err, `tensor "head" is also in`)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(c.Names(), []string{"embed", "head"}) || len(c.Metadata) != 0 {
					t.Errorf("tensors %q, metadata %v", c.Names(), c.Metadata)
				}
				wantTensor(t, c, "embed", F32, []int{2, 2}, data)
				wantTensor(t, c, "head", F32, []int{2, 2}, data)
			})
		}
	}
}

// TestTorchLegacyPart reads a storage that is a part of another, as the oldest files have.
func TestTorchLegacyPart(t *testing.T) {
	data := numbers(10, 2)
	part := &torchtest.Storage{Class: "HalfStorage", Width: 2, Data: data, Key: "9", Part: torchtest.Tuple{"10", 3, 4}}
	c, err := readBytes(torchtest.Legacy(torchtest.Dict{"a", &torchtest.Tensor{Storage: part, Offset: 1, Shape: []int{3}, Stride: []int{1}}}))
	if err != nil {
		t.Fatal(err)
	}
	wantTensor(t, c, "a", F16, []int{3}, data[8:14])
}

// TestTorchFolder opens .bin files as folders have them.
func TestTorchFolder(t *testing.T) {
	file := func(name string) string {
		return string(torchtest.Zip(torchtest.Dict{name, torchtest.Contiguous("ByteStorage", 1, []byte{1}, 1)}, nil))
	}
	index := `{"metadata":{},"weight_map":{"a":"pytorch_model-00001-of-00002.bin","b":"pytorch_model-00002-of-00002.bin"}}`
	shards := map[string]string{torchIndexFile: index, "pytorch_model-00001-of-00002.bin": file("a"), "pytorch_model-00002-of-00002.bin": file("b")}
	for _, c := range []struct {
		files map[string]string
		path  string
		names []string
	}{
		{map[string]string{torchFileName: file("a"), "training_args.bin": "x"}, "", []string{"a"}},
		{map[string]string{torchFileName: file("a")}, torchFileName, []string{"a"}},
		{map[string]string{"consolidated.00.pth": file("a"), "rng_state.pth": ""}, "", []string{"a"}},
		{shards, "", []string{"a", "b"}},
		{shards, torchIndexFile, []string{"a", "b"}},
		{map[string]string{torchFileName: file("a"), weightsFile: shard("s")}, "", []string{"s"}},
		{map[string]string{torchFileName: file("a"), "x.safetensors": shard("s")}, "", []string{"s"}},
	} {
		dir := folder(t, c.files)
		if got := mustOpen(t, filepath.Join(dir, c.path)).Names(); !slices.Equal(got, c.names) {
			t.Errorf("tensors %q, want %q", got, c.names)
		}
	}
}

// TestTorchIsNotRead wants a large file opened without its storages being read.
func TestTorchIsNotRead(t *testing.T) {
	big := torchtest.Contiguous("ByteStorage", 1, make([]byte, 4<<20), 4<<20)
	for format, write := range formats {
		file := write(torchtest.Dict{"big", big})
		r := &counting{r: bytes.NewReader(file)}
		if _, err := Read("big", r, int64(len(file))); err != nil || r.n > 1<<20 {
			t.Errorf("%s: %d bytes of %d read (%v)", format, r.n, len(file), err)
		}
	}
}

type counting struct {
	r io.ReaderAt
	n int
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(b, off)
	c.n += n
	return n, err
}

// TestTorchTruncations cuts files of both formats at every byte: each must give an error.
func TestTorchTruncations(t *testing.T) {
	root := torchtest.Ordered{"a", torchtest.Contiguous("FloatStorage", 4, numbers(4, 4), 4)}
	for format, write := range formats {
		whole := write(root)
		for n := range len(whole) {
			if _, err := readBytes(whole[:n]); err == nil {
				t.Errorf("%s: no error after %d of %d bytes", format, n, len(whole))
			}
		}
	}
}

// TestTorchReference reads the files that PyTorch itself wrote into testdata/torch (make.py
// there), each beside a safetensors twin.
func TestTorchReference(t *testing.T) {
	twins, err := filepath.Glob("testdata/torch/*.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for _, twin := range twins {
		base := strings.TrimSuffix(twin, ".safetensors")
		files, err := filepath.Glob(base + ".*")
		if err != nil || len(files) < 2 {
			t.Errorf("%s has no other file beside it (%v)", twin, err)
		}
		want := mustOpen(t, twin)
		for _, path := range slices.DeleteFunc(files, func(p string) bool { return p == twin }) {
			t.Run(filepath.Base(path), func(t *testing.T) {
				got := mustOpen(t, path)
				if len(got.Names()) != len(want.Names()) {
					t.Errorf("tensors %q, want %q", got.Names(), want.Names())
				}
				for _, name := range want.Names() {
					x, _ := want.Tensor(name)
					data, err := io.ReadAll(x.Open())
					if err != nil {
						t.Fatal(err)
					}
					wantTensor(t, got, name, x.DType, x.Shape, data)
				}
			})
		}
	}
}

var corruptTorch = func() map[string]struct {
	file []byte
	want string
} {
	type test = struct {
		file []byte
		want string
	}
	storage := &torchtest.Storage{Class: "FloatStorage", Width: 4, Data: make([]byte, 16)}
	view := func(offset int, shape, stride []int) any {
		return torchtest.Dict{"a", &torchtest.Tensor{Storage: storage, Offset: offset, Shape: shape, Stride: stride}}
	}
	zipped := func(root any) []byte { return torchtest.Zip(root, nil) }
	good := view(0, []int{4}, []int{1})
	raw := func(ops string) []byte { return zipped(torchtest.Raw(ops)) }
	tests := map[string]test{
		"class":              {zipped(torchtest.Dict{"a", torchtest.Call{Func: torchtest.Global{Module: "os", Name: "system"}, Args: torchtest.Tuple{"true"}}}), `it holds "os.system", which is not part of a tensor, and code in checkpoints is never run`},
		"class by the stack": {raw("X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93"), `"os.system"`},
		"complex":            {zipped(torchtest.Dict{"a", torchtest.Contiguous("ComplexFloatStorage", 8, make([]byte, 8), 1)}), `"torch.ComplexFloatStorage"`},
		"one tensor":         {zipped(torchtest.Contiguous("ByteStorage", 1, []byte{1}, 1)), "it holds a single tensor, want a state dict"},
		"a number":           {zipped(3), "it holds a number, want a state dict"},
		"two states":         {zipped(torchtest.Dict{"net", torchtest.Dict{"a", torchtest.Contiguous("ByteStorage", 1, []byte{1}, 1)}, "ema", torchtest.Dict{"a", torchtest.Contiguous("ByteStorage", 1, []byte{1}, 1)}}), "it holds several dicts of tensors (net, ema): save only the model's"},
		"a number within":    {zipped(torchtest.Dict{"a", 3}), `"a" is a number, want a tensor`},
		"a number for a key": {zipped(torchtest.Dict{3, storage}), `has a number as a key, want the name of a tensor`},
		"key is not UTF-8":   {zipped(torchtest.Dict{"\xff", storage}), `a tensor named "\xff", a name that safetensors does not allow`},
		"wrapped in itself":  {raw("}q\x00X\x05\x00\x00\x00modelh\x00s"), "it holds nested dicts"},
		"list in itself":     {raw("]q\x00h\x00ah\x00)R"), "its pickle is malformed"},
		"odd dict":           {raw("}(K\x01u"), "its pickle is malformed"},
		"dict of a dict":     {raw("ccollections\nOrderedDict\n)R}(K\x01K\x02uK\x03s"), "has a dict as a key"},
		"empty stack":        {raw("000"), "its pickle is malformed"},
		"unknown opcode":     {raw("\xff"), "has the opcode 0xff"},
		"extension":          {raw("\x82\x01"), "has the opcode 0x82"},
		"huge string":        {raw("X\xff\xff\xff\x7f"), "wants 2147483647 bytes where only"},
		"huge bytes":         {raw("\x8e\xff\xff\xff\xff\xff\xff\xff\xff"), "wants 18446744073709551615 bytes"},
		"huge frame":         {raw("\x95\x00\x00\x00\x00\x00\x00\x00\x10"), "wants 1152921504606846976 bytes"},
		"huge number":        {raw("L" + strings.Repeat("9", 5000) + "L\n"), "has a line of more than 4096 bytes"},
		"empty number":       {raw("\x8a\x00"), "an integer of no bytes"},
		"marks":              {raw(strings.Repeat("(", 1<<20)), "far more memory than the size of the file justifies"},
		"no storage":         {zipped(torchtest.Dict{"a", torchtest.Persistent{ID: 3}}), "refers to something that is not a storage"},
		"storage of nothing": {zipped(torchtest.Dict{"a", torchtest.Persistent{ID: torchtest.Tuple{"storage", 1, 2, 3, 4}}}), "a storage without a class, key or size"},
		"storage missing": {torchtest.Archive(map[string]string{"m/data.pkl": string(torchtest.Pickle(torchtest.Dict{
			"a", torchtest.Persistent{ID: torchtest.Tuple{"storage", torchtest.Global{Module: "torch", Name: "ByteStorage"}, "../x", "cpu", 1}},
		}))}, zip.Store), `storage "m/data/../x": is missing`},
		"rebuilt of nothing": {zipped(torchtest.Dict{"a", torchtest.Call{Func: torchtest.Global{Module: "torch._utils", Name: "_rebuild_tensor_v2"}}}), "something other than storage, offset"},
		"storage too short":  {torchtest.Zip(good, map[string]string{"model/data/0": "abc"}), `tensor "a" ends at byte 16 of its storage, of which the file holds only 3`},
		"beyond storage":     {zipped(view(1, []int{4}, []int{1})), `tensor "a" reaches outside its storage of 4 elements: shape [4], strides [1], offset 1`},
		"before storage":     {zipped(view(-1, []int{4}, []int{1})), "reaches outside its storage"},
		"backwards":          {zipped(view(3, []int{4}, []int{-1})), "reaches outside its storage"},
		"stride overflows":   {zipped(view(0, []int{3}, []int{1 << 62})), "reaches outside its storage"},
		"offset overflows":   {zipped(view(1<<62, []int{1}, []int{1})), "reaches outside its storage"},
		"huge shape":         {zipped(view(0, []int{1 << 40, 1 << 40}, []int{0, 0})), "larger than the file of"},
		"repeated too often": {zipped(view(0, []int{1 << 30}, []int{0})), "larger than the file of"},
		"negative shape":     {zipped(view(0, []int{-4}, []int{1})), "has shape [-4]"},
		"few strides":        {zipped(view(0, []int{4, 1}, []int{1})), "has shape [4 1] and strides [1]"},
		"big-endian":         {torchtest.Zip(good, map[string]string{"model/byteorder": "big"}), `its byte order is "big", want little`},
		"TorchScript":        {torchtest.Zip(good, map[string]string{"model/constants.pkl": ""}), "TorchScript archive, which holds code"},
		"another zip":        {torchtest.Archive(map[string]string{"a.txt": "hi"}, zip.Store), "it is a zip without the data.pkl"},
		"compressed":         {torchtest.Archive(map[string]string{"m/data.pkl": strings.Repeat("0", 1000)}, zip.Deflate), `member "m/data.pkl" is compressed`},
		"another pickle":     {torchtest.Pickle(torchtest.Dict{"a", 1}), "it is a pickle that torch.save did not write"},
		"another version":    {slices.Concat([]byte(torchtest.LegacyMagic), torchtest.Pickle(1002)), "its format version is not 1001"},
		"legacy big-endian": {
			slices.Concat([]byte(torchtest.LegacyMagic), torchtest.Pickle(1001), torchtest.Pickle(torchtest.Dict{"little_endian", false})),
			"it was written by a big-endian machine",
		},
		"legacy, elements": {bytes.Replace(torchtest.Legacy(good), []byte("\x04\x00\x00\x00\x00\x00\x00\x00"), []byte("\x04\x00\x00\x00\x00\x00\x00\x70"), 1), `storage "0" has 8070450532247928836 elements`},
		"legacy, keys": {
			slices.Concat([]byte(torchtest.LegacyMagic), torchtest.Pickle(1001), torchtest.Pickle(torchtest.Dict{}), torchtest.Pickle(torchtest.Dict{}), torchtest.Pickle(torchtest.List{"7"})),
			`it holds the storage "7", which its pickle does not mention`,
		},
		"legacy, no keys": {
			slices.Concat([]byte(torchtest.LegacyMagic), torchtest.Pickle(1001), torchtest.Pickle(torchtest.Dict{}), torchtest.Pickle(torchtest.Dict{}), torchtest.Pickle(7)),
			"it holds a number, want the storages' keys",
		},
	}
	part := func(p any) []byte {
		s := &torchtest.Storage{Class: "FloatStorage", Width: 4, Data: make([]byte, 16), Key: "0", Part: p}
		return torchtest.Legacy(torchtest.Dict{"a", &torchtest.Tensor{Storage: s, Shape: []int{1}, Stride: []int{1}}})
	}
	for name, p := range map[string]any{"begin": torchtest.Tuple{"1", -1, 1}, "elements": torchtest.Tuple{"1", 0, -1}, "beyond": torchtest.Tuple{"1", 1 << 62, 1}, "text": "x"} {
		tests["legacy part, "+name] = test{part(p), `storage "0" is `}
	}
	tests["legacy part, outside"] = test{part(torchtest.Tuple{"1", 4, 1}), `tensor "a" ends at byte 4 of its storage, of which the file holds only 0`}
	return tests
}()

// TestCorruptTorch opens files that are each wrong in one way.
func TestCorruptTorch(t *testing.T) {
	for name, test := range corruptTorch {
		t.Run(name, func(t *testing.T) {
			_, err := readBytes(test.file)
			wantError(t, err, "model.bin: cannot read this PyTorch checkpoint: ", test.want)
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// TestTorchToSafetensors writes what a .bin file holds and opens it again.
func TestTorchToSafetensors(t *testing.T) {
	whole := mustOpen(t, "testdata/llama")
	state := torchtest.Ordered{}
	for i, name := range whole.Names() {
		x, _ := whole.Tensor(name)
		data, err := io.ReadAll(x.Open())
		if err != nil {
			t.Fatal(err)
		}
		stored := torchtest.Contiguous("FloatStorage", 4, data, x.Shape...)
		stored.Parameter = i%2 == 0
		state = append(state, name, stored)
	}
	for format, write := range formats {
		path := filepath.Join(t.TempDir(), torchFileName)
		if err := os.WriteFile(path, write(state), 0o666); err != nil {
			t.Fatal(err)
		}
		c := mustOpen(t, path)
		dir := t.TempDir()
		if err := Write(dir, specs(c), WriteOptions{Workers: 2}, copier(c)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(readFile(t, filepath.Join(dir, weightsFile)), readFile(t, "testdata/llama/model.safetensors")) {
			t.Errorf("%s: what is written differs from the safetensors file", format)
		}
	}
}
