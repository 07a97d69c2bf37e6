package configs

import (
	"strings"
	"testing"
)

func TestLayerKVHeads(t *testing.T) {
	two := strings.Replace(smallLlama, `"num_hidden_layers": 1`, `"num_hidden_layers": 2`, 1)
	with := func(list string) string {
		return strings.Replace(two, "{", `{"num_key_value_heads_per_layer": `+list+`, `, 1)
	}
	a, b := resolve(t, two), resolve(t, with("[1, 4]"))
	if b.KVHeads != 4 || b.LayerKV(0) != 1 || b.LayerKV(1) != 4 || b.At(0).KVDim() != b.HeadDim || b.At(-1) != b || len(b.Unknown) > 0 {
		t.Errorf("KV heads %v, at most %d; unknown keys %v", b.LayerKVHeads, b.KVHeads, b.Unknown)
	}
	if got, want := b.KVBytesPerToken(2), int64(2*5*b.HeadDim*2); got != want {
		t.Errorf("%d bytes per token, want %d", got, want)
	}
	if b.WithKVHeads(2).LayerKVHeads != nil || a.WithLayerKVHeads([]int{2, 2}).LayerKVHeads != nil {
		t.Error("a list where all layers have the same")
	}
	for list, want := range map[string]string{
		"7": "is 7, want a list of 2 numbers", "[4]": "want a list of 2 numbers", "[3, 4]": "has 3 for layer 0, want a divisor of the 4 heads",
		`[4, "a"]`: `has "a" for layer 1`, "[0, 4]": "has 0 for layer 0", "[8, 4]": "has 8 for layer 0",
	} {
		if _, err := Resolve([]byte(with(list)), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", list, err, want)
		}
	}
}
