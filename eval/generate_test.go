package eval

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gqa/internal/golden"
)

func generated(t *testing.T, m *Model, prompt []int32, o GenerateOptions) (ids []int32) {
	t.Helper()
	err := Generate(t.Context(), m, prompt, o, func(id int32) error { ids = append(ids, id); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// greedy is transformers' greedy continuation of 64 tokens after a prompt of 32.
func greedy(t *testing.T) (prompt, continuation []int32) {
	t.Helper()
	ref := golden.SampleReference(t)
	tensor, ok := ref.Tensor("greedy_ids")
	if !ok {
		t.Fatal("the sample has no greedy_ids")
	}
	wide, err := tensor.Int64()
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, len(wide))
	for i, id := range wide {
		ids[i] = int32(id)
	}
	return ids[:32], ids[32:]
}

func TestGenerateGreedy(t *testing.T) {
	m := gopher(t)
	prompt, want := greedy(t)
	kept := slices.Clone(prompt)
	for name, o := range map[string]GenerateOptions{
		"temperature 0": {MaxTokens: len(want), Stop: -1},
		"top-k 1":       {MaxTokens: len(want), Stop: -1, Temperature: 3, TopK: 1, Seed: 9},
	} {
		if got := generated(t, m, prompt, o); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if !slices.Equal(prompt, kept) {
		t.Error("the prompt has changed")
	}
	for at := range want {
		if slices.Index(want, want[at]) != at {
			continue // came before
		}
		if got := generated(t, m, prompt, GenerateOptions{MaxTokens: len(want), Stop: want[at]}); !slices.Equal(got, want[:at]) {
			t.Errorf("stopping at %d: %v, want %v", want[at], got, want[:at])
		}
		if at > 5 {
			break
		}
	}
}

func TestGenerateBySeed(t *testing.T) {
	m, prompt := tiny(t, "llama"), []int32{5, 6, 7}
	o := GenerateOptions{MaxTokens: 20, Temperature: 1, Stop: -1}
	first := generated(t, m, prompt, o)
	if again := generated(t, m, prompt, o); !slices.Equal(again, first) {
		t.Errorf("the same seed gives %v, then %v", first, again)
	}
	o.Seed = 1
	if other := generated(t, m, prompt, o); slices.Equal(other, first) {
		t.Errorf("seeds 0 and 1 both give %v", first)
	}
	if len(first) != 20 {
		t.Errorf("%d tokens, want 20", len(first))
	}
}

// TestSampler holds draws to the softmax of logits/temperature over the top k: frequencies of 40000 draws are within 0.015 of
// the probabilities, six standard deviations.
func TestSampler(t *testing.T) {
	logits := []float32{1, 3, 2, -1, 3.5}
	for _, c := range []struct {
		temperature float64
		topK        int
	}{{1, 0}, {1, 5}, {1, 9}, {1, 2}, {0.5, 3}, {2, 0}, {1e-3, 0}} {
		s := sampler{o: GenerateOptions{Temperature: c.temperature, TopK: c.topK}, r: rand.New(rand.NewPCG(1, 0))}
		counts := make([]float64, len(logits))
		const draws = 40000
		for range draws {
			counts[s.next(logits)] += 1.0 / draws
		}
		for i, want := range softTop(logits, c.temperature, c.topK) {
			if math.Abs(counts[i]-want) > 0.015 || want == 0 && counts[i] != 0 {
				t.Errorf("%+v: token %d came in %v of the draws, want %v", c, i, counts[i], want)
			}
		}
	}
}

func softTop(logits []float32, temperature float64, k int) []float64 {
	best := slices.Clone(logits)
	slices.Sort(best)
	if k > 0 && k < len(best) {
		best = best[len(best)-k:]
	}
	p, sum := make([]float64, len(logits)), 0.0
	for i, x := range logits {
		if x >= best[0] {
			p[i] = math.Exp(float64(x-3.5) / temperature)
			sum += p[i]
		}
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

func TestGenerateRefuses(t *testing.T) {
	m, learned := tiny(t, "llama"), tiny(t, "gpt2")
	for _, c := range []struct {
		m      *Model
		prompt []int32
		o      GenerateOptions
		want   string
	}{
		{m, nil, GenerateOptions{MaxTokens: 1}, "the prompt has no tokens"},
		{m, []int32{1}, GenerateOptions{}, "max-tokens is 0, temperature 0, top-k 0: want 1, 0, 0 or more"},
		{m, []int32{1}, GenerateOptions{MaxTokens: 1, Temperature: -1}, "temperature -1"},
		{m, []int32{1}, GenerateOptions{MaxTokens: 1, TopK: -1}, "top-k -1"},
		{m, []int32{1, 128}, GenerateOptions{MaxTokens: 1}, "token 1 has ID 128, outside the model's vocabulary of 128"},
		{broken(t), []int32{1, 2}, GenerateOptions{MaxTokens: 4}, "the model's logits are not finite"},
		{m, []int32{1}, GenerateOptions{MaxTokens: 1 << 40}, "a prompt of 1 tokens and 1099511627776 more: the KV cache takes "},
		{learned, []int32{1, 2}, GenerateOptions{MaxTokens: 64}, "a prompt of 2 tokens and 64 more: 65 positions requested, but the model has 64"},
	} {
		err := Generate(t.Context(), c.m, c.prompt, c.o, func(int32) error { t.Errorf("%s: a token came", c.want); return nil })
		wantError(t, c.want, err, c.want)
	}
	if ids := generated(t, learned, []int32{1, 2}, GenerateOptions{MaxTokens: 63, Stop: -1}); len(ids) != 63 {
		t.Errorf("%d tokens up to the last position, want 63", len(ids))
	}
}

func TestGenerateEnds(t *testing.T) {
	m, full := tiny(t, "llama"), errors.New("full")
	o := GenerateOptions{MaxTokens: 9, Stop: -1}
	ctx, cancel := context.WithCancel(t.Context())
	count := 0
	err := Generate(ctx, m, []int32{1}, o, func(int32) error {
		if count++; count == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || count != 3 {
		t.Errorf("cancelled after 3: %v after %d", err, count)
	}
	if err := Generate(t.Context(), m, []int32{1}, o, func(int32) error { return full }); !errors.Is(err, full) {
		t.Errorf("nowhere to write: %v", err)
	}
}
