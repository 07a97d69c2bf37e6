package golden_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// TestSameFunction writes a case's weights as another class, or as another release spells the same one, stores the same
// function: other names, layouts and config.json keys, the same logits.
func TestSameFunction(t *testing.T) {
	const sizes = `"vocab_size": 128, "n_embd": 64, "n_layer": 2, "n_head": 8, "n_inner": 96, "n_positions": 64`
	const mpt = `"vocab_size": 128, "d_model": 64, "n_layers": 2, "n_heads": 8, "expansion_ratio": 1.5, "max_seq_len": 64`
	const falcon = `"vocab_size": 64, "hidden_size": 48, "n_layer": 3, "n_head": 6`
	for _, c := range []struct {
		name, of, config string
		same             string // config.json of the case, if not its own
	}{
		{"GPT-2 without Conv1D, per head", "gpt2", `{"model_type": "gpt_bigcode", "multi_query": false, ` + sizes + `}`, ""},
		{
			"llm-foundry's MPT without ALiBi is GPT-2 with another activation", "gpt2",
			`{"model_type": "mpt", "no_bias": false, "attn_config": {"alibi": false, "attn_type": "multihead_attention"}, ` + mpt + `}`,
			`{"model_type": "gpt2", "activation_function": "gelu", ` + sizes + `}`,
		},
		{"llm-foundry's MPT of several groups", "mpt", `{"model_type": "mpt", "architectures": ["MPTForCausalLM"],
			"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 8}, ` + mpt + `}`, ""},
		{"llm-foundry's MPT of three tensors", "mpt", `{"model_type": "mpt", "architectures": ["MPTForCausalLM"],
			"attn_config": {"fused_qkv": false}, ` + mpt + `}`, ""},
		{"Falcon 40B as first published", "falcon-new", `{"model_type": "RefinedWeb", "n_head_kv": 6, ` + falcon + `}`, ""},
		{"Falcon 7B as first published", "falcon-7b", `{"model_type": "RefinedWebModel", "multi_query": true, "parallel_attn": true, ` + falcon + `}`, ""},
		{"Falcon's new decoder with one norm is its old one", "falcon-parallel", `{"model_type": "falcon", "new_decoder_architecture": true,
			"num_ln_in_parallel_attn": 1, "num_kv_heads": 6, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 64, "hidden_size": 48}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			of := golden.Named(t, c.of)
			src, all := golden.Load(t, of.Dir)
			want, config := src.Arch, c.same
			if config != "" {
				want = resolve(t, config)
			}
			batch := ops.NewBatch(of.IDs...)
			logits := infer.New(cpu.New(), want, all).Logits(batch).F32()
			got, as := golden.Load(t, writeAs(t, c.config, all))
			compare(t, "logits", infer.New(cpu.New(), got.Arch, as).Logits(batch).F32(), logits)
		})
	}
}

func resolve(t *testing.T, config string) *configs.Arch {
	t.Helper()
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	return arch
}

// writeAs stores weights as the class of a config.json does.
func writeAs(t *testing.T, config string, all map[string][]float32) (dir string) {
	t.Helper()
	arch, dir := resolve(t, config), t.TempDir()
	if err := arch.Bind(decisive(arch, all)); err == nil {
		t.Fatal("a checkpoint without most of its tensors fits")
	}
	if err := weights.Write(dir, arch, checkpoints.F32, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// decisive returns the shapes of tensors that decide what config.json leaves open: biases, and the feed-forward width.
func decisive(arch *configs.Arch, all map[string][]float32) map[string][]int {
	shapes := map[string][]int{}
	for layer := -1; layer < arch.Layers; layer++ {
		for _, entries := range []map[configs.Role]configs.TensorEntry{arch.Family.Tensors, arch.Family.Layer} {
			for role, e := range entries {
				name := strings.NewReplacer("{prefix}", arch.Prefix, "{layer}", strconv.Itoa(layer)).Replace(e.Name)
				if role == configs.FusedQKV {
					role = configs.Q
				}
				if bias := all[configs.ParamName(role, layer, true)]; bias != nil {
					shapes[name+".bias"] = []int{len(bias)}
				}
				if w := all[configs.ParamName(role, layer, false)]; role == configs.Up && w != nil {
					shapes[name+".weight"] = []int{len(w) / arch.Dim, arch.Dim}
				}
			}
		}
	}
	return shapes
}
