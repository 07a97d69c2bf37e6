package golden_test

import (
	"slices"
	"testing"

	"gqa/convert"
	"gqa/internal/engine/decode"
	"gqa/internal/golden"
)

// TestGroupsPerLayer: with KV heads of their own the layers of a model give what they give with the pooled heads repeated in
// place, through both engines and the cache, in every layout.
func TestGroupsPerLayer(t *testing.T) {
	for _, c := range golden.Cases(t) {
		if !slices.Contains([]string{"llama", "gpt_neox", "gpt2", "bloom", "olmo2", "falcon-new", "chatglm", "stablelm-qknorm"}, c.Name) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			src, _ := golden.Load(t, c.Dir)
			legal := src.Arch.LegalGroups()
			groups := make([]int, src.Arch.Layers)
			for i := range groups {
				groups[i] = legal[len(legal)-1-i%2]
			}
			o := convert.Options{ByLayer: groups, Method: convert.Mean, Target: convert.Expanded}
			expanded, all := golden.Load(t, convertTo(t, c.Dir, o))
			want := slices.Clone(decode.New(expanded.Arch, all).Logits(c.Batch()).Data)

			o.Target = convert.Own
			own, all := golden.Load(t, convertTo(t, c.Dir, o))
			if !slices.Equal(own.Arch.LayerKVHeads, groups) {
				t.Fatalf("KV heads of the layers are %v, want %v", own.Arch.LayerKVHeads, groups)
			}
			if got, whole := own.Arch.KVBytesPerToken(2), src.Arch.KVBytesPerToken(2); got >= whole {
				t.Errorf("the cache takes %d bytes a token, want fewer than %d", got, whole)
			}
			checkLogits(t, c, form{"logits per layer", own.Arch, all, want})
		})
	}
}
