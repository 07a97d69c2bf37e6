package eval

import (
	"slices"
	"testing"
)

// TestContinue: prompts of several lengths have the continuations that they have one by one.
func TestContinue(t *testing.T) {
	for _, family := range []string{"llama", "phi3-long", "bloom", "t5"} {
		m := tiny(t, family)
		const stop = 7
		var prompts []Prompt
		for i := range 9 {
			p := Prompt{IDs: someIDs(uint64(i), 1+2*i, m.Arch.Vocab)}
			if m.Arch.EncoderLayers > 0 {
				p = Prompt{Source: p.IDs, IDs: []int32{int32(m.Arch.StartToken)}}
			}
			prompts = append(prompts, p)
		}
		answered := int64(0)
		all, err := Continue(t.Context(), m, prompts, ContinueOptions{
			MaxTokens: 12, Progress: func(n int64) { answered += n },
			Done: func(_ int, ids []int32) bool { return ids[len(ids)-1]%stop == 0 },
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range prompts {
			prompt := p.IDs
			if p.Source != nil {
				prompt = p.Source
			}
			want := generated(t, m, prompt, GenerateOptions{MaxTokens: 12, Stop: -1})
			if at := slices.IndexFunc(want, func(id int32) bool { return id%stop == 0 }); at >= 0 {
				want = want[:at+1]
			}
			if !slices.Equal(all[i], want) {
				t.Errorf("%s: prompt %d continues %v, want %v", family, i, all[i], want)
			}
		}
		if answered != int64(len(prompts)) {
			t.Errorf("%s: %d prompts reported, want %d", family, answered, len(prompts))
		}
	}
	m := tiny(t, "llama")
	_, err := Continue(t.Context(), m, []Prompt{{}}, ContinueOptions{MaxTokens: 1})
	wantError(t, "no tokens", err, "prompt 0: 0 tokens, 0 for an encoder, and 1 to write")
	_, err = Continue(t.Context(), tiny(t, "bert"), nil, ContinueOptions{})
	wantError(t, "encoder", err, "does not decode")
}
