package golden_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/engine/spago"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// latentSizes are those of small models with latent attention.
const latentSizes = `"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3,
	"intermediate_size": 40, "max_position_embeddings": 64, "first_k_dense_replace": 2, "kv_lora_rank": 10, "qk_rope_head_dim": 6,
	"qk_nope_head_dim": 5, "v_head_dim": 7, `

// latentModels are config.json files of models with latent attention.
var latentModels = map[string]string{
	"deepseek_v2": `{"model_type": "deepseek_v2", ` + latentSizes + `"q_lora_rank": null, "mlp_bias": true}`,
	"deepseek_v3": `{"model_type": "deepseek_v3", ` + latentSizes + `"q_lora_rank": 9, "attention_bias": true,
		"rope_scaling": {"type": "yarn", "factor": 4, "mscale": 0.7, "mscale_all_dim": 1.2, "original_max_position_embeddings": 16}}`,
	"deepseek_v3, split planes": `{"model_type": "deepseek_v3", ` + latentSizes + `"q_lora_rank": null, "rope_interleave": false}`,
	"own":                       `{"model_type": "llama_mla", ` + latentSizes + `"q_lora_rank": null, "mla": {"softmax_scale": 0.3, "inv_freq": [1, 1, 0.1]}}`,
	"own, without keys that have no positions": `{"model_type": "llama_mla", "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2,
		"num_attention_heads": 3, "intermediate_size": 40, "kv_lora_rank": 10, "qk_rope_head_dim": 8, "qk_nope_head_dim": 0, "v_head_dim": 7,
		"mla": {"softmax_scale": 0.3, "inv_freq": [1, 0.7, 0.1, 0]}}`,
	"own, by layer, a small latent": `{"model_type": "mistral_mla", "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2,
		"num_attention_heads": 3, "intermediate_size": 40, "kv_lora_rank": 4, "qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 8,
		"q_lora_rank": 11, "sliding_window": 9, "mla": {"softmax_scale": 0.3, "inv_freq": [[1, 0.1], [0.4]], "kv_lora_rank_per_layer": [3, 4]}}`,
}

// latentModel is a random model with latent attention, and its logits by latentReference.
type latentModel struct {
	src  *weights.Source
	all  map[string][]float32
	ids  [][]int32
	want []float32
}

func openLatent(t *testing.T, config string) *latentModel {
	t.Helper()
	dir := golden.Random(t, config)
	m := &latentModel{ids: golden.Windows(4, 2, 21, 61)}
	m.src, m.all = golden.Load(t, dir)
	for _, ids := range m.ids {
		m.want = append(m.want, latentReference(t, dir, ids)...)
	}
	return m
}

// TestLatentAttention compares both engines in both forms, and decoding through caches, with latentReference.
func TestLatentAttention(t *testing.T) {
	for name, config := range latentModels {
		t.Run(name, func(t *testing.T) {
			m := openLatent(t, config)
			batch := ops.NewBatch(m.ids...)
			c := &golden.Case{Name: name, IDs: m.ids}
			onEveryPath(t, func(t *testing.T) {
				d := infer.New(cpu.New(), m.src.Arch, m.all)
				compare(t, "by decode", d.Logits(batch).F32(), m.want)
				checkSteps(t, c, d, "logits", m.want)
			})
			params, err := spago.NewParams(cpu.New(), m.src.Arch, model.FromMap(m.src.Arch, m.all))
			if err != nil {
				t.Fatal(err)
			}
			var forms [2][]float32
			for i, f := range []ops.LatentForm{ops.LatentExpanded, ops.LatentAbsorbed} {
				e, s := spago.New(cpu.New()), params.Model(m.src.Arch)
				s.SetLatentForm(f)
				forms[i] = slices.Clone(e.Values(s.Logits(e, s.Hidden(e, batch))))
				compare(t, fmt.Sprintf("by spago, form %d", f), forms[i], m.want)
			}
			for i, x := range forms[0] {
				if d := math.Abs(float64(x - forms[1][i])); !(d <= 1e-5*max(1, math.Abs(float64(x)))) {
					t.Fatalf("logit %d is %v expanded and %v absorbed", i, x, forms[1][i])
				}
			}
		})
	}
}

