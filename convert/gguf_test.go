package convert

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert/target"
	"gqa/internal/gguftest"
	"gqa/internal/golden"
	"gqa/internal/llamacpp"
)

// toGGUF converts and reads the file back.
func toGGUF(t *testing.T, dir string, o Options) *gguftest.File {
	t.Helper()
	o.Target = GGUF
	if o.Method == "" {
		o.Method = Mean
	}
	src := golden.Open(t, dir)
	p, err := NewPlan(src, o)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := p.Run(t.Context(), out, RunOptions{}); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(out); err != nil || len(entries) != 2 {
		t.Errorf("%v (%v), want model.gguf and conversion.json", entries, err)
	}
	f, err := gguftest.Read(filepath.Join(out, target.GGUFFile))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ggufParts are the weights that a tensor of a GGUF file is made of, by the last part of its name.
var ggufParts = map[string][]string{
	"token_embd": {"embed"}, "position_embd": {"positions"}, "output_norm": {"final_norm"}, "output": {"head"},
	"attn_norm": {"attn_norm"}, "attn_q": {"q"}, "attn_k": {"k"}, "attn_v": {"v"}, "attn_qkv": {"q", "k", "v"},
	"attn_output": {"o"}, "ffn_norm": {"mlp_norm"}, "ffn_gate": {"gate"}, "ffn_up": {"up"}, "ffn_down": {"down"},
	"token_embd_norm": {"embed_norm"}, "attn_norm_2": {"attn_norm"},
	"token_types": {"token_type"}, "attn_rel_b": {"distances"}, "cross_attn_norm": {"cross_norm"},
	"cross_attn_q": {"cross_q"}, "cross_attn_k": {"cross_k"}, "cross_attn_v": {"cross_v"}, "cross_attn_o": {"cross_o"},
	"attn_q_norm": {"q_norm"}, "attn_k_norm": {"k_norm"}, "post_attention_norm": {"attn_out_norm"}, "post_ffw_norm": {"mlp_out_norm"},
}

// expected assembles the expected values of a tensor of the file from the weights of the family's own tensors.
func expected(a *configs.Arch, all map[string][]float32, name string) []float32 {
	name, encoder := strings.CutPrefix(strings.TrimPrefix(name, "dec."), "enc.")
	words := strings.Split(name, ".")
	prefix, kind, what := "", words[0], words[len(words)-1]
	if kind == "blk" {
		prefix, kind = "layers."+words[1]+".", words[2]
	}
	if _, each := a.Family.Layer[configs.Distances]; kind == "attn_rel_b" && !each {
		prefix = ""
	}
	if encoder {
		prefix = configs.EncoderPrefix + prefix
	}
	var values []float32
	for _, role := range rolesOf(a.Family.GGUF, kind) {
		if role == "head" && a.Tied && what == "weight" {
			role = "embed"
		}
		part, ok := all[prefix+role+"."+what]
		if part = slices.Clone(part); !ok { // a bias that only llama.cpp asks for
			part = make([]float32, rowsOf(a, prefix+role+".weight"))
		}
		if strings.HasSuffix(role, "norm") && what == "weight" {
			for i := range part {
				part[i] += float32(a.NormOffset)
			}
		}
		if prefix+role == "final_norm" && a.Family.GGUF.FoldLogitScale {
			for i := range part {
				part[i] *= float32(a.LogitScale)
			}
		}
		if role == "q" || role == "k" {
			part = turned(a, part)
		}
		values = append(values, part...)
	}
	return values
}

func rowsOf(a *configs.Arch, weight string) int {
	params, _ := a.Params()
	for _, p := range params {
		if p.Name == weight {
			return p.Shape[0]
		}
	}
	return 0
}

// rolesOf are the roles of the weights in a tensor of that name.
func rolesOf(g *configs.GGUF, kind string) []string {
	for role, name := range g.Names {
		if name == kind {
			return []string{string(role)}
		}
	}
	if g.FusedGateUp && kind == "ffn_up" {
		return []string{"gate", "up"}
	}
	return ggufParts[kind]
}

// turned has the rotated dims of each head of a query or key weight (or bias) in llama.cpp's order.
func turned(a *configs.Arch, x []float32) []float32 {
	if a.Family.GGUF.Rope == "" || a.RopeInterleaved == (a.Family.GGUF.Rope == configs.InterleavedPlanes) {
		return x
	}
	wide := 1
	if len(x)%(a.HeadDim*a.Dim) == 0 {
		wide = a.Dim
	}
	var pairs, halves []int // of the checkpoint's rows: side by side, and first then second of all planes
	for i := range a.Rope.Dim / 2 {
		first, second := i, i+a.Rope.Dim/2
		if a.RopeInterleaved {
			first, second = 2*i, 2*i+1
		}
		pairs = append(pairs, first, second)
		halves = slices.Insert(append(halves, second), i, first)
	}
	order := pairs
	if a.RopeInterleaved {
		order = halves
	}
	for i := a.Rope.Dim; i < a.HeadDim; i++ {
		order = append(order, i)
	}
	var out []float32
	for head := range len(x) / wide / a.HeadDim {
		for _, d := range order {
			row := head*a.HeadDim + d
			out = append(out, x[row*wide:(row+1)*wide]...)
		}
	}
	return out
}

// TestGGUFTensors: every weight is in the file, in llama.cpp's order of rows, and nothing else is.
func TestGGUFTensors(t *testing.T) {
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			legal := golden.Open(t, c.Dir).Arch.LegalGroups()
			all, some := legal[len(legal)-1], legal[max(0, len(legal)-2)]
			checkGGUF(t, c.Dir, Options{Goal: Groups(all)})
			checkGGUF(t, c.Dir, Options{Goal: Groups(some)})
			checkGGUF(t, c.Dir, Options{Goal: Groups(some), Method: First, DType: checkpoints.F16})
			checkGGUF(t, c.Dir, Options{Goal: Groups(some), Method: Random, Seed: 3, DType: checkpoints.BF16})
			if c.Name == "llama" || c.Name == "gpt2" {
				checkGGUF(t, c.Dir, Options{Goal: Groups(2), Method: Align})
			}
		})
	}
}

