package trust

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/checkpoints/torchtest"
)

// fieldData holds two small models as saved by transformers, and a peft adapter.
const fieldData = "testdata/field"

// folder is a model's folder under construction.
type folder struct {
	t   *testing.T
	dir string
	src *checkpoints.Checkpoint // the plain model
}

// newFolder returns a folder with the config.json of a plain model and no weights yet.
func newFolder(t *testing.T, plain string) folder {
	t.Helper()
	src, err := checkpoints.Open(filepath.Join(fieldData, plain))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	f := folder{t, t.TempDir(), src}
	f.file("config.json", string(src.Config))
	return f
}

func (f folder) file(name, text string) folder {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		f.t.Fatal(err)
	}
	return f
}

// saved is the way in which weights are written.
type saved struct {
	name     func(name string) string // "" leaves a tensor out; nil: as they are
	zeros    func(name string) bool   // tensors whose values are lost
	extra    []checkpoints.Spec       // tensors of zeros
	metadata map[string]string
}

// save writes the plain model's weights in another way.
func (f folder) save(s saved) folder {
	f.t.Helper()
	from, specs := map[string]string{}, s.extra
	for _, name := range f.src.Names() {
		x, _ := f.src.Tensor(name)
		spec := x.Spec()
		if s.name != nil {
			spec.Name = s.name(name)
		}
		if spec.Name != "" {
			from[spec.Name], specs = name, append(specs, spec)
		}
	}
	o := checkpoints.WriteOptions{Metadata: s.metadata}
	aside := f.t.TempDir() // where there is no other file
	err := checkpoints.Write(aside, specs, o, func(spec checkpoints.Spec, w io.Writer) error {
		x, ok := f.src.Tensor(from[spec.Name])
		if !ok || s.zeros != nil && s.zeros(spec.Name) {
			_, err := w.Write(make([]byte, spec.Bytes()))
			return err
		}
		_, err := x.WriteTo(w)
		return err
	})
	if err == nil {
		err = os.Rename(filepath.Join(aside, "model.safetensors"), filepath.Join(f.dir, "model.safetensors"))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return f
}

// torch writes the weights as torch.save does: the state dict alone, or under a key beside others.
func (f folder) torch(file, prefix, key string) folder {
	f.t.Helper()
	var state torchtest.Ordered
	for _, name := range f.src.Names() {
		x, _ := f.src.Tensor(name)
		data, err := io.ReadAll(x.Open())
		if err != nil {
			f.t.Fatal(err)
		}
		state = append(state, prefix+name, torchtest.Contiguous("FloatStorage", 4, data, x.Shape...))
	}
	if key == "" {
		return f.file(file, string(torchtest.Zip(state, nil)))
	}
	return f.file(file, string(torchtest.Zip(torchtest.Dict{"epoch", 3, key, state, "optimizer", torchtest.Dict{"lr", 1}}, nil)))
}

func (f folder) remove(names ...string) folder {
	for _, name := range names {
		os.Remove(filepath.Join(f.dir, name))
	}
	return f
}

func (f folder) rename(from, to string) folder {
	f.t.Helper()
	if err := os.Rename(filepath.Join(f.dir, from), filepath.Join(f.dir, to)); err != nil {
		f.t.Fatal(err)
	}
	return f
}

// shards writes the weights in a number of shards, without an index.
func (f folder) shards(parts ...saved) folder {
	f.t.Helper()
	for i, part := range parts {
		f.save(part).rename("model.safetensors", shardName(i+1, len(parts)))
	}
	return f
}

func shardName(i, of int) string { return fmt.Sprintf("model-%05d-of-%05d.safetensors", i, of) }

// index writes an index for a number of shards that places every tensor in its own half, except as other specifies.
func (f folder) index(of int, other map[string]int) folder {
	f.t.Helper()
	places := map[string]string{}
	for _, name := range f.src.Names() {
		places[name] = shardName(half(name), of)
	}
	for name, i := range other {
		if places[name] = shardName(i, of); i == 0 {
			delete(places, name)
		}
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": places})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.file("model.safetensors.index.json", string(text))
}

// half returns which of two shards contains a tensor.
func half(name string) int {
	if strings.Contains(name, ".1.") {
		return 2
	}
	return 1
}

// halves returns the two shards, with invalid copies of each other's tensors.
func halves(copies ...string) []saved {
	var parts []saved
	for i := range 2 {
		parts = append(parts, saved{
			name: func(name string) string {
				if half(name) == i+1 || slices.Contains(copies, name) {
					return name
				}
				return ""
			},
			zeros: func(name string) bool { return half(name) != i+1 },
		})
	}
	return parts
}

func before(prefix string) saved {
	return saved{name: func(name string) string { return prefix + name }}
}

// replaced replaces parts of the names.
func replaced(pairs ...string) saved { return saved{name: strings.NewReplacer(pairs...).Replace} }

// with adds a tensor of zeros.
func (s saved) with(name string, shape ...int) saved {
	s.extra = append(slices.Clone(s.extra), checkpoints.Spec{Name: name, DType: checkpoints.F32, Shape: shape})
	return s
}

// noted adds safetensors' metadata about the name that it omitted.
func (s saved) noted(left, kept string) saved {
	s.metadata = map[string]string{"format": "pt", left: kept}
	return s
}

const (
	embed = "model.embed_tokens.weight"
	norm  = "model.norm.weight"
	wte   = "transformer.wte.weight"
	head  = "lm_head.weight"

	wrapped = "which are ignored"
)

// fieldModels are checkpoints as found in practice, with a single correct interpretation: the plain model.
var fieldModels = []struct {
	name, plain string
	make        func(f folder) folder
	warn        string // empty: no warning
}{
	// Prefixes that wrappers add to names.
	{"ddp", "llama", func(f folder) folder { return f.save(before("module.")) }, "module.lm_head.weight is read as lm_head.weight"},
	{"compiled", "llama", func(f folder) folder { return f.save(before("_orig_mod.")) }, wrapped},
	{"ddp of compiled", "llama", func(f folder) folder { return f.save(before("module._orig_mod.")) }, wrapped},
	{"peft", "llama", func(f folder) folder { return f.save(before("base_model.model.")) }, wrapped},
	{"peft, unloaded", "llama", func(f folder) folder { return f.save(replaced("_proj.", "_proj.base_layer.")) }, wrapped},
	{"fsdp", "llama", func(f folder) folder { return f.save(replaced("layers.0.", "layers.0._fsdp_wrapped_module.")) }, wrapped},
	{"compiled layers", "gpt2", func(f folder) folder { return f.save(replaced("h.1.", "h.1._orig_mod.")) }, wrapped},
	{"someone's wrapper", "gpt2", func(f folder) folder { return f.save(before("policy.net.")) }, wrapped},
	{"lightning", "llama", func(f folder) folder { return f.torch("last.ckpt", "model.", "state_dict") }, wrapped},
	{"lightning of compiled", "gpt2", func(f folder) folder { return f.torch("last.ckpt", "model._orig_mod.", "state_dict") }, wrapped},
	{"nanoGPT's", "llama", func(f folder) folder { return f.torch("ckpt.pt", "_orig_mod.", "model") }, wrapped},
	{"deepspeed's module", "llama", func(f folder) folder { return f.torch("pytorch_model.bin", "module.", "module") }, wrapped},
	{"no wrapper", "llama", func(f folder) folder { return f.torch("pytorch_model.bin", "", "state_dict") }, ""},

	// Tied pairs under one name.
	{"head only", "gpt2", func(f folder) folder { return f.save(replaced(wte, head)) }, ""},
	{"head only, noted", "gpt2", func(f folder) folder { return f.save(replaced(wte, head).noted(wte, head)) }, ""},
	{"wrapped head only", "gpt2", func(f folder) folder {
		return f.save(replaced(wte, "module."+head, "transformer.", "module.transformer."))
	}, wrapped},
	{"head only, without the class", "gpt2", func(f folder) folder { return f.save(replaced(wte, head, "transformer.", "")) }, ""},
	{"embedding only, noted", "gpt2", func(f folder) folder { return f.save(saved{}.noted(head, wte)) }, ""},

	// Tables that can be computed from config.json.
	{"rotary tables", "llama", func(f folder) folder {
		return f.save(saved{}.with("model.rotary_emb.inv_freq", 2).with("model.layers.1.self_attn.rotary_emb.cos_cached", 1, 1, 4, 4))
	}, ""},
	{"wrapped rotary tables", "llama", func(f folder) folder {
		return f.save(before("module.").with("module.model.layers.0.self_attn.rotary_emb.inv_freq", 2))
	}, wrapped},
	{"masks", "gpt2", func(f folder) folder {
		return f.save(saved{}.with("transformer.h.0.attn.bias", 1, 1, 4, 4).with("transformer.h.0.attn.rotary_emb.inv_freq", 2))
	}, ""},

	// Shards and indexes.
	{"no index", "llama", func(f folder) folder { return f.shards(halves()...) }, ""},
	{"no index, an old shard", "llama", func(f folder) folder { return f.shards(halves()...).file(shardName(3, 3), "") }, ""},
	{"stale index", "llama", func(f folder) folder { return f.shards(halves()...).index(30, nil) }, "is out of date: it names the shards " + shardName(1, 30)},
	{"stale index of the same shards", "llama", func(f folder) folder {
		return f.shards(halves()...).index(2, map[string]int{embed: 2})
	}, "is out of date: " + embed + " is in " + shardName(1, 2)},
	{"index without a tensor", "llama", func(f folder) folder { return f.shards(halves()...).index(2, map[string]int{norm: 0}) }, "does not list " + norm},
	{"unlisted tensor", "llama", func(f folder) folder {
		parts := halves()
		parts[1] = parts[1].with("loss.weight", 3)
		return f.shards(parts...).index(2, nil)
	}, "the family does not use are ignored: loss.weight"},
	{"unlisted copy", "llama", func(f folder) folder { return f.shards(halves(embed)...).index(2, nil) }, "these copies are not read: " + embed + " in " + shardName(2, 2)},
	{"shards beside", "llama", func(f folder) folder {
		return f.shards(halves(embed, norm)...).index(2, nil).save(saved{})
	}, "model.safetensors is read, as transformers does"},
	{"old weights of PyTorch beside", "llama", func(f folder) folder {
		return f.torch("pytorch_model.bin", "other.", "model").save(saved{})
	}, "model.safetensors is read, as transformers does"},
	{"weights of PyTorch beside", "llama", func(f folder) folder { return f.torch("pytorch_model.bin", "", "model").save(saved{}) }, ""},
	{"null metadata", "llama", func(f folder) folder {
		f.save(saved{metadata: map[string]string{"a": ""}})
		text, err := os.ReadFile(filepath.Join(f.dir, "model.safetensors"))
		if err != nil {
			f.t.Fatal(err)
		}
		return f.file("model.safetensors", strings.Replace(string(text), `{"a":""}`, `null    `, 1))
	}, ""},

	// Files beside merged weights.
	{"adapter's config", "llama", func(f folder) folder {
		return f.save(saved{}).file("adapter_config.json", `{"base_model_name_or_path": "example/base"}`)
	}, "an adapter (adapter_config.json, of example/base) beside the model, which is not applied"},
	{"adapter", "gpt2", func(f folder) folder { return f.save(saved{}).file("adapter_model.safetensors", "") }, "beside the model, which is not applied"},
	{"quantize_config.json", "llama", func(f folder) folder { return f.save(saved{}).file("quantize_config.json", `{"bits": 4}`) }, ""},
}

// TestFieldModels reads each checkpoint as the plain model, with a warning where a user should check.
func TestFieldModels(t *testing.T) {
	plain := map[string][]byte{}
	for _, name := range []string{"llama", "gpt2"} {
		plain[name], _ = logits(t, filepath.Join(fieldData, name))
	}
	for _, c := range fieldModels {
		t.Run(c.name, func(t *testing.T) {
			got, r := logits(t, c.make(newFolder(t, c.plain)).dir)
			if r.status != 0 || len(got) == 0 || !bytes.Equal(got, plain[c.plain]) {
				t.Errorf("status %d, %d bytes, want the plain model's: %s", r.status, len(got), r.errOut)
			}
			if warned := strings.Contains(r.errOut, "level=WARN"); warned != (c.warn != "") || !strings.Contains(r.errOut, c.warn) || strings.Count(r.errOut, "\n") > 1 {
				t.Errorf("said %q, want a line with %q", r.errOut, c.warn)
			}
		})
	}
}

// logits returns the output of gqa-eval logits for a model.
func logits(t *testing.T, model string) (data []byte, r result) {
	t.Helper()
	ids, out := filepath.Join(fieldData, "ids.safetensors"), filepath.Join(t.TempDir(), "logits.safetensors")
	r = run(t, ".", "gqa-eval", "logits", model, "--input", ids, "--out", out)
	r.clean(t)
	data, _ = os.ReadFile(out)
	return data, r
}

// add makes the plain model with additional tensors of zeros.
func add(names ...string) func(f folder) folder {
	return func(f folder) folder {
		s := saved{}
		for _, name := range names {
			s = s.with("model.layers.0."+name, 4, 4)
		}
		return f.save(s)
	}
}

// set makes the plain model with another value of a key of config.json.
func set(key, value string) func(f folder) folder {
	return func(f folder) folder {
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(f.src.Config, &keys); err != nil {
			f.t.Fatal(err)
		}
		keys[key] = json.RawMessage(value)
		text, err := json.Marshal(keys)
		if err != nil {
			f.t.Fatal(err)
		}
		return f.save(saved{}).file("config.json", string(text))
	}
}

// files returns a folder with unsupported files and without config.json.
func files(names ...string) func(f folder) folder {
	return func(f folder) folder {
		for _, name := range names {
			f.file(name, "x")
		}
		return f.remove("config.json")
	}
}

// fieldErrors are folders that are rejected because of what they are.
var fieldErrors = []struct {
	name string
	make func(f folder) folder
	want []string
}{
	{"adapter", func(f folder) folder {
		if err := os.CopyFS(f.remove("config.json").dir, os.DirFS(filepath.Join(fieldData, "adapter"))); err != nil {
			f.t.Fatal(err)
		}
		return f
	}, []string{"holds an adapter", "of example/base", "merge_and_unload"}},
	{"adapter with the base's config", func(f folder) folder {
		return f.file("adapter_model.bin", "x").file("adapter_config.json", `{"base_model_name_or_path": "a/b"}`)
	}, []string{"holds an adapter", "of a/b", "merge_and_unload"}},
	{"unmerged", add("self_attn.q_proj.lora_A.default.weight", "self_attn.q_proj.lora_B.default.weight"), []string{"an adapter that is not merged", "merge_and_unload"}},
	{"dora", add("mlp.up_proj.lora_magnitude_vector"), []string{"an adapter that is not merged"}},
	{"awq", add("self_attn.q_proj.qweight", "self_attn.q_proj.qzeros", "self_attn.q_proj.scales"), []string{"quantised (AWQ", "dequantise"}},
	{"gptq", add("self_attn.q_proj.qweight", "self_attn.q_proj.qzeros", "self_attn.q_proj.g_idx"), []string{"quantised (GPTQ", "dequantise"}},
	{"bitsandbytes, 4 bits", add("mlp.up_proj.weight.absmax", "mlp.up_proj.weight.quant_state.bitsandbytes__nf4"), []string{"quantised (bitsandbytes"}},
	{"bitsandbytes, 8 bits", add("mlp.up_proj.SCB"), []string{"quantised (bitsandbytes"}},
	{"fp8", add("mlp.up_proj.weight_scale_inv"), []string{"quantised (fp8", "dequantise"}},
	{"compressed-tensors", add("mlp.up_proj.weight_packed", "mlp.up_proj.weight_scale"), []string{"quantised (compressed-tensors"}},
	{"quantised by config", set("quantization_config", `{"quant_method": "awq"}`), []string{"quantised (awq)", "dequantise"}},
	{"quantised by an old config", set("quantization_config", `{"load_in_4bit": true}`), []string{"quantised (bitsandbytes)"}},
	{"Meta's", files("consolidated.00.pth", "consolidated.01.pth", "params.json", "tokenizer.model"), []string{"Meta's own format", "convert_llama_weights_to_hf"}},
	{"Meta's, one file", func(f folder) folder {
		return f.remove("config.json").torch("consolidated.00.pth", "", "").file("params.json", "{}")
	}, []string{"Meta's own format", "convert_llama_weights_to_hf"}},
	{"Meta's names", func(f folder) folder { return f.save(saved{}.with("layers.0.attention.wq.weight", 4, 4)) }, []string{"Meta's own format"}},
	{"multimodal", set("text_config", `{"model_type": "llama"}`), []string{"describes a LlamaForCausalLM", `text part (model_type "llama") is under text_config`, "only text models convert"}},
	{"multimodal of its own", func(f folder) folder {
		return f.save(saved{}).file("config.json", `{"model_type": "internvl_chat", "architectures": ["InternVLChatModel"], "llm_config": {"model_type": "qwen2"}}`)
	}, []string{"InternVLChatModel", "is under llm_config"}},
	{"vision in one config", set("vision_config", `{"depth": 2}`), []string{"reads more than text (vision_config)"}},
	{"diffusers", files("model_index.json", "unet/config.json"), []string{"diffusers"}},
	{"DeepSpeed", files("latest", "zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt"), []string{"DeepSpeed", "zero_to_fp32.py"}},
	{"FSDP", files("__0_0.distcp", "__1_0.distcp"), []string{"FSDP"}},
	{"Megatron", files("latest_checkpointed_iteration.txt", "iter_0000005/x"), []string{"Megatron"}},
	{"llama.cpp", files("model-q4_0.gguf"), []string{"GGUF", "give the safetensors checkpoint"}},
	{"TensorFlow", files("tf_model.h5", "vocab.json"), []string{"TensorFlow", "from_tf=True"}},
	{"Flax", files("flax_model.msgpack"), []string{"Flax"}},
	{"a trainer's state", files("optimizer.pt", "scheduler.pt", "trainer_state.json"), []string{"state of an optimizer"}},
	{"optimizer's tensors", func(f folder) folder { return f.save(before("state.exp_avg.")) }, []string{"state of an optimizer"}},
	{"a shard is missing", func(f folder) folder { return f.shards(halves()...).remove(shardName(1, 2)) }, []string{"not the shard " + shardName(1, 2) + ", which is missing; download it too"}},
	{"index and no shard", func(f folder) folder { return f.shards(halves()...).index(2, nil).remove(shardName(2, 2)) }, []string{"names the shard " + shardName(2, 2) + ", which is missing"}},
	{"another family", func(f folder) folder { return f.save(replaced("model.", "gpt.", "layers", "tiers")) }, []string{"is it another family? it holds gpt.embed_tokens.weight, "}},
	{"the first Phi", set("model_type", `"mixformer-sequential"`), []string{"mixformer-sequential", "model_type phi"}},
	{"huge layers", set("num_hidden_layers", "1e18"), []string{"num_hidden_layers is 1e+18, want a whole number"}},
	{"endless sizes", set("vocab_size", "1e999"), []string{"number 1e999, which is too large"}},
	{"negative sizes", set("hidden_size", "-16"), []string{"hidden_size is -16, want a whole number"}},
	{"a huge matrix", set("intermediate_size", "1073741824"), []string{"want [1073741824 16]"}},
}

// TestFieldErrors checks that one line says what a folder is and what to do.
func TestFieldErrors(t *testing.T) {
	for _, c := range fieldErrors {
		t.Run(c.name, func(t *testing.T) {
			f := c.make(newFolder(t, "llama"))
			for _, args := range [][]string{{"gqa-convert", "inspect"}, {"gqa-convert", "--groups", "2"}}[:pick(1, 2)] {
				r := run(t, ".", args[0], append(args[1:], f.dir)...)
				r.clean(t)
				if r.status != 1 || strings.Count(r.errOut, "\n") != 1 {
					t.Errorf("%v: status %d, %s", args, r.status, r.errOut)
				}
				for _, want := range c.want {
					if !strings.Contains(r.errOut, want) {
						t.Errorf("%v: %s, want %q", args, r.errOut, want)
					}
				}
			}
		})
	}
}

// TestFieldSideFiles: the result has the files that belong to a model, and none that changes how it loads.
func TestFieldSideFiles(t *testing.T) {
	tokenizer := []string{"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json"}
	carried := append([]string{
		"generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "preprocessor_config.json",
		"LICENSE", "USE_POLICY.md", "README.md", "NOTICE", "modeling_own.py", "helper.py", "deep.py",
	}, tokenizer...)
	adapter := []string{"adapter_config.json", "adapter_model.safetensors"}
	left := append([]string{
		"quantize_config.json", "trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth",
		"zero_to_fp32.py", "latest", "events.out.tfevents.1.host", "model-q4.gguf", "tf_model.h5", "flax_model.msgpack",
		"openvino_model.xml", "openvino_model.bin", "rust_model.ot", "params.json", "consolidated.00.pth", "notes.txt", "model.lock",
		"onnx/model.onnx", "coreml/x.mlpackage", "original/params.json", "runs/events", "global_step1/x", ".cache/x",
	}, adapter...)
	f := newFolder(t, "llama").save(saved{})
	for _, name := range slices.Concat(carried, left) {
		f.file(name, "{}")
	}
	f.file("tokenizer_config.json", `{"auto_map": {"AutoTokenizer": ["modeling_own.Own", null], "AutoModel": "other/repo--zero_to_fp32.X"}}`)
	f.file("modeling_own.py", "import os\nfrom .helper import help  # own\n").file("helper.py", "from . import deep\n")
	out := filepath.Join(t.TempDir(), "out")
	r := run(t, ".", "gqa-convert", "--groups", "2", f.dir, "-o", out)
	r.clean(t)
	if r.status != 0 || strings.Count(r.errOut, "not copied into the result") != 1 || !strings.Contains(r.errOut, "adapter_config.json") {
		t.Errorf("status %d, %s", r.status, r.errOut)
	}
	wantFiles(t, out, slices.Concat(carried, []string{"config.json", "conversion.json", "model.safetensors"}))

	f.remove(slices.Concat(adapter, tokenizer)...)
	trained := filepath.Join(t.TempDir(), "run")
	ids := filepath.Join(fieldData, "ids.safetensors")
	r = run(t, ".", "gqa-train", "run", "--model", f.dir, "--data", ids, "--steps", "1", "--seq-len", "8", "--batch", "1", "-o", trained)
	if r.status != 0 || strings.Count(r.errOut, "not copied into the result") != 1 {
		t.Fatalf("status %d, %s", r.status, r.errOut)
	}
	carried = slices.DeleteFunc(carried, func(name string) bool { return slices.Contains(tokenizer, name) })
	wantFiles(t, filepath.Join(trained, "model"), append(carried, "config.json", "model.safetensors"))
}

// wantFiles checks that a folder and its subfolders contain exactly these files.
func wantFiles(t *testing.T, dir string, want []string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, _ := filepath.Rel(dir, path)
			got = append(got, name)
		}
		return err
	})
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s holds %q, %v, want %q", dir, got, err, want)
	}
}
