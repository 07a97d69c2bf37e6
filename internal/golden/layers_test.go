package golden_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"gqa/convert"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// layeredCases have layouts of every kind.
var layeredCases = []string{"llama", "gpt_neox", "gpt2", "bloom", "olmo2", "falcon-new", "chatglm", "stablelm-qknorm"}

// onLayered runs a test on each of layeredCases.
func onLayered(t *testing.T, test func(t *testing.T, c *golden.Case, src *weights.Source)) {
	for _, c := range golden.Cases(t) {
		if slices.Contains(layeredCases, c.Name) {
			t.Run(c.Name, func(t *testing.T) {
				src, _ := golden.Load(t, c.Dir)
				test(t, c, src)
			})
		}
	}
}

// TestGroupsPerLayer: with KV heads of their own the layers of a model give what they give with the pooled heads repeated in
// place, through both engines and the cache, in every layout.
func TestGroupsPerLayer(t *testing.T) {
	onLayered(t, func(t *testing.T, c *golden.Case, src *weights.Source) {
		legal := src.Arch.LegalGroups()
		groups := make([]int, src.Arch.Layers)
		for i := range groups {
			groups[i] = legal[len(legal)-1-i%2]
		}
		o := convert.Options{Goal: convert.GroupsPerLayer(groups...), Method: convert.Mean, Target: convert.Expanded}
		expanded, all := golden.Load(t, convertTo(t, c.Dir, o))
		want := slices.Clone(infer.New(cpu.New(), expanded.Arch, all).Logits(c.Batch()).F32())

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

// TestLayersOnward: converting a model with KV heads per layer gives the same as converting the original directly, file for
// file. The first head of a group of groups is that of all.
func TestLayersOnward(t *testing.T) {
	onLayered(t, func(t *testing.T, c *golden.Case, src *weights.Source) {
		legal := src.Arch.LegalGroups()
		most := legal[len(legal)-2] // of 8 or 6 heads: 4 or 3
		layers, fewer := make([]int, src.Arch.Layers), make([]int, src.Arch.Layers)
		for i := range layers {
			layers[i], fewer[i] = []int{src.Arch.Heads, most}[i%2], []int{most, 1}[i%2]
		}
		o := convert.Options{Goal: convert.GroupsPerLayer(layers...), Method: convert.First, Target: convert.Own}
		own := convertTo(t, c.Dir, o)
		whole := convertTo(t, c.Dir, convert.Options{Goal: convert.Groups(src.Arch.Heads), Method: convert.First, Target: convert.Own})
		for _, o := range []convert.Options{
			{Goal: convert.GroupsPerLayer(layers...), Target: convert.Own},
			{Goal: convert.GroupsPerLayer(layers...), Target: convert.Expanded},
			{Goal: convert.GroupsPerLayer(fewer...), Target: convert.Native},
			{Goal: convert.GroupsPerLayer(fewer...), Target: convert.Expanded},
			{Goal: convert.Groups(most), Target: convert.Own},
			{Goal: convert.Groups(1), Target: convert.Native},
			{Goal: convert.Groups(1), Target: convert.Expanded},
		} {
			o.Method = convert.First
			sameFolder(t, fmt.Sprintf("%+v", o), convertTo(t, own, o), convertTo(t, whole, o))
		}
		for _, o := range []convert.Options{{Goal: convert.GroupsPerLayer(layers...)}, {Goal: convert.GroupsPerLayer(fewer...)}, {Goal: convert.Groups(most)}} {
			o.Method, o.Target = convert.First, convert.GGUF
			if err := planned(t, whole, o); err != nil {
				wantSame(t, planned(t, own, o), err)
				continue
			}
			got, want := convertTo(t, own, o), convertTo(t, whole, o)
			if !bytes.Equal(read(t, filepath.Join(got, "model.gguf")), read(t, filepath.Join(want, "model.gguf"))) {
				t.Errorf("%+v: model.gguf differs", o)
			}
		}
	})
}

// sameFolder wants the same weights, and a config.json that says the same.
func sameFolder(t *testing.T, what, got, want string) {
	t.Helper()
	if !bytes.Equal(read(t, filepath.Join(got, "model.safetensors")), read(t, filepath.Join(want, "model.safetensors"))) {
		t.Errorf("%s: the weights differ", what)
	}
	a, _ := golden.Load(t, got)
	b, _ := golden.Load(t, want)
	if !slices.Equal(a.Arch.LayerKVHeads, b.Arch.LayerKVHeads) || a.Arch.KVHeads != b.Arch.KVHeads || a.Arch.Layout() != b.Arch.Layout() {
		t.Errorf("%s: opened with %d KV heads (%v), %s", what, a.Arch.KVHeads, a.Arch.LayerKVHeads, a.Arch.Layout())
	}
}

// planned returns the reason why dir cannot be converted with o.
func planned(t *testing.T, dir string, o convert.Options) error {
	t.Helper()
	src, _ := golden.Load(t, dir)
	_, err := convert.NewPlan(src, o)
	return err
}

func wantSame(t *testing.T, got, want error) {
	t.Helper()
	if got == nil || got.Error() != want.Error() {
		t.Errorf("error %v, want %v", got, want)
	}
}