func checkGGUF(t *testing.T, dir string, o Options) {
	t.Helper()
	src := golden.Open(t, dir)
	if err := llamacpp.Check(src.Arch.WithKVHeads(o.Goal.Groups())); err != nil {
		if _, planned := NewPlan(src, Options{Goal: o.Goal, Method: Mean, Target: GGUF}); planned == nil || planned.Error() != err.Error() {
			t.Errorf("got error %v, want %v", planned, err)
		}
		return
	}
	plain := o
	plain.DType, plain.Target = 0, Own
	own := convertTo(t, dir, plain)
	all, err := own.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, f := own.Arch, toGGUF(t, dir, o)
	elements := 0
	for _, name := range f.Names {
		got := f.Tensors[name].Floats()
		if strings.HasPrefix(name, "rope_") {
			continue
		}
		want := expected(a, all, name)
		compareGGUF(t, fmt.Sprintf("%+v: %s", o, name), got, want, f.Tensors[name])
		elements += len(got)
	}
	if n := held(a); elements < n {
		t.Errorf("%d elements, want all %d at least", elements, n)
	}
}

// held counts the elements of the weights that llama.cpp has a place for.
func held(a *configs.Arch) (n int) {
	params, _ := a.Params()
	for _, p := range params {
		if !slices.Contains(a.Family.GGUF.Drop, p.Role) {
			n += p.Size()
		}
	}
	return n
}

