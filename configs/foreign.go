package configs

import (
	"cmp"
	"fmt"
)

// QuantMethod returns the quantisation method given in config.json, or "" if the weights are not quantised.
func QuantMethod(config []byte) string {
	raw, err := parseConfig(config)
	if err != nil {
		return ""
	}
	return quantMethod(raw)
}

func quantMethod(raw map[string]any) string {
	for _, key := range []string{"quantization_config", "compression_config"} {
		v, ok := lookup(raw, key)
		if !ok {
			continue
		}
		how, _ := v.(map[string]any)
		method, _ := how["quant_method"].(string)
		if how["load_in_8bit"] == true || how["load_in_4bit"] == true { // older spelling of bitsandbytes
			method = cmp.Or(method, "bitsandbytes")
		}
		return cmp.Or(method, "a method that it does not name")
	}
	return ""
}

// checkQuantised rejects quantised weights.
func checkQuantised(raw map[string]any) error {
	if method := quantMethod(raw); method != "" {
		return fmt.Errorf("config.json: quantization_config says that the weights are quantised (%s): dequantise them first (transformers' model.dequantize(), then save_pretrained), or take the checkpoint from before quantisation; if they are floats, remove the key",
			method)
	}
	return nil
}

// parts are the keys under which multimodal models store the config of their text part; others are the keys of the
// other parts.
var (
	parts  = []string{"text_config", "llm_config", "language_config", "language_model_config", "text_model_config", "thinker_config"}
	others = []string{"vision_config", "audio_config"}
)

// checkText rejects a model of which text is only a part.
func checkText(raw map[string]any) error {
	class := fmt.Sprint(raw["model_type"])
	if list, _ := raw["architectures"].([]any); len(list) > 0 {
		class = fmt.Sprint(list[0])
	}
	for _, key := range parts {
		if text, _ := raw[key].(map[string]any); len(text) > 0 {
			return fmt.Errorf("config.json describes a %s; its text part (model_type %q) is under %s: only text models convert; save that part by itself (transformers: model.language_model.save_pretrained), and give the result",
				class, fmt.Sprint(text["model_type"]), key)
		}
	}
	for _, key := range others {
		if other, _ := raw[key].(map[string]any); len(other) > 0 {
			return fmt.Errorf("config.json describes a %s, which reads more than text (%s): only text models convert; save its text part by itself, and give the result",
				class, key)
		}
	}
	return nil
}

// former maps model_types of models that were first published with their own code and tensors to advice on what to use
// instead.
var former = map[string]string{
	"mixformer-sequential": "take the model's later files, of model_type phi, or convert it with transformers' convert_phi_weights_to_hf",
	"mosaic_gpt":           "take a checkpoint of model_type mpt",
	"qwen":                 "the first Qwen has its own code; take Qwen1.5 or later, of model_type qwen2",
	"gpt_dolomite":         "export it to granite or llama with dolomite-engine first",
	"Yi":                   "take the model's later files, of model_type llama",
}
