package weights

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/file"
)

// adapterConfig is the file that peft writes beside an adapter's weights.
const adapterConfig = "adapter_config.json"

// foreignFiles maps file name patterns to descriptions of folders without weights in a supported format, with advice. A
// pattern that ends in a slash matches folders.
var foreignFiles = []struct{ pattern, what, advice string }{
	{"model_index.json", "a diffusers pipeline", "only language models convert; name the folder of its text encoder, if that is what you mean"},
	{"global_step*/", "a DeepSpeed checkpoint", deepSpeed},
	{"*zero_pp_rank_*", "a DeepSpeed checkpoint", deepSpeed},
	{"mp_rank_*", "a DeepSpeed checkpoint", deepSpeed},
	{"*.distcp", "a sharded checkpoint of torch.distributed (FSDP)", fsdp},
	{"pytorch_model_fsdp*/", "a sharded checkpoint of FSDP", fsdp},
	{"iter_*/", "a Megatron checkpoint", "convert it to transformers' format first, with the script that comes with the model or Megatron Bridge"},
	{"latest_checkpointed_iteration.txt", "a Megatron checkpoint", "convert it to transformers' format first, with the script that comes with the model or Megatron Bridge"},
	{"*.nemo", "a NeMo archive", "export it to transformers' format first"},
	{"consolidated*.pth", "a checkpoint in Meta's own format", metaScript},
	{"consolidated*.safetensors", "a checkpoint in Mistral's own format", mistralOther},
	{"*.gguf", "a GGUF model of llama.cpp", original},
	{"*.ggml", "a model of llama.cpp", original},
	{"tf_model*.h5", "a TensorFlow checkpoint", "load it with from_pretrained(..., from_tf=True) and save_pretrained"},
	{"*.h5", "a Keras or TensorFlow model", saveAnew},
	{"*.ckpt.index", "a TensorFlow checkpoint", saveAnew},
	{"*.data-00000-of-*", "a TensorFlow checkpoint", saveAnew},
	{"saved_model.pb", "a TensorFlow model", saveAnew},
	{"*.msgpack", "a Flax checkpoint", "load it with from_pretrained(..., from_flax=True) and save_pretrained"},
	{"_METADATA", "an Orbax checkpoint (JAX)", saveAnew},
	{"_CHECKPOINT_METADATA", "an Orbax checkpoint (JAX)", saveAnew},
	{"*.onnx", "an ONNX model", original},
	{"onnx/", "an ONNX model", original},
	{"openvino_*", "an OpenVINO model", original},
	{"*.mlpackage/", "a Core ML model", original},
	{"*.mlmodel", "a Core ML model", original},
	{"*.tflite", "a TensorFlow Lite model", original},
	{"*.ot", "a rust-bert model", original},
	{"*.engine", "a TensorRT engine", original},
	{"*.npz", "a model of MLX or JAX", original},
	{"optimizer*", "the state of an optimizer", "name the folder that has the model's weights"},
	{"pytorch_lora_weights*", "an adapter of diffusers", "only language models convert"},
}

const (
	deepSpeed  = "gather it with the zero_to_fp32.py in its folder, and give the result"
	fsdp       = "merge it first (accelerate merge-weights, or torch.distributed.checkpoint.format_utils), and give the result"
	metaScript = "convert it with transformers' script (python -m transformers.models.llama.convert_llama_weights_to_hf), and give the result"
	// Mistral's format has Meta's tensor names but its own files.
	mistralOther = "take the files model-….safetensors of the same model"

	original = "give the safetensors checkpoint that it was made from"
	saveAnew = "save it as safetensors (save_pretrained does)"
)

// foreignFolder returns an error that describes a folder without weights, or err, the error from opening it, if it is
// not recognised.
func foreignFolder(dir string, err error) error {
	entries, readErr := os.ReadDir(dir)
	if readErr != nil {
		return err
	}
	if a := adapterIn(dir); a != "" {
		return fmt.Errorf("%s: holds %s, not a model; %s", dir, a, mergeFirst)
	}
	for _, f := range foreignFiles {
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() {
				name += "/"
			}
			if ok, _ := filepath.Match(f.pattern, name); ok {
				return fmt.Errorf("%w; it looks like %s (it has %s): %s", err, f.what, strings.TrimSuffix(name, "/"), f.advice)
			}
		}
	}
	return err
}

const mergeFirst = "merge it into its base first (peft's merge_and_unload, then save_pretrained), and give the result"

// adapterIn describes the adapter in a folder; "" if there is none.
func adapterIn(dir string) string {
	names, err := regularFiles(dir, func(name string) bool { return name == adapterConfig || strings.HasPrefix(name, "adapter_model.") })
	if err != nil || len(names) == 0 {
		return ""
	}
	what := "an adapter (" + names[0]
	if base := adapterBase(dir); base != "" {
		what += ", of " + base
	}
	return what + ")"
}

// adapterBase returns the model that an adapter applies to, according to its config, or "".
func adapterBase(dir string) string {
	var config struct {
		Base any `json:"base_model_name_or_path"`
	}
	data, err := file.ReadMax(filepath.Join(dir, adapterConfig), maxJSON)
	if err != nil || json.Unmarshal(data, &config) != nil {
		return ""
	}
	base, _ := config.Base.(string)
	if len(base) > 200 || strings.ContainsFunc(base, func(r rune) bool { return r < ' ' }) {
		return ""
	}
	return base
}

