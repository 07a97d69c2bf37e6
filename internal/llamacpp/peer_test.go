//go:build llamacpp

// These tests run llama.cpp beside this toolkit on the same files. LLAMA_CPP names a llama.cpp checkout that is built into
// build/ (from February 2025 on; later releases load more):
//
//	LLAMA_CPP=/path/to/llama.cpp LLAMA_TEXT=held-out.txt go test -tags llamacpp ./internal/llamacpp -v
package llamacpp_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/configs"
	"gqa/convert"
	"gqa/internal/activation"
	"gqa/internal/cpu/nn"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/gguftest"
	"gqa/internal/golden"
	"gqa/internal/llamacpp"
	"gqa/internal/ops"
	"gqa/internal/tokenizer"
	"gqa/internal/weights"
)

// root returns llama.cpp's folder.
func root(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("LLAMA_CPP")
	if dir == "" {
		t.Fatal("LLAMA_CPP must name a built llama.cpp checkout")
	}
	return dir
}

// build compiles testdata/peer.c against llama.cpp's library.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		return "", err
	}
	llama, out := os.Getenv("LLAMA_CPP"), filepath.Join(dir, "peer")
	lib := filepath.Join(llama, "build", "bin")
	said, err := exec.Command("cc", "-O1", "testdata/peer.c", "-I", filepath.Join(llama, "include"), "-I", filepath.Join(llama, "ggml", "include"),
		"-L", lib, "-Wl,-rpath,"+lib, "-lllama", "-lggml", "-lggml-base", "-o", out).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, said)
	}
	return out, nil
})

// peer runs llama.cpp on a file; input is its standard input.
func peer(t *testing.T, input, model, mode string, ids ...int32) []byte {
	t.Helper()
	out, said := try(t, input, model, mode, ids...)
	if said != "" {
		t.Fatalf("llama.cpp on %s: %s", model, said)
	}
	return out
}

