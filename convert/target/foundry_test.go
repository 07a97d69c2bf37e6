package target_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gqa/convert"
	"gqa/convert/target"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// convertTo converts the checkpoint in dir by the mean.
func convertTo(t *testing.T, dir string, groups int, form convert.Target) *weights.Source {
	t.Helper()
	plan, err := convert.NewPlan(golden.Open(t, dir), convert.Options{Goal: convert.Groups(groups), Method: convert.Mean, Target: form})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := plan.Run(t.Context(), out, convert.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return golden.Open(t, out)
}

// ownTo converts the checkpoint in dir to its family's own tensors.
func ownTo(t *testing.T, dir string, groups int) *weights.Source {
	t.Helper()
	return convertTo(t, dir, groups, target.Own)
}

// TestFoundryOPT writes every OPT reference case as llm-foundry's MPT, with as many KV heads as heads and with fewer:
// read back, it has OPT's logits and can be converted again. For what does not fit, the error says why.
func TestFoundryOPT(t *testing.T) {
	for name, why := range map[string]string{
		"opt":         "",
		"opt-plain":   "",
		"opt-350m":    "MPTForCausalLM: width of embeddings is 48 there, 20 here",
		"opt-nofinal": "MPTForCausalLM: width of embeddings is 48 there, 72 here",
	} {
		t.Run(name, func(t *testing.T) {
			c := golden.Named(t, name)
			src := golden.Open(t, c.Dir)
			for _, groups := range append([]int{src.Arch.Heads}, c.Groups()...) {
				own := ownTo(t, c.Dir, groups)
				to, config, reasons := target.FindNeighbour(own.Arch, own.Config)
				if why != "" {
					if to != nil || len(reasons) != 1 || reasons[0].Error() != why {
						t.Fatalf("%d groups: %v %v, want %s", groups, to, reasons, why)
					}
					continue
				}
				out := filepath.Join(t.TempDir(), "out")
				if err := os.Mkdir(out, 0o777); err != nil {
					t.Fatal(err)
				}
				n, err := target.NewNeighbour(target.Unchanged(t, own), to, config)
				if err != nil {
					t.Fatal(err)
				}
				if err := n.Write(t.Context(), out, target.NoReader{}, func(int64) {}); err != nil {
					t.Fatal(err)
				}
				sameLogits(t, c, golden.Open(t, out), own)
				for _, g := range c.Groups() {
					if groups%g == 0 && groups > g {
						sameLogits(t, c, convertTo(t, out, g, target.Native), ownTo(t, c.Dir, g))
					}
				}
			}
		})
	}
}

// sameLogits checks that the logits of got equal want's within 1e-5.
func sameLogits(t *testing.T, c *golden.Case, got, want *weights.Source) {
	t.Helper()
	if got.Arch.Family.Name != "mpt" || got.Arch.Unknown != nil {
		t.Errorf("%s, keys %q unknown", got.Arch.Family.Name, got.Arch.Unknown)
	}
	logits := func(src *weights.Source) []float32 {
		all, err := src.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(infer.New(cpu.New(), src.Arch, all).Logits(c.Batch()).F32())
	}
	a, b := logits(got), logits(want)
	for i := range b {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= 1e-5) {
			t.Fatalf("%d of %d KV heads: logit %d is %v, want %v", got.Arch.KVHeads, got.Arch.Heads, i, a[i], b[i])
		}
	}
}