// TestLatentBiases: in the own layout a checkpoint decides which projections have biases.
func TestLatentBiases(t *testing.T) {
	config := latentModels["own, by layer, a small latent"]
	plain := golden.Open(t, golden.Random(t, config))
	bindBiased(t, plain.Arch, func(role configs.Role) bool {
		return slices.Contains([]configs.Role{configs.QA, configs.QB, configs.KVA, configs.O}, role)
	})
	params, err := plain.Arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	r, all := rand.New(rand.NewPCG(8, 9)), map[string][]float32{}
	for _, p := range params {
		for range p.Size() {
			all[p.Name] = append(all[p.Name], float32(r.NormFloat64()/3))
		}
	}
	dir := t.TempDir()
	if err := weights.Write(dir, plain.Arch, checkpoints.F32, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
	src, read := golden.Load(t, dir)
	ids := golden.Windows(4, 1, 21, 61)
	if _, ok := read["layers.1.k_rope.bias"]; !ok || len(read) != len(params) {
		t.Fatalf("%d weights, want %d, with biases", len(read), len(params))
	}
	compare(t, "with biases", infer.New(cpu.New(), src.Arch, read).Logits(ops.NewBatch(ids...)).F32(), latentReference(t, dir, ids[0]))
}

// TestLatentFullRank: with a latent that holds all values and position-free keys, and a rotary key of all planes, the own layout gives
// transformers' logits of models with grouped attention, whatever their blocks.
func TestLatentFullRank(t *testing.T) {
	for _, name := range []string{"llama", "llama-rope3", "gpt_neox", "gptj", "phi", "qwen2", "cohere", "gemma", "stablelm", "mistral", "granite", "nemotron", "phi3", "starcoder2", "olmo", "chatglm", "falcon-rope", "starcoder2-window", "qwen2-window"} {
		t.Run(name, func(t *testing.T) {
			c := golden.Named(t, name)
			src, all := golden.Load(t, c.Dir)
			arch, full := fullRank(t, src, all)
			checkLogits(t, c, form{"logits_mha", arch, full, c.Floats(t, "logits_mha")})
		})
	}
}

// fullRank returns the model with latent attention in the own layout. Head h of the keys has the rotary planes from h·planes on, and its
// position-free dims and its values are parts h of the latent.
func fullRank(t *testing.T, src *weights.Source, all map[string][]float32) (*configs.Arch, map[string][]float32) {
	t.Helper()
	a := src.Arch
	freqs, heads, groups, d := a.Rope.InvFreq(), a.Heads, a.KVHeads, a.HeadDim
	nope := d - 2*len(freqs)
	l := configs.Latent{Rank: groups * (nope + d), NopeDim: nope, RopeDim: 2 * groups * len(freqs), ValueDim: d}
	for range groups {
		l.InvFreq = append(l.InvFreq, freqs...)
	}
	scale := a.ScoreScale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(d))
	}
	config, err := weights.RewriteConfig(src.Config, func(keys map[string]any) {
		changes, err := a.LatentChanges(src.Config, slices.Repeat([]configs.Latent{l}, a.Layers), scale)
		if err != nil {
			t.Fatal(err)
		}
		for path, value := range changes {
			configs.SetKey(keys, path, value)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := configs.Resolve(config, "")
	if err != nil {
		t.Fatal(err)
	}
	full := maps.Clone(all)
	for layer := range a.Layers {
		for _, bias := range []bool{false, true} {
			weight := func(role configs.Role) []float32 { return all[configs.ParamName(role, layer, bias)] }
			set := func(role configs.Role, rows [][]float32) {
				full[configs.ParamName(role, layer, bias)] = slices.Concat(rows...)
			}
			q, k, v := rowsOf(weight(configs.Q), heads*d), rowsOf(weight(configs.K), groups*d), rowsOf(weight(configs.V), groups*d)
			if q == nil && k == nil && v == nil {
				continue
			}
			turn := float32(a.Rope.Scale())
			var qNope, qRope, kNope, kRope [][]float32
			for h := range heads {
				free, planes := splitHead(a, q, h, len(freqs), turn)
				before, after := 2*len(freqs)*(h*groups/heads), 2*len(freqs)*(groups-1-h*groups/heads)
				qNope = append(qNope, free...)
				qRope = slices.Concat(qRope, zeroRows(before, planes), planes, zeroRows(after, planes))
			}
			for g := range groups {
				free, planes := splitHead(a, k, g, len(freqs), turn)
				kNope, kRope = append(kNope, free...), append(kRope, planes...)
			}
			set(configs.QNope, qNope)
			set(configs.QRope, qRope)
			set(configs.KRope, kRope)
			set(configs.LatentKV, slices.Concat(kNope, v))
		}
		choose := func(role configs.Role, first, width int) { // each head takes a part of the latent
			var w []float32
			for h := range heads {
				for i := range width {
					row := make([]float32, l.Rank)
					row[first+h*groups/heads*width+i] = 1
					w = append(w, row...)
				}
			}
			full[configs.ParamName(role, layer, false)] = w
		}
		choose(configs.KeyUp, 0, nope)
		choose(configs.ValueUp, groups*nope, d)
	}
	maps.DeleteFunc(full, func(_ string, w []float32) bool { return len(w) == 0 })
	bindBiased(t, b, func(role configs.Role) bool {
		of := map[configs.Role]configs.Role{configs.QHeads: configs.QRope, configs.KVA: configs.KRope, configs.O: configs.O}[role]
		return full[configs.ParamName(of, 0, true)] != nil
	})
	return b, full
}

// bindBiased binds the architecture to a checkpoint whose projections of some roles have biases.
func bindBiased(t *testing.T, a *configs.Arch, biased func(configs.Role) bool) {
	t.Helper()
	tensors, err := a.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{}
	for _, x := range tensors {
		shapes[x.Name] = x.Shape
		if name, ok := strings.CutSuffix(x.Name, ".weight"); ok && biased(x.Role) {
			shapes[name+".bias"] = x.Shape[:1]
		}
	}
	if err := a.Bind(shapes); err != nil {
		t.Fatal(err)
	}
}

// rowsOf divides a matrix or a bias into rows; nil if there is none.
func rowsOf(w []float32, rows int) (all [][]float32) {
	if w == nil {
		return nil
	}
	return slices.Collect(slices.Chunk(w, len(w)/rows))
}

func zeroRows(n int, like [][]float32) (all [][]float32) {
	for range n {
		all = append(all, make([]float32, len(like[0])))
	}
	return all
}

// splitHead returns the rows of a head that are not rotated, and those that are, times a factor, with planes in adjacent rows.
func splitHead(a *configs.Arch, w [][]float32, h, planes int, factor float32) (free, turned [][]float32) {
	head := w[h*a.HeadDim:][:a.HeadDim]
	for i := range 2 * planes {
		from := i/2 + i%2*planes
		if a.RopeInterleaved {
			from = i
		}
		row := slices.Clone(head[from])
		for j := range row {
			row[j] *= factor
		}
		turned = append(turned, row)
	}
	return head[2*planes:], turned
}

// TestLatentCache: a cache holds the latent and the rotary key of a token in each layer, and nothing else.
func TestLatentCache(t *testing.T) {
	m := openLatent(t, latentModels["own, by layer, a small latent"])
	d := infer.New(cpu.New(), m.src.Arch, m.all)
	if got, want := d.NewCache(2, 100).Bytes(), int64(2*100*4*(3+4+4+2)); got != want || got != 2*100*m.src.Arch.KVBytesPerToken(4) {
		t.Errorf("a cache takes %d bytes, want %d", got, want)
	}
	for f, limit := range map[device.Format]float64{device.BF16: 0.08, device.Int8: 0.08} {
		c, err := d.NewCacheOf(infer.Kept{Format: f}, 2, 21)
		if err != nil {
			t.Fatal(err)
		}
		logits, err := d.Step(c, flat(m.ids, 0, 21))
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range column(m.want, 2, 21, 61, 20) {
			if off := math.Abs(float64(logits.F32()[i] - want)); !(off <= limit) {
				t.Fatalf("format %d: logit %d is %v, want %v", f, i, logits.F32()[i], want)
			}
		}
	}
	for want, kept := range map[string]infer.Kept{
		"a window cannot be combined with latent attention, whose values are parts of its keys": {Window: 8, Sinks: 1},
		"a KV cache of 4 bits needs latents of a multiple of 32 numbers, the model's have 3":    {Format: device.Int4},
	} {
		if err := d.CheckKept(kept); err == nil || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// latentReference returns the logits [tokens, vocab] of a decoder of Llama's blocks with latent attention, read from its files by the
// names and in the order of docs/formats.md and of DeepSeek-V2's paper (arXiv 2405.04434, appendix C), by plain loops in float64.
func latentReference(t *testing.T, dir string, ids []int32) []float32 {
	t.Helper()
	r := &latentReader{t: t, raw: map[string]any{}}
	if err := json.Unmarshal(read(t, filepath.Join(dir, "config.json")), &r.raw); err != nil {
		t.Fatal(err)
	}
	r.src = golden.Open(t, dir)
	own, _ := r.raw["mla"].(map[string]any)
	heads, nope, value, window := r.size("num_attention_heads"), r.size("qk_nope_head_dim"), r.size("v_head_dim"), r.size("sliding_window")
	x := make([][]float64, len(ids))
	embed := r.matrix("model.embed_tokens.weight")
	for i, id := range ids {
		x[i] = slices.Clone(embed[id])
	}
	for l := range r.size("num_hidden_layers") {
		at := fmt.Sprintf("model.layers.%d.", l)
		rank, rope, freqs, cosines, scale := r.positions(own, l)
		in := make([][]float64, len(x))
		k, v, q := make([][][]float64, len(x)), make([][][]float64, len(x)), make([][][]float64, len(x))
		for i := range x {
			in[i] = r.norm(at+"input_layernorm", x[i])
			turn := func(y []float64) []float64 {
				return rotated(y, float64(i), freqs, cosines, r.raw["rope_interleave"] == false)
			}
			down := r.linear(at+"self_attn.kv_a_proj_with_mqa", in[i])
			up := r.linear(at+"self_attn.kv_b_proj", r.norm(at+"self_attn.kv_a_layernorm", down[:rank]))
			query := in[i]
			if name := at + "self_attn.q_a_proj"; r.has(name + ".weight") {
				query = r.linear(at+"self_attn.q_b_proj", r.norm(at+"self_attn.q_a_layernorm", r.linear(name, query)))
			} else {
				query = r.linear(at+"self_attn.q_proj", query)
			}
			for h := range heads {
				qh, kv := query[h*(nope+rope):][:nope+rope], up[h*(nope+value):][:nope+value]
				q[i] = append(q[i], slices.Concat(qh[:nope], turn(qh[nope:])))
				k[i] = append(k[i], slices.Concat(kv[:nope], turn(down[rank:])))
				v[i] = append(v[i], kv[nope:])
			}
		}
		for i := range x {
			var out []float64
			for h := range heads {
				first := 0
				if window > 0 {
					first = max(0, i+1-window)
				}
				scores := make([]float64, i+1-first)
				for j := range scores {
					scores[j] = scale * dot64(q[i][h], k[first+j][h])
				}
				sum := make([]float64, value)
				for j, p := range softmax64(scores) {
					for d := range sum {
						sum[d] += p * v[first+j][h][d]
					}
				}
				out = append(out, sum...)
			}
			add64(x[i], r.linear(at+"self_attn.o_proj", out))
			mid := r.norm(at+"post_attention_layernorm", x[i])
			gate, up := r.linear(at+"mlp.gate_proj", mid), r.linear(at+"mlp.up_proj", mid)
			for d, g := range gate {
				up[d] *= g / (1 + math.Exp(-g))
			}
			add64(x[i], r.linear(at+"mlp.down_proj", up))
		}
	}
	var logits []float32
	for i := range x {
		for _, z := range r.linear("lm_head", r.norm("model.norm", x[i])) {
			logits = append(logits, float32(z))
		}
	}
	return logits
}

func add64(x, y []float64) {
	for i, v := range y {
		x[i] += v
	}
}

// rotated turns the planes of y, which are adjacent numbers or, if split is true, a number of the first half and one of the second.
func rotated(y []float64, position float64, freqs []float64, factor float64, split bool) []float64 {
	z := slices.Clone(y)
	for i, f := range freqs {
		a, b := 2*i, 2*i+1
		if split {
			a, b = i, i+len(freqs)
		}
		cos, sin := factor*math.Cos(position*f), factor*math.Sin(position*f)
		z[a], z[b] = y[a]*cos-y[b]*sin, y[a]*sin+y[b]*cos
	}
	return z
}

// latentReader reads a model for latentReference.
type latentReader struct {
	t   *testing.T
	raw map[string]any
	src *weights.Source
}

func (r *latentReader) size(key string) int {
	n, _ := r.raw[key].(float64)
	return int(n)
}

// positions returns the rank and the rotary dims of a layer, the frequencies, the factor of cosines and sines, and that of scores.
func (r *latentReader) positions(own map[string]any, layer int) (rank, rope int, freqs []float64, cosines, scale float64) {
	numbers := func(v any) (list []float64) {
		for _, x := range v.([]any) {
			list = append(list, x.(float64))
		}
		return list
	}
	rank, rope = r.size("kv_lora_rank"), r.size("qk_rope_head_dim")
	if own != nil {
		list := own["inv_freq"].([]any)
		if _, each := list[0].([]any); each {
			list = list[layer].([]any)
		}
		if ranks := own["kv_lora_rank_per_layer"]; ranks != nil {
			rank = int(numbers(ranks)[layer])
		}
		return rank, 2 * len(list), numbers(list), 1, own["softmax_scale"].(float64)
	}
	arch := configs.Rope{Dim: rope, Theta: 10000}
	scale = 1 / math.Sqrt(float64(r.size("qk_nope_head_dim")+rope))
	if yarn, ok := r.raw["rope_scaling"].(map[string]any); ok { // its frequencies are checked elsewhere
		arch = r.src.Arch.Rope
		m := 0.1*yarn["mscale_all_dim"].(float64)*math.Log(yarn["factor"].(float64)) + 1
		scale *= m * m
	}
	return rank, rope, arch.InvFreq(), arch.Scale(), scale
}

func (r *latentReader) has(name string) bool {
	_, ok := r.src.Tensor(name)
	return ok
}

// floats returns a tensor's numbers and the length of its rows.
func (r *latentReader) floats(name string) (values []float32, cols int) {
	r.t.Helper()
	x, ok := r.src.Tensor(name)
	if !ok {
		r.t.Fatalf("no tensor %s", name)
	}
	values, err := x.Float32(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return values, x.Shape[len(x.Shape)-1]
}

func (r *latentReader) matrix(name string) (rows [][]float64) {
	r.t.Helper()
	values, cols := r.floats(name)
	for row := range slices.Chunk(values, cols) {
		wide := make([]float64, cols)
		for i, x := range row {
			wide[i] = float64(x)
		}
		rows = append(rows, wide)
	}
	return rows
}

func (r *latentReader) linear(name string, x []float64) []float64 {
	r.t.Helper()
	w := r.matrix(name + ".weight")
	y := make([]float64, len(w))
	for i, row := range w {
		y[i] = dot64(row, x)
	}
	if r.has(name + ".bias") {
		add64(y, r.matrix(name + ".bias")[0])
	}
	return y
}

// norm returns x normalised, or x if there is no such norm.
func (r *latentReader) norm(name string, x []float64) []float64 {
	r.t.Helper()
	if !r.has(name + ".weight") {
		return x
	}
	w, eps := r.matrix(name + ".weight")[0], 1e-6
	y, inv := make([]float64, len(x)), 1/math.Sqrt(dot64(x, x)/float64(len(x))+eps)
	for i, v := range x {
		y[i] = v * inv * w[i]
	}
	return y
}
