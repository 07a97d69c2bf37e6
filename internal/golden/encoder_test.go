package golden_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"gqa/configs"
	"gqa/convert"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/engine/spago"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// The encoders that no reference case is of: T5 v1.0 with its scaled head, v1.1 with a head of its own, stacks of different
// depth, heads that do not divide the model's dim; UMT5, whose layers have biases of their own; and BERT with other sizes.
const (
	t5v10 = `{"model_type": "t5", "vocab_size": 40, "d_model": 20, "d_kv": 4, "num_heads": 6, "d_ff": 28, "num_layers": 2,
		"num_decoder_layers": 3, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12}`
	t5v11 = `{"model_type": "t5", "vocab_size": 40, "d_model": 20, "d_kv": 6, "num_heads": 6, "d_ff": 28, "num_layers": 3,
		"num_decoder_layers": 1, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, "decoder_start_token_id": 3}`
	umt5 = `{"model_type": "umt5", "vocab_size": 40, "d_model": 20, "d_kv": 4, "num_heads": 6, "d_ff": 28, "num_layers": 2,
		"num_decoder_layers": 3}`
	bertUntied = `{"model_type": "bert", "vocab_size": 40, "hidden_size": 24, "num_attention_heads": 6, "num_hidden_layers": 2,
		"intermediate_size": 28, "max_position_embeddings": 20, "tie_word_embeddings": false}`
	bertSmall = `{"model_type": "bert", "vocab_size": 40, "hidden_size": 24, "num_attention_heads": 6, "num_hidden_layers": 3,
		"intermediate_size": 28, "max_position_embeddings": 20, "hidden_act": "gelu_new"}`
)

var encoderConfigs = map[string]string{"T5 v1.0": t5v10, "T5 v1.1": t5v11, "UMT5": umt5, "BERT": bertSmall, "BERT untied": bertUntied}

// padded returns two sequences of 9 tokens, the second with two tokens of padding; with an encoder, the decoder reads 7.
func padded(a *configs.Arch) ops.Batch {
	r := rand.New(rand.NewPCG(7, 8))
	b := randomTokens(r, a.Vocab, 9)
	b.Lens = []int{9, 7}
	if a.EncoderLayers > 0 {
		source := b
		b = randomTokens(r, a.Vocab, 7)
		b.Source = &source
	}
	return b
}

// TestEncoders holds both engines, decoding through the caches, conversions of every site and padding against one another.
func TestEncoders(t *testing.T) {
	for name, config := range encoderConfigs {
		t.Run(name, func(t *testing.T) {
			dir := golden.Random(t, config)
			src, all := golden.Load(t, dir)
			whole := checkEngines(t, src.Arch, all)
			checkPadding(t, src.Arch, all, whole)
			for _, sites := range []convert.Sites{convert.DefaultSites, convert.AllSites} {
				var forms [2][]float32
				for i, target := range []convert.Target{convert.Native, convert.Expanded} {
					got, as := golden.Load(t, convertTo(t, dir, convert.Options{Goal: convert.Groups(3), Method: convert.Mean, Sites: sites, Target: target}))
					forms[i] = checkEngines(t, got.Arch, as)
				}
				compare(t, fmt.Sprintf("native and expanded, %s sites", sites), forms[0], forms[1])
				if same(forms[0], whole) {
					t.Errorf("%s sites: three groups give what six heads do", sites)
				}
			}
		})
	}
}

func same(a, b []float32) bool {
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 1e-3 {
			return false
		}
	}
	return true
}

// checkEngines returns the logits that both engines and the cache give.
func checkEngines(t *testing.T, a *configs.Arch, all map[string][]float32) []float32 {
	t.Helper()
	b, d := padded(a), infer.New(cpu.New(), a, all)
	want := append([]float32(nil), d.Logits(b).F32()...)
	params, err := spago.NewParams(cpu.New(), a, model.FromMap(a, all))
	if err != nil {
		t.Fatal(err)
	}
	e, m := spago.New(cpu.New()), params.Model(a)
	compare(t, "both engines", e.Values(m.Logits(e, m.Hidden(e, b))), want)
	if !a.Causal {
		return want
	}
	compare(t, "through the cache", throughCache(t, d, b), want)
	return want
}

// checkPadding reads the padded sequence without its padding.
func checkPadding(t *testing.T, a *configs.Arch, all map[string][]float32, want []float32) {
	t.Helper()
	b := padded(a)
	n := b.Lens
	read := &b
	if b.Source != nil {
		n, read = b.Source.Lens, b.Source
	}
	unpadded := ops.NewBatch(read.IDs[read.Len : read.Len+n[1]])
	short, rows := unpadded, n[1]
	if b.Source != nil {
		short, rows = ops.NewBatch(b.IDs[b.Len:]), b.Len
		short.Source = &unpadded
	}
	got := infer.New(cpu.New(), a, all).Logits(short).F32()
	compare(t, "without padding", got, want[b.Len*a.Vocab:][:rows*a.Vocab])
}

