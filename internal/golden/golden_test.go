package golden_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/configs"
	"gqa/convert"
	"gqa/internal/cpu/nn"
	"gqa/internal/cpu/simd"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/engine/spago"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// onEveryPath runs f once for each set of kernels that this machine has.
func onEveryPath(t *testing.T, f func(t *testing.T)) {
	before := simd.Path()
	t.Cleanup(func() { simd.SetPath(before) })
	for _, path := range simd.Paths() {
		if err := simd.SetPath(path); err != nil {
			t.Fatal(err)
		}
		t.Run("kernels="+path, f)
	}
}

// form is a checkpoint of a case and its results.
type form struct {
	name   string // of the logits
	arch   *configs.Arch
	all    map[string][]float32
	logits []float32
}

func TestLogits(t *testing.T) {
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			forms, best := formsOf(t, c), simd.Path()
			onEveryPath(t, func(t *testing.T) {
				for i, f := range forms {
					if i < 2 || simd.Path() == best { // whole and grouped is enough for the others
						checkLogits(t, c, f)
					}
				}
			})
		})
	}
}

// formsOf opens a case as it is, and converts it to each number of groups in each way.
func formsOf(t *testing.T, c *golden.Case) (forms []form) {
	add := func(dir, name string) {
		src, all := golden.Load(t, dir)
		forms = append(forms, form{name, src.Arch, all, c.Floats(t, name)})
	}
	add(c.Dir, "logits_mha")
	for _, g := range c.Groups() {
		for _, target := range []convert.Target{convert.Native, convert.Expanded} {
			o := convert.Options{Goal: convert.Groups(g), Method: convert.Mean, Target: target}
			add(convertTo(t, c.Dir, o), fmt.Sprintf("logits_g%d", g))
		}
	}
	return forms
}

// checkLogits compares both engines, and decoding through the cache, with transformers.
func checkLogits(t *testing.T, c *golden.Case, f form) {
	t.Helper()
	batch, name, want := c.Batch(), f.name, f.logits
	d := infer.New(cpu.New(), f.arch, f.all)
	compare(t, name+" by decode", d.Logits(batch).F32(), want)

	params, err := spago.NewParams(cpu.New(), f.arch, model.FromMap(f.arch, f.all))
	if err != nil {
		t.Fatal(err)
	}
	e, m := spago.New(cpu.New()), params.Model(f.arch)
	compare(t, name+" by spago", e.Values(m.Logits(e, m.Hidden(e, batch))), want)

	if f.arch.Causal {
		checkSteps(t, c, d, name, want)
	}
}

// checkSteps compares what a prefill and the tokens after it, one at a time through the cache, give.
func checkSteps(t *testing.T, c *golden.Case, d *infer.Decoder, name string, want []float32) {
	t.Helper()
	batch, vocab := c.Batch(), d.Arch.Vocab
	after := func(i int) []float32 { return column(want, len(c.IDs), batch.Len, vocab, i) }
	if d.Arch.Rope.LongInvFreq() != nil { // a prefix has other logits than as a part of more
		after = func(i int) []float32 {
			prefix := d.Logits(ops.NewBatch(prefixes(c.IDs, i+1)...))
			return column(prefix.F32(), len(c.IDs), i+1, vocab, i)
		}
		compare(t, name+" of the longest prefix", after(batch.Len-1), column(want, len(c.IDs), batch.Len, vocab, batch.Len-1))
	}
	cache := d.NewCache(len(c.IDs), batch.Len)
	if batch.Source != nil {
		if err := d.Encode(cache, *batch.Source); err != nil {
			t.Fatal(err)
		}
	}
	prompt := 5
	first, err := d.Step(cache, flat(c.IDs, 0, prompt))
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Clone(first.F32())
	compare(t, name+" after a prefill", got, after(prompt-1))
	for i := prompt; i < batch.Len; i++ {
		logits, err := d.Step(cache, flat(c.IDs, i, i+1))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got[:0], logits.F32()...)
		compare(t, fmt.Sprintf("%s, token %d through the cache", name, i), got, after(i))
	}
}

// prefixes returns the first n tokens of every sequence.
func prefixes(seqs [][]int32, n int) [][]int32 {
	var out [][]int32
	for _, s := range seqs {
		out = append(out, s[:n])
	}
	return out
}

// flat returns tokens [lo, hi) of every sequence; column is row i of every sequence's logits.
func flat(seqs [][]int32, lo, hi int) []int32 {
	var ids []int32
	for _, s := range seqs {
		ids = append(ids, s[lo:hi]...)
	}
	return ids
}

func column(logits []float32, seqs, length, vocab, i int) []float32 {
	var out []float32
	for s := range seqs {
		out = append(out, logits[(s*length+i)*vocab:][:vocab]...)
	}
	return out
}

