package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"gqa/checkpoints"
	"gqa/checkpoints/torchtest"
)

// makeTorch implements the script command torch MODEL FILE zip|legacy [code], which writes a model's tensors as
// torch.save does. code adds an object that a function makes.
func makeTorch(ts *testscript.TestScript, _ bool, args []string) {
	c, err := checkpoints.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer c.Close()
	state := torchtest.Ordered{}
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		data, err := io.ReadAll(x.Open())
		ts.Check(err)
		class := map[checkpoints.DType]string{checkpoints.F32: "FloatStorage", checkpoints.F16: "HalfStorage", checkpoints.BF16: "BFloat16Storage"}[x.DType]
		state = append(state, name, torchtest.Contiguous(class, x.DType.Size(), data, x.Shape...))
	}
	if len(args) > 3 {
		state = append(state, "trainer", torchtest.Call{Func: torchtest.Global{Module: "os", Name: "system"}, Args: torchtest.Tuple{"touch ran"}})
	}
	file := torchtest.Legacy(state)
	if args[2] == "zip" {
		file = torchtest.Zip(state, nil)
	}
	path := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o777))
	ts.Check(os.WriteFile(path, file, 0o666))
}

// makeTorchShards implements the script command torchshards MODEL DIR, which writes each shard of a model as a .bin file,
// with their index.
func makeTorchShards(ts *testscript.TestScript, _ bool, args []string) {
	from := ts.MkAbs(args[0])
	c, err := checkpoints.Open(from)
	ts.Check(err)
	ts.Check(c.Close())
	for _, file := range c.Files {
		to := fmt.Sprintf("%s/pytorch_%s.bin", args[1], strings.TrimSuffix(file, ".safetensors"))
		makeTorch(ts, false, []string{filepath.Join(args[0], file), to, "zip"})
	}
	index := strings.NewReplacer(".safetensors", ".bin", "model-", "pytorch_model-").Replace(ts.ReadFile(filepath.Join(args[0], c.Index)))
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[1]), "pytorch_model.bin.index.json"), []byte(index), 0o666))
}