// try is like peer, but llama.cpp may fail; said is its message.
func try(t *testing.T, input, model, mode string, ids ...int32) (out []byte, said string) {
	t.Helper()
	root(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{model, mode}
	for _, id := range ids {
		args = append(args, strings.Replace(strconv.Itoa(int(id)), "-1", "-", 1))
	}
	cmd := exec.Command(bin, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &stderr
	if out, err = cmd.Output(); err != nil {
		return nil, fmt.Sprintf("%v: %s", err, &stderr)
	}
	return out, ""
}

func floats(raw []byte) []float32 {
	values := make([]float32, len(raw)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return values
}

// toGGUF converts a checkpoint and returns the file, and the remarks on it: notes, or why llama.cpp cannot load it.
func toGGUF(t *testing.T, dir string, o convert.Options) (file string, notes []string) {
	t.Helper()
	src := golden.Open(t, dir)
	o.Method, o.Target = convert.Mean, convert.GGUF
	plan, err := convert.NewPlan(src, o)
	if errors.As(err, new(llamacpp.UngroupedError)) {
		return toGGUF(t, expand(t, src, o), convert.Options{Goal: convert.Groups(src.Arch.Heads), DType: o.DType})
	}
	if err != nil {
		return "", []string{err.Error()}
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := plan.Run(t.Context(), out, convert.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, n := range plan.Notes() {
		notes = append(notes, n.String())
	}
	return filepath.Join(out, "model.gguf"), notes
}

// expand writes the conversion with its KV heads repeated.
func expand(t *testing.T, src *weights.Source, o convert.Options) string {
	t.Helper()
	o.Target = convert.Expanded
	plan, err := convert.NewPlan(src, o)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "expanded")
	if _, err := plan.Run(t.Context(), out, convert.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return out
}

// tolerance returns what llama.cpp's arithmetic leaves: it has gelu in its tanh form only, and reads it off a table in half
// precision. T5 has two stacks of it, and scores that are not scaled.
func tolerance(a *configs.Arch) float64 {
	switch {
	case a.Activation != activation.GELU && a.Activation != activation.GELUTanh:
		return 2e-4
	case a.EncoderLayers > 0:
		return 4e-2
	}
	return 1e-2
}

// tooOld reports whether notes require a later release than may be installed.
func tooOld(notes []string) bool {
	return strings.Contains(strings.Join(notes, " "), "loads in llama.cpp from")
}

// TestLogits: llama.cpp's logits are those of transformers, for every family that it holds and every number of groups. A
// release that does not support a family yet says so, and so do the notes.
func TestLogits(t *testing.T) {
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			checkLogits(t, c, arch(t, c.Dir).KVHeads, "logits_mha")
			for _, g := range c.Groups() {
				checkLogits(t, c, g, fmt.Sprintf("logits_g%d", g))
			}
		})
	}
}

func checkLogits(t *testing.T, c *golden.Case, groups int, want string) {
	t.Helper()
	file, notes := toGGUF(t, c.Dir, convert.Options{Goal: convert.Groups(groups)})
	if file == "" {
		t.Log(notes)
		return
	}
	if !arch(t, c.Dir).Causal {
		return // llama.cpp gives no logits: see TestEmbeddings
	}
	seq, all := len(c.IDs[0]), c.Floats(t, want)
	vocab := len(all) / len(c.IDs) / seq
	read := min(seq, contextOf(t, file))
	for i, ids := range c.IDs {
		raw, said := try(t, "", file, "logits", behind(c, i, ids[:read])...)
		if said != "" && tooOld(notes) {
			t.Log(said)
			return
		} else if said != "" {
			t.Fatal(said)
		}
		compare(t, want, floats(raw), all[i*seq*vocab:][:read*vocab], tolerance(arch(t, c.Dir)))
	}
}

// dash separates the input of an encoder from that of its decoder.
const dash int32 = -1

// behind returns ids of the case's sequence i, after the encoder's input, if there is an encoder.
func behind(c *golden.Case, i int, ids []int32) []int32 {
	if c.Source == nil {
		return ids
	}
	return slices.Concat(c.Source[i], []int32{dash}, ids)
}

func arch(t *testing.T, dir string) *configs.Arch {
	t.Helper()
	src := golden.Open(t, dir)
	return src.Arch
}

func compare(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	t.Logf("%s: largest difference %.2g", what, worst)
	if !(worst <= tolerance) {
		t.Errorf("%s differs by %g, want %g at most", what, worst, tolerance)
	}
}

// sampleModel returns the embedded model in a folder.
func sampleModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), sample.Name)
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestGreedy: the sample's most probable continuation is ours, token for token, in every dtype and with fewer KV heads.
func TestGreedy(t *testing.T) {
	dir := sampleModel(t)
	prompts := []string{"func main() {\n", "package main\n\nimport", "// Read reads", "type Server struct {\n\t"}
	for _, o := range []convert.Options{
		{Goal: convert.Groups(8), DType: checkpoints.F32}, {Goal: convert.Groups(8), DType: checkpoints.BF16}, {Goal: convert.Groups(2), DType: checkpoints.F32}, {Goal: convert.Groups(1), DType: checkpoints.F32},
	} {
		file, _ := toGGUF(t, dir, o)
		m := ours(t, dir, o)
		for _, prompt := range prompts {
			const tokens = 48
			want := m.greedy(t, encode(m.tok, prompt), tokens)
			got := integers(t, peer(t, prompt, file, "greedy", tokens))
			if !slices.Equal(got, want) {
				t.Errorf("%d groups, %v, after %q:\n%v, want\n%v", o.Goal.Groups(), o.DType, prompt, got, want)
			}
		}
	}
}