func compare(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range want {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= golden.Tolerance) {
			t.Fatalf("%s: value %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

func convertTo(t *testing.T, dir string, o convert.Options) string {
	t.Helper()
	src := golden.Open(t, dir)
	plan, err := convert.NewPlan(src, o)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := plan.Run(t.Context(), out, convert.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGradients compares the loss and the norm of its gradient with what transformers and PyTorch make of them: of the
// checkpoint as it is, and of its conversion to two groups where the class holds that.
func TestGradients(t *testing.T) {
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			grouped := ""
			if c.Has("train_loss") {
				grouped = convertTo(t, c.Dir, convert.Options{Goal: convert.Groups(2), Method: convert.Mean})
			}
			onEveryPath(t, func(t *testing.T) {
				if c.Has("train_loss_mha") {
					checkGradient(t, c, c.Dir, "_mha")
				}
				if grouped != "" {
					checkGradient(t, c, grouped, "")
				}
			})
		})
	}
}

func checkGradient(t *testing.T, c *golden.Case, dir, suffix string) {
	t.Helper()
	src, all := golden.Load(t, dir)
	params, err := spago.NewParams(cpu.New(), src.Arch, model.FromMap(src.Arch, all))
	if err != nil {
		t.Fatal(err)
	}
	var next []int32
	for _, ids := range c.IDs {
		next = append(append(next, ids[1:]...), -1)
	}
	e, m := spago.New(cpu.New()), params.Model(src.Arch)
	loss := e.LinearCrossEntropy(m.Hidden(e, ops.NewBatch(c.IDs...)), m.Head(), next, 1).Tensor
	value := loss.Item().F64()
	if err := e.Backward(loss); err != nil {
		t.Fatal(err)
	}
	squares := 0.0
	for _, p := range params.List {
		for _, g := range spago.Grad(p).F32() {
			squares += float64(g) * float64(g)
		}
	}
	for name, got := range map[string]float64{"train_loss": value, "grad_norm": math.Sqrt(squares)} {
		if want := float64(c.Floats(t, name+suffix)[0]); math.Abs(got-want) > 1e-4*want {
			t.Errorf("%s%s is %v, want %v", name, suffix, got, want)
		}
	}
}

// TestKnownKeys checks that every key written by transformers is known, so that warnings are meaningful.
func TestKnownKeys(t *testing.T) {
	for _, c := range golden.Cases(t) {
		if src, _ := golden.Load(t, c.Dir); src.Arch.Unknown != nil {
			t.Errorf("%s: unknown keys %q", c.Name, src.Arch.Unknown)
		}
	}
}

// TestNativeFiles compares native conversions with what the family's own class saved; a config.json that the
// class spells in another way than transformers, by its keys and values.
func TestNativeFiles(t *testing.T) {
	compared := 0
	for _, c := range golden.Cases(t) {
		for _, g := range c.Groups() {
			want := filepath.Join(c.Dir, fmt.Sprintf("gqa-g%d", g))
			if _, err := os.Stat(want); err == nil {
				compareFiles(t, c.Name, convertTo(t, c.Dir, convert.Options{Goal: convert.Groups(g), Method: convert.Mean}), want, g > 1)
				compared++
			}
		}
	}
	if compared == 0 {
		t.Fatal("no case has a gqa-gN")
	}
}

// compareFiles holds a conversion against what the class saved; config.json's keys are sorted and spelled as we write them.
// Means over many heads are not exact: PyTorch may sum them in another order.
func compareFiles(t *testing.T, name, got, want string, exact bool) {
	t.Helper()
	a, b := read(t, filepath.Join(got, "model.safetensors")), read(t, filepath.Join(want, "model.safetensors"))
	if same := bytes.Equal(a, b); !same && (exact || !sameTensors(a, b)) {
		t.Errorf("%s: model.safetensors differs from the class's", name)
	}
	rewritten, err := weights.RewriteConfig(read(t, filepath.Join(want, "config.json")), func(map[string]any) {})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, filepath.Join(got, "config.json")), rewritten) {
		t.Errorf("%s: config.json differs from the class's", name)
	}
}

// sameTensors compares two files of f32 tensors: headers byte by byte, values as far as f32 tells.
func sameTensors(a, b []byte) bool {
	header := 8 + int(binary.LittleEndian.Uint64(a))
	if len(a) != len(b) || !bytes.Equal(a[:header], b[:header]) {
		return false
	}
	for i := header; i < len(a); i += 4 {
		x := float64(math.Float32frombits(binary.LittleEndian.Uint32(a[i:])))
		y := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[i:])))
		if !(math.Abs(x-y) <= 1e-8+1e-6*math.Abs(y)) {
			return false
		}
	}
	return true
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestSample checks the embedded model against transformers: logits and a greedy continuation.
func TestSample(t *testing.T) {
	dir := filepath.Join(t.TempDir(), sample.Name)
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	src, all := golden.Load(t, dir)
	ref := golden.SampleReference(t)
	d := infer.New(cpu.New(), src.Arch, all)
	want, _ := tensor(t, ref, "logits").Float32(nil)
	compare(t, "logits", d.Logits(ops.NewBatch(ids(t, ref, "input_ids"))).F32(), want)

	greedy := ids(t, ref, "greedy_ids")
	const prompt = 32
	cache := d.NewCache(1, len(greedy))
	next := greedy[:prompt]
	for i := prompt; i < len(greedy); i++ {
		logits, err := d.Step(cache, next)
		if err != nil {
			t.Fatal(err)
		}
		best := make([]int32, 1)
		nn.ArgmaxRows(best, logits.F32(), 1, src.Arch.Vocab)
		if best[0] != greedy[i] {
			t.Fatalf("greedy token %d is %d, want %d", i, best[0], greedy[i])
		}
		next = best
	}
}

func tensor(t *testing.T, c *checkpoints.Checkpoint, name string) *checkpoints.Tensor {
	t.Helper()
	x, ok := c.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	return x
}

func ids(t *testing.T, c *checkpoints.Checkpoint, name string) []int32 {
	t.Helper()
	wide, err := tensor(t, c, name).Int64()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]int32, len(wide))
	for i, id := range wide {
		out[i] = int32(id)
	}
	return out
}
