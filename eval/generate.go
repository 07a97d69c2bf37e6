package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gqa/configs"
	"gqa/internal/cpu/nn"
	"gqa/internal/ops"
)

// GenerateOptions control how a continuation is sampled.
type GenerateOptions struct {
	MaxTokens   int
	Temperature float64 // 0 means always the most probable token
	TopK        int     // sample from the K most probable tokens only; 0 means all
	Seed        uint64
	Stop        int32   // a token that ends the text; negative for none
	Ends        []int32 // more such tokens
}

// Generate continues prompt. If the model has an encoder, the encoder reads the prompt and the decoder writes the answer,
// beginning with the model's start token. emit is called with every token as it is generated; if it returns an error,
// generation stops.
func Generate(ctx context.Context, m *Model, prompt []int32, o GenerateOptions, emit func(id int32) error) error {
	if len(prompt) == 0 {
		return errors.New("the prompt has no tokens")
	}
	if o.MaxTokens < 1 || o.Temperature < 0 || o.TopK < 0 {
		return fmt.Errorf("max-tokens is %d, temperature %g, top-k %d: want 1, 0, 0 or more", o.MaxTokens, o.Temperature, o.TopK)
	}
	if err := cmp.Or(m.checkDecodes(), m.CheckIDs(prompt)); err != nil {
		return err
	}
	if err := m.CheckLength(len(prompt) + o.MaxTokens - 1); err != nil {
		return fmt.Errorf("a prompt of %d tokens and %d more: %w", len(prompt), o.MaxTokens, err)
	}
	kept, err := m.kv.kept()
	if err != nil {
		return err
	}
	size := m.cacheBytes(kept, 1, len(prompt)+o.MaxTokens)
	if err := cmp.Or(m.CheckMemory("the KV cache", size), m.checkPass(1, len(prompt))); err != nil {
		return fmt.Errorf("a prompt of %d tokens and %d more: %w", len(prompt), o.MaxTokens, err)
	}
	m.Until(ctx)
	defer m.Until(context.Background())
	cache := m.NewCache(1, len(prompt)+o.MaxTokens)
	defer m.Free(cache)
	draw := sampler{o: o, r: rand.New(rand.NewPCG(o.Seed, 0))}
	next := append([]int32(nil), prompt...)
	if m.Arch.EncoderLayers > 0 {
		if err := m.Encode(cache, ops.NewBatch(prompt)); err != nil {
			return err
		}
		next = append(next[:0], int32(m.Arch.StartToken))
	}
	for range o.MaxTokens {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := m.Step(cache, next)
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		values := m.Host(logits)
		if err := m.Err(); err != nil {
			return err
		}
		if slices.ContainsFunc(values, notFinite) {
			return errors.New("the model's logits are not finite: its activations are too large for float32")
		}
		next = append(next[:0], draw.next(values))
		if next[0] == o.Stop || slices.Contains(o.Ends, next[0]) {
			return nil
		}
		if err := emit(next[0]); err != nil {
			return err
		}
	}
	return nil
}

// Room returns how many of the given number of tokens a model can write after a prompt of promptLen: all of them, unless
// its positions end before. The last written token needs no position of its own.
func Room(a *configs.Arch, promptLen, tokens int) int {
	return Fit(a, promptLen+tokens-1) - promptLen + 1
}

func notFinite(x float32) bool { return math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) }

type sampler struct {
	o     GenerateOptions
	r     *rand.Rand
	best  [1]int32
	order []int
	probs []float64
}

func (s *sampler) next(logits []float32) int32 {
	if s.o.Temperature == 0 {
		nn.ArgmaxRows(s.best[:], logits, 1, len(logits))
		return s.best[0]
	}
	s.order = s.order[:0]
	for i := range logits {
		s.order = append(s.order, i)
	}
	slices.SortStableFunc(s.order, func(a, b int) int { return cmp.Compare(logits[b], logits[a]) })
	if k := s.o.TopK; k > 0 && k < len(s.order) {
		s.order = s.order[:k]
	}
	return int32(s.draw(logits))
}

// draw samples from s.order by the softmax of logits / temperature.
func (s *sampler) draw(logits []float32) int {
	s.probs = s.probs[:0]
	sum := 0.0
	for _, i := range s.order {
		p := math.Exp(float64(logits[i]-logits[s.order[0]]) / s.o.Temperature)
		s.probs = append(s.probs, p)
		sum += p
	}
	at := s.r.Float64() * sum
	for j, p := range s.probs {
		if at -= p; at < 0 {
			return s.order[j]
		}
	}
	return s.order[0]
}
