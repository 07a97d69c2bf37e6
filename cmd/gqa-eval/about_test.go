package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The commands that make a model are read from the records beside it.
func TestMaking(t *testing.T) {
	t.Chdir(t.TempDir())
	for path, text := range map[string]string{
		"four/conversion.json": `{"source": "my model", "groups": 4, "method": "calibrated", "grouping": "similar", "seed": 3, "target": "native", "dtype": "bf16",
			"calibration": "text.jsonl", "calibration_tokens": 4096, "refine": 300, "sites": ["self"]}`,
		"layers/conversion.json": `{"source": "t5", "groups": 8, "groups_per_layer": [8, 4], "method": "mean", "grouping": "contiguous", "target": "own", "dtype": "keep",
			"sites": ["decoder_self", "cross", "encoder_self"]}`,
		"latent/conversion.json": `{"source": "my model", "groups": 0, "method": "mla", "grouping": "contiguous", "target": "deepseek_v3", "dtype": "keep",
			"latent": {"kv_lora_rank": 48, "qk_rope_head_dim": 16, "q_lora_rank": 9}, "latent_bias": true, "refine": 150, "sites": ["self"]}`,
		"byLayer/conversion.json": `{"source": "m", "groups": 0, "method": "mla", "grouping": "contiguous", "target": "mla", "dtype": "keep", "kv_bytes_per_token": 512,
			"latent": {"kv_lora_rank": 83, "kv_lora_rank_per_layer": [27, 83], "qk_rope_head_dim": 16}, "calibration": "text", "calibration_tokens": 9}`,
		"four/weights":           "",
		"run/recipe.yaml":        "model: four\n",
		"run/model/config.json":  "{}",
		"plain/config.json":      "{}",
		"other/conversion.json":  `{"groups": "four"}`,
		"alone/recipe.yaml":      "model: plain\n",
		"alone/model/other.json": "{}",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	const four = "gqa-convert --groups 4 --method calibrated --grouping similar --dtype bf16 --seed 3 --refine 300 --calibration text.jsonl --calibration-tokens 4096 -o four 'models/my model'"
	for folder, want := range map[string]string{
		"four":                            four,
		filepath.Join("four", "weights"):  four,
		"layers":                          "gqa-convert --groups-per-layer 8,4 --target own --sites all -o layers t5",
		"latent":                          "gqa-convert --kv-rank 48 --rope-dim 16 --query-rank 9 --latent-bias --target deepseek_v3 --refine 150 -o latent 'models/my model'",
		"byLayer":                         "gqa-convert --kv-bytes-per-token 512 --rope-dim 16 --target mla --calibration text --calibration-tokens 9 -o byLayer m",
		"run":                             four + "\ngqa-train run --config run/recipe.yaml -o run",
		filepath.Join("run", "model"):     four + "\ngqa-train run --config run/recipe.yaml -o run",
		filepath.Join("alone", "model"):   "gqa-train run --config alone/recipe.yaml -o alone",
		"plain":                           "",
		"other":                           "",
		filepath.Join("nowhere", "model"): "",
	} {
		if got := making(folder, "models/my model"); filepath.ToSlash(got) != want {
			t.Errorf("%s:\n got %s\nwant %s", folder, got, want)
		}
	}
}
