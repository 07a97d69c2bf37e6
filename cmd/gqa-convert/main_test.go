package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/configs"
	"gqa/internal/cli"
	"gqa/internal/weights"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gqa-convert": func() { cli.Main(newRoot) }})
}

// TestScripts runs the scripts in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:       "testdata/script",
		Condition: mayMount,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sample": extractSample, "model": makeModel, "raw": makeRaw, "cut": cut, "refuse": refuse, "tensor": printTensor, "tensors": listTensors, "tmpfs": mount, "torch": makeTorch, "torchshards": makeTorchShards,
		},
	})
}

// extractSample implements the script command sample DIR, which writes the embedded model.
func extractSample(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(sample.Extract(ts.MkAbs(args[0])))
}

// makeModel implements the script command model DIR CONFIG [dtype=F16] [shard=BYTES] [drop=TENSOR] [add=TENSOR]
// [grow=TENSOR] [int8=TENSOR], which writes a checkpoint. Each element is the number of its row. add writes a new F32
// [2], grow adds a row to a tensor.
func makeModel(ts *testscript.TestScript, _ bool, args []string) {
	config := []byte(ts.ReadFile(args[1]))
	arch, err := configs.Resolve(config, "")
	ts.Check(err)
	tensors, err := arch.Tensors()
	ts.Check(err)
	dtype := checkpoints.F32
	var o checkpoints.WriteOptions
	edits := map[string]string{}
	for _, arg := range args[2:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "dtype":
			dtype, err = checkpoints.ParseDType(value)
		case "shard":
			o.ShardSize, err = strconv.ParseInt(value, 10, 64)
		default:
			edits[value] = key
		}
		ts.Check(err)
	}
	var specs []checkpoints.Spec
	for _, t := range tensors {
		specs = append(specs, checkpoints.Spec{Name: t.Name, DType: dtype, Shape: t.Shape})
	}
	specs = edit(specs, edits)
	dir := ts.MkAbs(args[0])
	ts.Check(checkpoints.Write(dir, specs, o, writeRowNumbers))
	ts.Check(os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666))
}

func edit(specs []checkpoints.Spec, edits map[string]string) []checkpoints.Spec {
	var edited []checkpoints.Spec
	for _, s := range specs {
		switch edits[s.Name] {
		case "drop":
			continue
		case "grow":
			s.Shape = slices.Clone(s.Shape)
			s.Shape[0]++
		case "int8":
			s.DType = checkpoints.I8
		}
		edited = append(edited, s)
	}
	for name, what := range edits {
		if what == "add" {
			edited = append(edited, checkpoints.Spec{Name: name, DType: checkpoints.F32, Shape: []int{2}})
		}
	}
	return edited
}

func writeRowNumbers(s checkpoints.Spec, w io.Writer) error {
	if !s.DType.IsFloat() {
		_, err := w.Write(make([]byte, s.Bytes()))
		return err
	}
	values := make([]float32, int(s.Bytes())/s.DType.Size())
	for i := range values {
		values[i] = float32(i * s.Shape[0] / len(values))
	}
	return weights.WriteFloats(w, values, s.DType)
}

// makeRaw implements the script command raw FILE HEADER DATA-BYTES [HEADER-LENGTH], which writes a safetensors file byte
// by byte.
func makeRaw(ts *testscript.TestScript, _ bool, args []string) {
	header := strings.TrimSpace(ts.ReadFile(args[1]))
	size, err := strconv.Atoi(args[2])
	ts.Check(err)
	length := uint64(len(header))
	if len(args) > 3 {
		length, err = strconv.ParseUint(args[3], 10, 64)
		ts.Check(err)
	}
	file := append(binary.LittleEndian.AppendUint64(nil, length), header...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(file, make([]byte, size)...), 0o666))
}

// cut implements the script command cut FILE BYTES, which removes bytes from the end of a file.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), info.Size()-n))
}

// refuse implements the script command refuse STATUS PATTERN ARGS..., which expects gqa-convert to fail: it must exit
// with that status, write one line to stderr and nothing to stdout, and leave every file and folder unchanged.
func refuse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: refuse STATUS PATTERN ARGS...")
	}
	before := tree(ts)
	err := ts.Exec("gqa-convert", args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("gqa-convert %s: %v, want exit status %s", strings.Join(args[2:], " "), err, args[0])
	}
	stderr := ts.ReadFile("stderr")
	pattern := regexp.MustCompile(`^gqa-convert: .*(` + args[1] + `).*\n$`) // . is not a newline
	if !pattern.MatchString(stderr) || ts.ReadFile("stdout") != "" {
		ts.Fatalf("want one line with %q on stderr and nothing on stdout", args[1])
	}
	if after := tree(ts); before != after {
		ts.Fatalf("files were:\n%sand are:\n%s", before, after)
	}
}

// tree lists the script's folders and files, the latter with sizes and modification times.
func tree(ts *testscript.TestScript) string {
	var list bytes.Buffer
	ts.Check(filepath.WalkDir(ts.Getenv("WORK"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&list, path)
		if !d.IsDir() { // a folder's own time may change: new files in it must have been removed
			fmt.Fprintln(&list, "\t", info.Size(), info.ModTime())
		}
		return nil
	}))
	return list.String()
}

// printTensor implements the script command tensor PATH NAME, which prints a tensor's values.
func printTensor(ts *testscript.TestScript, _ bool, args []string) {
	c, err := checkpoints.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer c.Close()
	t, ok := c.Tensor(args[1])
	if !ok {
		ts.Fatalf("%s has no tensor %s", args[0], args[1])
	}
	values, err := t.Float32(nil)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), t.DType, t.Shape, values)
}

// listTensors implements the script command tensors PATH, which prints the tensors in file order.
func listTensors(ts *testscript.TestScript, _ bool, args []string) {
	c, err := checkpoints.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer c.Close()
	for _, name := range c.Names() {
		t, _ := c.Tensor(name)
		fmt.Fprintln(ts.Stdout(), filepath.Base(t.File), name, t.DType, t.Shape)
	}
}

// mount implements the script command tmpfs DIR BYTES, which makes DIR a separate file system.
func mount(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o777))
	ts.Check(mountTmpfs(dir, args[1]))
	ts.Defer(func() { ts.Check(exec.Command("umount", dir).Run()) })
}

func mountTmpfs(dir, size string) error {
	return exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).Run()
}

// mayMount implements the script condition [tmpfs]: whether this process may mount one.
func mayMount(condition string) (bool, error) {
	if condition != "tmpfs" {
		return false, fmt.Errorf("unknown condition %q", condition)
	}
	dir, err := os.MkdirTemp("", "tmpfs")
	if err != nil {
		return false, err
	}
	defer os.Remove(dir)
	if mountTmpfs(dir, "4096") != nil {
		return false, nil
	}
	return true, exec.Command("umount", dir).Run()
}