// compareGGUF allows for the rounding of the tensor's dtype, which vectors and tables do not have.
func compareGGUF(t *testing.T, what string, got, want []float32, tensor gguftest.Tensor) {
	t.Helper()
	relative := map[uint32]float64{0: 0, 1: 1.0 / 2048, 30: 1.0 / 256}[tensor.Type]
	if len(tensor.Shape) == 1 && tensor.Type != 0 {
		t.Errorf("%s: a vector of type %d, want f32", what, tensor.Type)
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range want {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= relative*math.Abs(float64(want[i]))+1e-7*min(1, relative*1e9)) {
			t.Fatalf("%s: value %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

func TestGGUFKeys(t *testing.T) {
	config := with(llamaConfig, "rope_scaling", `{"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 8}`)
	f := toGGUF(t, model{config: config}.write(t), Options{Goal: Groups(2), DType: checkpoints.BF16})
	want := map[string]any{
		"general.architecture": "llama", "general.type": "model", "general.file_type": uint32(32),
		"llama.vocab_size": uint32(6), "llama.context_length": uint32(32), "llama.embedding_length": uint32(16), "llama.block_count": uint32(2),
		"llama.attention.head_count": uint32(8), "llama.attention.head_count_kv": uint32(2), "llama.attention.key_length": uint32(2),
		"llama.attention.value_length": uint32(2), "llama.attention.layer_norm_rms_epsilon": float32(1e-6),
		"llama.rope.dimension_count": uint32(2), "llama.rope.freq_base": float32(10000), "llama.rope.scaling.type": "yarn",
		"llama.rope.scaling.factor": float32(4), "llama.rope.scaling.original_context_length": uint32(8),
		"llama.rope.scaling.attn_factor": float32(1), "tokenizer.ggml.model": "none",
	}
	for name, value := range want {
		if !reflect.DeepEqual(f.Keys[name], value) {
			t.Errorf("key %s is %v, want %v", name, f.Keys[name], value)
		}
	}
	for _, rest := range []string{"general.name", "llama.feed_forward_length"} {
		if _, ok := f.Keys[rest]; !ok {
			t.Errorf("no key %s", rest)
		}
	}
	if len(f.Keys) != len(want)+2 {
		t.Errorf("keys %v, want %d", f.Order, len(want)+2)
	}
}

// TestGGUFEncoders: the keys that models with an encoder have beside a decoder's.
func TestGGUFEncoders(t *testing.T) {
	for name, want := range map[string]map[string]any{
		"t5": {
			"general.architecture": "t5", "t5.block_count": uint32(2), "t5.decoder_block_count": uint32(2), "t5.decoder_start_token_id": uint32(0),
			"t5.attention.relative_buckets_count": uint32(32), "t5.attention.head_count_kv": uint32(8), "t5.attention.key_length": uint32(8),
		},
		"bert": {
			"general.architecture": "bert", "bert.attention.causal": false, "tokenizer.ggml.token_type_count": uint32(2),
			"bert.attention.head_count_kv": uint32(8),
		},
	} {
		f := toGGUF(t, golden.Named(t, name).Dir, Options{Goal: Groups(8)})
		for key, value := range want {
			if !reflect.DeepEqual(f.Keys[key], value) {
				t.Errorf("%s: key %s is %v, want %v", name, key, f.Keys[key], value)
			}
		}
	}
}

// TestGGUFPerLayer: llama.cpp's deci supports what its llama does not; other architectures are an error.
func TestGGUFPerLayer(t *testing.T) {
	plain := strings.Replace(llamaConfig, `, "attention_bias": true`, "", 1)
	f := toGGUF(t, model{config: plain}.write(t), Options{Goal: GroupsPerLayer(8, 2)})
	if f.Keys["general.architecture"] != "deci" || !reflect.DeepEqual(f.Keys["deci.attention.head_count_kv"], []int32{8, 2}) {
		t.Errorf("%v with %v KV heads", f.Keys["general.architecture"], f.Keys["deci.attention.head_count_kv"])
	}
	if a, b := f.Tensors["blk.0.attn_k.weight"].Shape, f.Tensors["blk.1.attn_k.weight"].Shape; a[0] != 16 || b[0] != 4 {
		t.Errorf("keys are %v and %v", a, b)
	}
	for want, o := range map[string]Options{
		"requires the same number of KV heads in all layers, not [8 2]": {Goal: GroupsPerLayer(8, 2), Target: GGUF},
		"groups-per-layer has 3 numbers, want 2, one for each layer":    {Goal: GroupsPerLayer(8, 2, 1)},
		"has 3 for layer 1, want a divisor":                             {Goal: GroupsPerLayer(8, 3)},
		"requires method mean, first or random without grouping":        {Goal: GroupsPerLayer(8, 2), Method: Align},
	} {
		if o.Method == "" {
			o.Method = Mean
		}
		config := gpt2Config
		_, err := NewPlan(golden.Open(t, model{config: config}.write(t)), o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
}