// TestOwnDistances: UMT5 with the same table in every layer is T5 v1.1.
func TestOwnDistances(t *testing.T) {
	const sizes = `"vocab_size": 40, "d_model": 20, "d_kv": 4, "num_heads": 6, "d_ff": 28, "num_layers": 2, "num_decoder_layers": 3`
	t5 := `{"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, ` + sizes + `}`
	src, all := golden.Load(t, golden.Random(t, t5))
	want := append([]float32(nil), infer.New(cpu.New(), src.Arch, all).Logits(padded(src.Arch)).F32()...)
	for _, prefix := range []string{"", configs.EncoderPrefix} {
		table := all[prefix+configs.ParamName(configs.Distances, -1, false)]
		for layer := range 3 {
			all[prefix+configs.ParamName(configs.Distances, layer, false)] = table
		}
	}
	arch := resolve(t, `{"model_type": "umt5", `+sizes+`}`)
	delete(all, configs.ParamName(configs.Distances, -1, false))
	delete(all, configs.EncoderPrefix+configs.ParamName(configs.Distances, -1, false))
	compare(t, "UMT5", infer.New(cpu.New(), arch, all).Logits(padded(arch)).F32(), want)
}

// TestCopiedHead: older releases saved T5's tied head beside the embedding; it is not trained apart.
func TestCopiedHead(t *testing.T) {
	dir := golden.Random(t, t5v11)
	src, all := golden.Load(t, dir)
	if src.Arch.Tied {
		t.Fatal("a head of its own is tied")
	}
	want := infer.New(cpu.New(), src.Arch, all).Logits(padded(src.Arch)).F32()
	all[configs.ParamName(configs.Head, -1, false)] = all[configs.ParamName(configs.Embed, -1, false)]
	copied, weights := golden.Load(t, write(t, src, all))
	if !copied.Arch.Tied || weights[configs.ParamName(configs.Head, -1, false)] != nil {
		t.Error("a copy of the embedding is a head of its own")
	}
	got := infer.New(cpu.New(), copied.Arch, weights).Logits(padded(src.Arch)).F32()
	if same(got, want) {
		t.Error("the head does not count")
	}
	compare(t, "tied", got, infer.New(cpu.New(), src.Arch, all).Logits(padded(src.Arch)).F32())
}

// TestScaledHead: T5 v1.0 divides the head's input by the square root of the model's dim; v1.1's config.json turns this off.
func TestScaledHead(t *testing.T) {
	dir := golden.Random(t, t5v10)
	src, all := golden.Load(t, dir)
	plain := *src.Arch
	plain.LogitScale = 1
	want := infer.New(cpu.New(), &plain, all).Logits(padded(src.Arch)).F32()
	for i := range want {
		want[i] /= float32(math.Sqrt(20))
	}
	compare(t, "scaled", infer.New(cpu.New(), src.Arch, all).Logits(padded(src.Arch)).F32(), want)
	if resolve(t, t5v11).LogitScale != 1 {
		t.Error("v1.1 scales its head's input")
	}
}

// TestEncoderGradients compares the gradient of every tensor with a central difference of the loss along it.
func TestEncoderGradients(t *testing.T) {
	for name, config := range encoderConfigs {
		t.Run(name, func(t *testing.T) {
			dir := convertTo(t, golden.Random(t, config), convert.Options{Goal: convert.Groups(2), Method: convert.Mean, Sites: convert.AllSites})
			src, all := golden.Load(t, dir)
			params, err := spago.NewParams(cpu.New(), src.Arch, model.FromMap(src.Arch, all))
			if err != nil {
				t.Fatal(err)
			}
			e, m, b := spago.New(cpu.New()), params.Model(src.Arch), padded(src.Arch)
			targets := make([]int32, len(b.IDs))
			for i := range targets {
				targets[i] = int32(i*7%src.Arch.Vocab) - int32(i%3/2)*100
			}
			loss := func() float64 { return e.LinearCrossEntropy(m.Hidden(e, b), m.Head(), targets, 1).Tensor.Item().F64() }
			if err := e.Backward(e.LinearCrossEntropy(m.Hidden(e, b), m.Head(), targets, 1).Tensor); err != nil {
				t.Fatal(err)
			}
			for i, p := range params.List {
				checkAlong(t, params.Names[i], spago.Data(p).F32(), spago.Grad(p).F32(), func() (l float64) {
					e.NoGrad(func() { l = loss() })
					e.Reset()
					return l
				})
			}
		})
	}
}

// checkAlong moves w along its gradient, whose norm is then the slope of the loss.
func checkAlong(t *testing.T, name string, w, grad []float32, loss func() float64) {
	t.Helper()
	norm := 0.0
	for _, g := range grad {
		norm += float64(g) * float64(g)
	}
	if norm = math.Sqrt(norm); grad == nil || norm < 1e-4 {
		// A key's bias adds the same to all scores of a query, which the softmax takes away.
		if !isKeyBias(name) {
			t.Errorf("%s has a gradient of norm %g", name, norm)
		}
		return
	}
	before := append([]float32(nil), w...)
	move := func(h float64) float64 {
		for i, g := range grad {
			w[i] = before[i] + float32(h*float64(g)/norm)
		}
		return loss()
	}
	const h = 2e-3
	slope := (move(h) - move(-h)) / (2 * h)
	copy(w, before)
	if math.Abs(slope-norm) > 0.02*norm+1e-3 {
		t.Errorf("%s: the loss rises by %g along a gradient of norm %g", name, slope, norm)
	}
}

func isKeyBias(name string) bool {
	ok, _ := filepath.Match("layers.*.k.bias", name)
	return ok
}
