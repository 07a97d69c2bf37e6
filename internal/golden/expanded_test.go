package golden_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"

	"gqa/convert"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
)

// TestExpandGrouped: of what is grouped already the expanded form is that of the original, file for file, whose logits
// TestLogits holds against transformers'. Its config.json is the original's again, but that it may spell the number of KV heads
// out.
func TestExpandGrouped(t *testing.T) {
	for _, c := range golden.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			for _, g := range c.Groups()[:min(2, len(c.Groups()))] {
				o := convert.Options{Goal: convert.Groups(g), Method: convert.Mean, Sites: convert.AllSites, Target: convert.Own}
				own := convertTo(t, c.Dir, o)
				o.Target = convert.Expanded
				got, want := convertTo(t, own, o), convertTo(t, c.Dir, o)
				if !bytes.Equal(read(t, filepath.Join(got, "model.safetensors")), read(t, filepath.Join(want, "model.safetensors"))) {
					t.Errorf("%d groups: the weights differ from those of the original's expanded", g)
				}
				if a, b := keysOf(t, got), keysOf(t, want); !reflect.DeepEqual(a, b) {
					t.Errorf("%d groups: config.json is %v, want %v", g, a, b)
				}
			}
		})
	}
}

// keysOf returns a folder's config.json without the number of KV heads, which must be that of the heads: as opened, and if it
// is there.
func keysOf(t *testing.T, dir string) map[string]any {
	t.Helper()
	src, _ := golden.Load(t, dir)
	for _, s := range src.Arch.Sites() {
		if kv := src.Arch.SiteKVHeads(s); kv != src.Arch.Heads {
			t.Fatalf("%d KV heads at %s, want %d", kv, s, src.Arch.Heads)
		}
	}
	var keys map[string]any
	if err := json.Unmarshal(src.Config, &keys); err != nil {
		t.Fatal(err)
	}
	key := src.Arch.Family.Groups.Key
	if n, ok := keys[key]; ok && n != float64(src.Arch.Heads) && src.Arch.Family.Name != "chatglm" { // multi_query_attention counts there
		t.Errorf("config.json: %s is %v, want the %d heads", key, n, src.Arch.Heads)
	}
	delete(keys, key)
	for _, key := range []string{"new_decoder_architecture", "num_ln_in_parallel_attn"} { // Falcon's other name of the same
		delete(keys, key)
	}
	return keys
}

// TestExpandNative: what a class holds in groups, be it a neighbour's, it holds with all heads too, for the same logits.
func TestExpandNative(t *testing.T) {
	for _, c := range golden.Cases(t) {
		if golden.Open(t, c.Dir).Arch.IsLatent() {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			g, logits := 1, "logits_mha" // of a checkpoint that has one KV head to begin with
			if groups := c.Groups(); len(groups) > 0 {
				g, logits = groups[0], fmt.Sprintf("logits_g%d", groups[0])
			}
			dir := convertTo(t, c.Dir, convert.Options{Goal: convert.Groups(g), Method: convert.Mean})
			src := golden.Open(t, dir)
			got, all := golden.Load(t, convertTo(t, dir, convert.Options{Goal: convert.Groups(g), Method: convert.Mean, Target: convert.Expanded}))
			if got.Arch.Family.Name != src.Arch.Family.Name || got.Arch.KVHeads != got.Arch.Heads {
				t.Fatalf("%s with %d KV heads, want %s with %d", got.Arch.Family.Name, got.Arch.KVHeads, src.Arch.Family.Name, got.Arch.Heads)
			}
			compare(t, logits+" expanded", infer.New(cpu.New(), got.Arch, all).Logits(c.Batch()).F32(), c.Floats(t, logits))
		})
	}
}