// TestGreedyOfCases: so is that of every golden case and number of groups that llama.cpp holds, 32 tokens from the case's on,
// or as far as both are the same model.
func TestGreedyOfCases(t *testing.T) {
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			for _, g := range append(c.Groups(), arch(t, c.Dir).KVHeads) {
				checkGreedy(t, c, g)
			}
		})
	}
}

func checkGreedy(t *testing.T, c *golden.Case, groups int) {
	t.Helper()
	o := convert.Options{Goal: convert.Groups(groups)}
	file, notes := toGGUF(t, c.Dir, o)
	if file == "" || !arch(t, c.Dir).Causal {
		t.Log(notes)
		return
	}
	m, limit := ours(t, c.Dir, o), contextOf(t, file)
	for i, prompt := range c.IDs {
		prompt = prompt[:min(len(prompt), limit/2)]
		if r := m.arch.Rope; r.Type == "longrope" && len(prompt) < int(r.OriginalContext) {
			limit = min(limit, int(r.OriginalContext))
		}
		tokens := min(32, limit-len(prompt))
		out, said := try(t, "", file, "greedy", append([]int32{int32(tokens)}, behind(c, i, prompt)...)...)
		if said != "" && tooOld(notes) {
			t.Log(said)
			return
		} else if said != "" {
			t.Fatal(said)
		}
		got := integers(t, out)
		if len(got) != tokens {
			t.Fatalf("%d tokens, want %d", len(got), tokens)
		}
		if c.Source != nil {
			m.source = c.Source[i]
		}
		m.follow(t, prompt, got, tolerance(m.arch))
	}
}

func contextOf(t *testing.T, file string) int {
	t.Helper()
	f, err := gguftest.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return int(f.Keys[f.Keys["general.architecture"].(string)+".context_length"].(uint32))
}

// running is a loaded conversion.
type running struct {
	arch   *configs.Arch
	engine *infer.Decoder
	all    map[string][]float32
	tok    *tokenizer.Tokenizer // nil if there is none
	source []int32              // what the encoder reads, if there is one
}

func ours(t *testing.T, dir string, o convert.Options) running {
	t.Helper()
	src := golden.Open(t, dir)
	o.Method, o.Target = convert.Mean, convert.Own
	plan, err := convert.NewPlan(src, o)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := plan.Run(t.Context(), out, convert.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	result, all := golden.Load(t, out)
	tok, err := tokenizer.Load(out)
	if err != nil && !errors.Is(err, tokenizer.ErrNotFound) {
		t.Fatal(err)
	}
	return running{arch: result.Arch, engine: infer.New(cpu.New(), result.Arch, all), all: all, tok: tok}
}

func (r running) greedy(t *testing.T, next []int32, n int) []int32 {
	t.Helper()
	got := []int32{}
	cache := r.engine.NewCache(1, len(next)+n)
	for range n {
		logits, err := r.engine.Step(cache, next)
		if err != nil {
			t.Fatal(err)
		}
		best := make([]int32, 1)
		nn.ArgmaxRows(best, logits.F32(), 1, r.arch.Vocab)
		got, next = append(got, best[0]), best
	}
	return got
}

// follow reads the prompt and tokens: each is our most probable one too, or its logit is as large but for what llama.cpp's
// arithmetic leaves.
func (r running) follow(t *testing.T, prompt, tokens []int32, tolerance float64) {
	t.Helper()
	cache, next, ties := r.engine.NewCache(1, len(prompt)+len(tokens)), prompt, 0
	if r.source != nil {
		r.engine.Encode(cache, ops.NewBatch(r.source))
	}
	for i, token := range tokens {
		logits, err := r.engine.Step(cache, next)
		if err != nil {
			t.Fatal(err)
		}
		lead := slices.Max(logits.F32()[:r.arch.Vocab]) - logits.F32()[token]
		if !(float64(lead) <= tolerance) {
			t.Errorf("%d KV heads, token %d after %v is %d, %g below ours", r.arch.KVHeads, i, prompt, token, lead)
			return
		}
		if lead > 0 {
			ties++
		}
		next = []int32{token}
	}
	t.Logf("%d KV heads: %d tokens, %d of them ties", r.arch.KVHeads, len(tokens), ties)
}

func integers(t *testing.T, lines []byte) []int32 {
	t.Helper()
	var all []int32
	for _, field := range strings.Fields(string(lines)) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, int32(n))
	}
	return all
}

