//go:build cuda && linux

package eval

import (
	"math"
	"testing"

	"gqa/internal/cuda"
	"gqa/internal/devices"
	"gqa/internal/golden"
)

// TestLikelihoodsOnGPU: likelihoods, with what is shared, are those of the processor, and so are most greedy continuations.
func TestLikelihoodsOnGPU(t *testing.T) {
	if n, err := cuda.Count(); err != nil || n == 0 {
		t.Skipf("no GPU: %d found, %v", n, err)
	}
	for _, family := range []string{"llama", "bloom", "phi3-long", "gpt_neox"} {
		on := map[string]*Model{}
		for _, device := range []string{devices.CPU, devices.CUDA} {
			m, err := LoadModel(t.Context(), golden.Named(t, family).Dir, ModelOptions{Device: device})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			on[device] = m
		}
		queries := someQueries(on[devices.CPU].Arch.Vocab)
		want, err := Likelihoods(t.Context(), on[devices.CPU], queries, LikelihoodOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Likelihoods(t.Context(), on[devices.CUDA], queries, LikelihoodOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, q := range queries {
			for j, c := range q.Continuations {
				if !(math.Abs(got[i][j].LogP-want[i][j].LogP) < 1e-3*float64(len(c.IDs)-c.From)) {
					t.Errorf("%s: query %d, continuation %d: %v, want %v", family, i, j, got[i][j], want[i][j])
				}
			}
		}
		checkContinued(t, family, on[devices.CUDA], on[devices.CPU])
	}
}

// checkContinued compares the first tokens of continuations: later ones may differ after a tie.
func checkContinued(t *testing.T, name string, m, want *Model) {
	t.Helper()
	var prompts []Prompt
	for i := range 9 {
		prompts = append(prompts, Prompt{IDs: someIDs(uint64(i), 1+2*i, m.Arch.Vocab)})
	}
	a, err := Continue(t.Context(), m, prompts, ContinueOptions{MaxTokens: 8})
	if err != nil {
		t.Fatal(err)
	}
	z, err := Continue(t.Context(), want, prompts, ContinueOptions{MaxTokens: 8})
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i := range a {
		if a[i][0] == z[i][0] {
			same++
		}
	}
	if same < len(a)-1 {
		t.Errorf("%s: %d of %d continuations begin with the same token", name, same, len(a))
	}
}
