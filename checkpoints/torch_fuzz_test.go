package checkpoints

import (
	"archive/zip"
	"bytes"
	"strings"
	"testing"

	"gqa/checkpoints/torchtest"
	"gqa/internal/alloc"
)

// anyTorch reads a file: a clean error or tensors that can be written, using no more memory than the file justifies.
func anyTorch(t *testing.T, file []byte) {
	t.Helper()
	var c *Checkpoint
	var err error
	if n := alloc.Bytes(func() { c, err = readBytes(file) }); n > 4<<20+100*len(file) {
		t.Fatalf("%d bytes allocated for a file of %d", n, len(file))
	}
	if err != nil {
		if !strings.HasPrefix(err.Error(), "model.bin: ") || strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
			t.Fatalf("error %q", err)
		}
		return
	}
	total := int64(0)
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		if x.Bytes() > int64(len(file)) {
			t.Fatalf("tensor %q has %d bytes, the file %d", name, x.Bytes(), len(file))
		}
		total += x.Bytes()
	}
	if total > 1<<20 { // many names of the same bytes: legal, and slow
		return
	}
	once := encoded(t, c)
	again, err := Read("once", bytes.NewReader(once), int64(len(once)))
	if err != nil {
		t.Fatal(err)
	}
	same(t, c, again)
}

// FuzzTorch reads arbitrary bytes as a file of torch.save.
func FuzzTorch(f *testing.F) {
	root := torchtest.Ordered{
		"a", torchtest.Contiguous("BFloat16Storage", 2, numbers(6, 2), 2, 3),
		"b", &torchtest.Tensor{Storage: &torchtest.Storage{Class: "FloatStorage", Width: 4, Data: numbers(6, 4)}, Offset: 1, Shape: []int{2, 2}, Stride: []int{1, 2}, Parameter: true},
	}
	for _, write := range formats {
		f.Add(write(root))
	}
	for _, test := range corruptTorch {
		if len(test.file) < 10_000 {
			f.Add(test.file)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if start := file[:min(len(file), 512)]; isTorch(start) { // else it is FuzzHeader's
			anyTorch(t, file)
		}
	})
}

// FuzzPickle puts any pickle into a zip with one storage.
func FuzzPickle(f *testing.F) {
	storage := &torchtest.Storage{Class: "FloatStorage", Width: 4, Data: make([]byte, 64), Key: "0"}
	id := torchtest.Tuple{"storage", torchtest.Global{Module: "torch", Name: "FloatStorage"}, "0", "cpu", 16}
	view := func(shape, stride torchtest.Tuple) torchtest.Call {
		return torchtest.Call{Func: torchtest.Global{Module: "torch._utils", Name: "_rebuild_tensor_v2"}, Args: torchtest.Tuple{torchtest.Persistent{ID: id}, 0, shape, stride}}
	}
	for _, root := range []any{
		torchtest.Dict{"a", view(torchtest.Tuple{4, 4}, torchtest.Tuple{1, 4}), "b", view(torchtest.Tuple{}, torchtest.Tuple{})},
		torchtest.Build{Object: torchtest.Ordered{"a", view(torchtest.Tuple{16}, torchtest.Tuple{1})}, State: torchtest.Dict{"_metadata", nil}},
		torchtest.Dict{"state_dict", torchtest.Ordered{"a", view(torchtest.Tuple{2, 0}, torchtest.Tuple{1, 1})}, "n", torchtest.List{1, "x", true, 1 << 40}},
		torchtest.Raw("}q\x00X\x05\x00\x00\x00modelh\x00s"),
		torchtest.Raw("]q\x00h\x00ah\x00)R"),
		torchtest.Raw("\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94h\x00a"),
	} {
		f.Add(torchtest.Pickle(root))
	}
	f.Fuzz(func(t *testing.T, pickle []byte) {
		anyTorch(t, torchtest.Archive(map[string]string{"m/data.pkl": string(pickle), "m/data/0": string(storage.Data)}, zip.Store))
	})
}