// TestTokens: llama.cpp cuts texts into our tokens, with the sample's tokenizer and with one of each kind.
func TestTokens(t *testing.T) {
	texts := []string{
		"", "func (r *Reader) Read(p []byte) (n int, err error) {\n\treturn 0, io.EOF\n}\n", " leading space", "trailing space ", "a  b   c\n\n\nd",
		"don't we'll I'VE", "the word hello world", "naïve café — 世界 🚀", "x=1234567 + 89.5", "ünï\tcödé\r\n", "...!?", "HELLO hello Hello",
	}
	dirs := map[string]string{"sample": sampleModel(t)}
	for _, name := range []string{"llama2", "llama3", "gemma", "neox", "bloom", "falcon", "t5", "bert"} {
		dirs[name] = withTokenizer(t, name)
	}
	dirs["t5's spiece.model"] = withSpiece(t, "t5", "T5Tokenizer")
	dirs["llama2's tokenizer.model"] = withSpiece(t, "llama2", "LlamaTokenizer")
	for name, dir := range dirs {
		t.Run(name, func(t *testing.T) {
			file, notes := toGGUF(t, dir, convert.Options{Goal: convert.Groups(1)})
			if file == "" {
				t.Fatal(notes)
			}
			tok, err := tokenizer.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range texts {
				if name == "t5" && strings.HasPrefix(s, " ") {
					continue // as the notes say
				}
				if got, want := integers(t, peer(t, s, file, "tokenize")), encode(tok, s); !slices.Equal(got, want) {
					t.Errorf("%q is %v, want %v", s, got, want)
				}
			}
		})
	}
}

// withTokenizer returns a golden llama whose embedding has rows enough for a tokenizer of the text package's tests.
func withTokenizer(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../internal/tokenizer/testdata/tokenizers/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if name == "llama2" {
		data = complete(t, data)
	}
	config := []byte(`{"model_type": "llama", "vocab_size": 512, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
		"num_attention_heads": 4, "max_position_embeddings": 64}`)
	a, err := configs.Resolve(config, "")
	if err != nil {
		t.Fatal(err)
	}
	params, err := a.Params()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]float32{}
	for _, p := range params {
		all[p.Name] = make([]float32, p.Size())
	}
	dir := filepath.Join(t.TempDir(), name)
	if err := weights.Write(dir, a, checkpoints.F32, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{"config.json": config, "tokenizer.json": data} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// withSpiece is like withTokenizer, but with only a SentencePiece model.
func withSpiece(t *testing.T, name, class string) string {
	t.Helper()
	dir := withTokenizer(t, name)
	model, err := os.ReadFile("../../internal/tokenizer/testdata/spiece/" + name + ".model")
	if err != nil {
		t.Fatal(err)
	}
	config := []byte(`{"tokenizer_class": "` + class + `"}`)
	err = errors.Join(os.Remove(filepath.Join(dir, "tokenizer.json")),
		os.WriteFile(filepath.Join(dir, "spiece.model"), model, 0o666), os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), config, 0o666))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// complete gives a tokenizer.json all merges of its tokens, by id and then by what they join, as transformers does for a model