// foreignTensors recognises checkpoints of other origins by suffixes of tensor names. Kinds recognised by fewer of
// their tensors come after the others.
var foreignTensors = []struct {
	name         *regexp.Regexp
	what, advice string
}{
	{regexp.MustCompile(`\.(lora_[A-Z]|lora_embedding_[A-Z]|lora_magnitude_vector|lora_(up|down)|hada_w1_a|lokr_w1|oft_[rR]|oft_blocks|boft_[RsP]|vera_lambda_[bd]|ia3_l|base_layer_lora)\b`), "an adapter that is not merged", mergeFirst},
	{regexp.MustCompile(`^(base_model\.)?(prompt_embeddings|prompt_encoder\.)`), "a trained prompt (peft)", "a prompt cannot be merged into weights: convert the model without it"},
	{regexp.MustCompile(`\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.[a-z_0-9]+)$|\.(SCB|weight_format)$`), "bitsandbytes", dequantise},
	{regexp.MustCompile(`\.g_idx$`), "GPTQ", dequantise},
	{regexp.MustCompile(`\.(qweight|qzeros)$`), "AWQ, or an early GPTQ", dequantise},
	{regexp.MustCompile(`\.weight_scale_inv$`), "fp8 in blocks", dequantise},
	{regexp.MustCompile(`\.(weight_packed|weight_shape|weight_zero_point)$`), "compressed-tensors", dequantise},
	{regexp.MustCompile(`\.weight_scale_2$`), "ModelOpt's fp4", dequantise},
	{regexp.MustCompile(`\.(weight_scale|input_scale|activation_scale)$`), "fp8 or int8 with scales", dequantise},
	{regexp.MustCompile(`\.(codes|codebooks)$`), "AQLM", dequantise},
	{regexp.MustCompile(`\.W_q$`), "HQQ", dequantise},
	{regexp.MustCompile(`\.weight\._(data|scale|shift)$`), "quanto", dequantise},
	{regexp.MustCompile(`\.weight_scales$`), "EETQ", dequantise},
	{regexp.MustCompile(`_(blocks|scales)$`), "mxfp4", dequantise},
	{regexp.MustCompile(`\._packed_params(\._packed_params)?$`), "torch.ao", dequantise},
	{regexp.MustCompile(`^(m|v|w)\.|(^|\.)(exp_avg|exp_avg_sq)(\.|$)`), "the state of an optimizer", "give the model's own weights"},
	{regexp.MustCompile(`^tok_embeddings\.weight$|(^|\.)layers\.\d+\.(attention\.w[qkvo]|feed_forward\.w[123])\.weight$`), "in Meta's own format", metaScript},
	{regexp.MustCompile(`\.self_attention\.linear_qkv\.weight$`), "in Megatron's format", "convert it to transformers' format first"},
	{regexp.MustCompile(`(^|\.)_?flat_param(_\d+)?$`), "a shard of FSDP with flattened parameters", "save it with StateDictType.FULL_STATE_DICT, and give the result"},
	{regexp.MustCompile(`^(down_blocks|up_blocks|mid_block)\.|^model\.diffusion_model\.`), "of an image model", "only language models convert"},
	{regexp.MustCompile(`^blk\.\d+\.attn_`), "named as llama.cpp names them", original},
}

const dequantise = "dequantised"

// foreignTensor returns an error that describes a checkpoint whose tensor names belong to no family.
func foreignTensor(c *checkpoints.Checkpoint) error {
	names, method := c.Names(), configs.QuantMethod(c.Config)
	for _, f := range foreignTensors {
		i := slices.IndexFunc(names, f.name.MatchString)
		switch {
		case i < 0:
			continue
		case f.advice == dequantise:
			return fmt.Errorf("the weights are quantised (%s; they include the tensor %s): dequantise them first (transformers' model.dequantize(), then save_pretrained), or take the checkpoint from before quantisation",
				cmp.Or(method, f.what), names[i])
		case f.advice == metaScript && isMistral(c):
			return fmt.Errorf("is in Mistral's own format (it has the tensor %s); %s", names[i], mistralOther)
		case f.advice == mergeFirst:
			if base := adapterBase(c.Dir); base != "" {
				return fmt.Errorf("holds %s (tensor %s, of %s); %s", f.what, names[i], base, mergeFirst)
			}
		}
		return fmt.Errorf("is %s (it has the tensor %s); %s", f.what, names[i], f.advice)
	}
	return nil
}

// isMistral reports whether the files are in Mistral's own format rather than Meta's.
func isMistral(c *checkpoints.Checkpoint) bool {
	if len(c.Files) > 0 && strings.HasPrefix(c.Files[0], "consolidated") && filepath.Ext(c.Files[0]) == ".safetensors" {
		return true
	}
	names, err := regularFiles(c.Dir, func(name string) bool {
		return name == "tekken.json" || strings.HasPrefix(name, "tokenizer.model.v")
	})
	return err == nil && len(names) > 0
}

// checkAlone rejects a checkpoint without config.json whose origin is clear from the files beside it.
func (s *Source) checkAlone() error {
	if params, err := regularFiles(s.Dir, func(name string) bool { return name == "params.json" }); err == nil && len(params) > 0 {
		if isMistral(s.Checkpoint) {
			return errors.New("there is no config.json, but the params.json of Mistral's own format: " + mistralOther)
		}
		return errors.New("there is no config.json, but the params.json of Meta's own format: " + metaScript)
	}
	return nil
}