// that SentencePiece trained; and takes out what llama.cpp does not have, a token that only stands alone.
func complete(t *testing.T, data []byte) []byte {
	t.Helper()
	var f map[string]any
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	model := f["model"].(map[string]any)
	vocab := model["vocab"].(map[string]any)
	id := func(s string) float64 { return vocab[s].(float64) }
	merges := [][2]string{}
	for whole := range vocab {
		for i := range whole {
			_, left := vocab[whole[:i]]
			if _, right := vocab[whole[i:]]; left && right && !strings.HasPrefix(whole, "<") {
				merges = append(merges, [2]string{whole[:i], whole[i:]})
			}
		}
	}
	slices.SortFunc(merges, func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(id(a[0]+a[1]), id(b[0]+b[1])), cmp.Compare(id(a[0]), id(b[0])))
	})
	model["merges"] = merges
	added := f["added_tokens"].([]any)
	f["added_tokens"] = slices.DeleteFunc(added, func(a any) bool { return a.(map[string]any)["single_word"].(bool) })
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestPerplexity: llama-perplexity's figure for the sample on LLAMA_TEXT (the corpus's held-out text, say) is that of our model
// over the same tokens: windows of 512 that do not overlap, the second half of each scored, as that program does.
func TestPerplexity(t *testing.T) {
	path := os.Getenv("LLAMA_TEXT")
	if path == "" {
		t.Fatal("LLAMA_TEXT must name a text")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// llama-perplexity reads special tokens as text, and drops the last line's end: neither is left.
	data = []byte(strings.TrimRight(strings.ReplaceAll(string(data[:min(len(data), 40_000)]), "<|endoftext|>", "\n"), "\n"))
	short := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(short, data, 0o666); err != nil {
		t.Fatal(err)
	}
	dir := sampleModel(t)
	for _, groups := range []int{8, 4} {
		o := convert.Options{Goal: convert.Groups(groups), DType: checkpoints.F32}
		file, _ := toGGUF(t, dir, o)
		out, err := exec.Command(filepath.Join(root(t), "build", "bin", "llama-perplexity"), "-m", file, "-f", short, "-c", "512", "-t", "2").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		match := regexp.MustCompile(`Final estimate: PPL = ([0-9.]+)`).FindSubmatch(out)
		if match == nil {
			t.Fatalf("no figure in %s", out)
		}
		theirs, _ := strconv.ParseFloat(string(match[1]), 64)
		mine := ours(t, dir, o).perplexity(string(data), 512)
		t.Logf("%d KV heads: llama.cpp %.4f, ours %.4f", groups, theirs, mine)
		if d := theirs/mine - 1; !(math.Abs(d) < 0.01) {
			t.Errorf("perplexity differs by %.2f%%", 100*d)
		}
	}
}

// encode encodes with a tokenizer whose patterns and normalizers are known to terminate.
func encode(tok *tokenizer.Tokenizer, s string) []int32 {
	ids, err := tok.Encode(s)
	if err != nil {
		panic(err)
	}
	return ids
}

// perplexity scores the second half of each whole window of n tokens.
func (r running) perplexity(s string, n int) float64 {
	ids := encode(r.tok, s)
	var sum float64
	count := 0
	for ; len(ids) >= n; ids = ids[n:] {
		logits := r.engine.Logits(ops.NewBatch(ids[:n])).F32()
		for i := n / 2; i < n-1; i++ {
			row := logits[i*r.arch.Vocab:][:r.arch.Vocab]
			sum += logSumExp(row) - float64(row[ids[i+1]])
			count++
		}
	}
	return math.Exp(sum / float64(count))
}

func logSumExp(x []float32) float64 {
	top, sum := float64(slices.Max(x)), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

// TestPerLayer: layers with KV heads of their own, in llama.cpp's deci, give the logits that they give here.
func TestPerLayer(t *testing.T) {
	dir := sampleModel(t)
	o := convert.Options{Goal: convert.GroupsPerLayer(8, 4, 2, 1), DType: checkpoints.F32}
	file, _ := toGGUF(t, dir, o)
	m := ours(t, dir, o)
	ids := encode(m.tok, "func main() {\n\tfmt.Println(\"hello\")\n}\n")
	compare(t, "logits", floats(peer(t, "", file, "logits", ids...)), m.engine.Logits(ops.NewBatch(ids)).F32(), 5e-4)
}

// The encoder-decoders that no golden case is of: T5 v1.0, whose logits are scaled and whose head is the embedding, and UMT5,
// whose layers have tables of their own.
var encoderDecoders = map[string]string{
	"t5 v1.0": `{"model_type": "t5", "vocab_size": 48, "d_model": 24, "d_kv": 4, "num_heads": 4, "d_ff": 28, "num_layers": 2}`,
	"umt5":    `{"model_type": "umt5", "vocab_size": 48, "d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": 28, "num_layers": 2, "tie_word_embeddings": false}`,
}

// TestEncoderDecoders: llama.cpp's logits are ours over more tokens than distances are told apart for, with as many KV heads as
// heads and with fewer, repeated.
func TestEncoderDecoders(t *testing.T) {
	for name, config := range encoderDecoders {
		t.Run(name, func(t *testing.T) {
			dir := golden.Random(t, config)
			for _, groups := range []int{4, 2, 1} {
				o := convert.Options{Goal: convert.Groups(groups)}
				file, notes := toGGUF(t, dir, o)
				if file == "" {
					t.Fatal(notes)
				}
				m, r := ours(t, dir, o), rand.New(rand.NewPCG(1, 2))
				source, target := draw(r, 200, m.arch.Vocab), draw(r, 160, m.arch.Vocab)
				b, read := ops.NewBatch(target), ops.NewBatch(source)
				b.Source = &read
				raw := peer(t, "", file, "logits", slices.Concat(source, []int32{dash}, target)...)
				compare(t, fmt.Sprintf("%d groups", groups), floats(raw), m.engine.Logits(b).F32(), tolerance(m.arch))
			}
		})
	}
}

// TestEmbeddings: for an encoder alone llama.cpp returns the last hidden states. Our head must give the same for them as for ours.
func TestEmbeddings(t *testing.T) {
	c := golden.Named(t, "bert")
	for _, groups := range append(c.Groups(), 8) {
		o := convert.Options{Goal: convert.Groups(groups)}
		file, notes := toGGUF(t, c.Dir, o)
		if file == "" {
			t.Fatal(notes)
		}
		m := ours(t, c.Dir, o)
		for _, ids := range c.IDs {
			raw, said := try(t, "", file, "hidden", ids...)
			if said != "" && tooOld(notes) {
				t.Log(said)
				continue
			} else if said != "" {
				t.Fatal(said)
			}
			compare(t, fmt.Sprintf("%d groups", groups), transformed(m.arch, m.all, floats(raw)), m.engine.Hidden(ops.NewBatch(ids)).F32(), tolerance(m.arch))
		}
	}
}

// transformed returns hidden states [tokens, dim] as BERT's language-modelling head reads them: norm(gelu(x·Wᵀ + b)).
func transformed(a *configs.Arch, all map[string][]float32, hidden []float32) []float32 {
	w, b, gain, shift := all["head_dense.weight"], all["head_dense.bias"], all["head_norm.weight"], all["head_norm.bias"]
	out := make([]float32, len(hidden))
	for t := 0; t < len(hidden); t += a.Dim {
		var mean, square float64
		row := make([]float64, a.Dim)
		for i := range row {
			y := float64(b[i])
			for j := range a.Dim {
				y += float64(w[i*a.Dim+j]) * float64(hidden[t+j])
			}
			row[i] = y / 2 * (1 + math.Erf(y/math.Sqrt2))
			mean += row[i] / float64(a.Dim)
			square += row[i] * row[i] / float64(a.Dim)
		}
		for i, y := range row {
			out[t+i] = float32((y-mean)/math.Sqrt(square-mean*mean+a.NormEps))*gain[i] + shift[i]
		}
	}
	return out
}

func draw(r *rand.Rand, n, vocab int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = r.Int32N(int32(vocab))
	}
	return ids
}
