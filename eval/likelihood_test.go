package eval

import (
	"math"
	"slices"
	"testing"

	"gqa/internal/device/devicetest"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// someQueries are of several lengths: some share a beginning of 40 tokens, some continuations are of one token, and one differs from the
// first token on.
func someQueries(vocab int) (all []Query) {
	head := someIDs(1, 40, vocab)
	for i := range uint64(9) {
		context := someIDs(10+i, int(1+3*(i/2)), vocab)
		if i%3 == 0 {
			context = slices.Concat(head, context[:len(context)/3+1])
		}
		var q Query
		for j := range 3 + i%2 {
			end := someIDs(100*(i+1)+j, int(1+j*(i%4)), vocab)
			given := context
			if i == 5 {
				given = someIDs(50+j, 4, vocab)
			}
			q.Continuations = append(q.Continuations, Continuation{IDs: slices.Concat(given, end), From: len(given)})
		}
		all = append(all, q)
	}
	return all
}

// logP returns the likelihood of IDs[from:to] by logits [tokens, vocab], of which row t+shift predicts token t.
func logP(logits []float32, vocab int, ids []int32, from, to, shift int) Likelihood {
	l := Likelihood{Greedy: true}
	for t := from; t < to; t++ {
		row, sum := logits[(t+shift)*vocab:][:vocab], 0.0
		for _, x := range row {
			sum += math.Exp(float64(x))
		}
		l.LogP += float64(row[ids[t]]) - math.Log(sum)
		l.Greedy = l.Greedy && row[ids[t]] == slices.Max(row)
	}
	return l
}

// checkLikelihoods compares likelihoods with those of one pass for each continuation: they differ by no more than 1e-5 per token.
func checkLikelihoods(t *testing.T, m *Model, queries []Query, o LikelihoodOptions, one func(q Query, c Continuation) Likelihood) {
	t.Helper()
	answered := int64(0)
	o.Progress = func(n int64) { answered += n }
	all, err := Likelihoods(t.Context(), m, queries, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range queries {
		for j, c := range q.Continuations {
			got, want := all[i][j], one(q, c)
			if !(math.Abs(got.LogP-want.LogP) < 1e-5*float64(len(c.IDs)-c.From)) || got.Greedy != want.Greedy {
				t.Errorf("query %d, continuation %d: %v, want %v", i, j, got, want)
			}
		}
	}
	if answered != int64(len(queries)) {
		t.Errorf("%d queries reported, want %d", answered, len(queries))
	}
}

// TestLikelihoods: what is shared is the same as what is not.
func TestLikelihoods(t *testing.T) {
	for _, c := range golden.Cases(t) {
		m := mustLoad(t, c.Dir)
		if !m.Arch.Causal || m.Arch.EncoderLayers > 0 || m.CheckLength(64) != nil {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			vocab := m.Arch.Vocab
			checkLikelihoods(t, m, someQueries(vocab), LikelihoodOptions{}, func(_ Query, c Continuation) Likelihood {
				return logP(m.Host(m.Logits(ops.NewBatch(c.IDs[:len(c.IDs)-1]))), vocab, c.IDs, c.From, len(c.IDs), -1)
			})
		})
	}
	m := tiny(t, "llama")
	queries := someQueries(m.Arch.Vocab)
	want, err := Likelihoods(t.Context(), m, queries, LikelihoodOptions{})
	if err != nil {
		t.Fatal(err)
	}
	alone := newLikelihoods(t.Context(), m, queries, LikelihoodOptions{})
	if err := alone.decodeAlone(queries, 100); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		for j := range want[i] {
			if got := alone.all[i][j]; math.Abs(got.LogP-want[i][j].LogP) > 2e-5 || got.Greedy != want[i][j].Greedy {
				t.Errorf("alone: query %d, continuation %d: %v, want %v", i, j, got, want[i][j])
			}
		}
	}
}

func TestLikelihoodsOfEncoderDecoder(t *testing.T) {
	m := tiny(t, "t5")
	vocab, start := m.Arch.Vocab, int32(m.Arch.StartToken)
	queries := someQueries(vocab)
	for i := range queries {
		queries[i].Source = someIDs(uint64(i), 3+5*i, vocab)
		for j, c := range queries[i].Continuations {
			queries[i].Continuations[j] = Continuation{IDs: append([]int32{start}, c.IDs[c.From:]...), From: 1}
		}
	}
	checkLikelihoods(t, m, queries, LikelihoodOptions{}, func(q Query, c Continuation) Likelihood {
		b, source := ops.NewBatch(c.IDs[:len(c.IDs)-1]), ops.NewBatch(q.Source)
		b.Source = &source
		return logP(m.Host(m.Logits(b)), vocab, c.IDs, c.From, len(c.IDs), -1)
	})
}

func TestLikelihoodsOfEncoder(t *testing.T) {
	m := tiny(t, "bert")
	const mask = 3
	vocab := m.Arch.Vocab
	queries := someQueries(vocab)
	for i := range queries {
		for j := range queries[i].Continuations {
			c := &queries[i].Continuations[j]
			c.IDs, c.After = append(c.IDs, 4), 1
		}
	}
	checkLikelihoods(t, m, queries, LikelihoodOptions{Mask: mask}, func(_ Query, c Continuation) Likelihood {
		sum := Likelihood{Greedy: true}
		for at := c.From; at < len(c.IDs)-1; at++ {
			ids := slices.Clone(c.IDs)
			ids[at] = mask
			one := logP(m.Host(m.Logits(ops.NewBatch(ids))), vocab, c.IDs, at, at+1, 0)
			sum.LogP, sum.Greedy = sum.LogP+one.LogP, sum.Greedy && one.Greedy
		}
		return sum
	})
}

func TestLikelihoodsOfBrokenModel(t *testing.T) {
	m := broken(t)
	_, err := Likelihoods(t.Context(), m, someQueries(m.Arch.Vocab), LikelihoodOptions{})
	wantError(t, "likelihoods", err, "the model's logits are not finite")
	for want, q := range map[string]Query{
		"query 0: a continuation is tokens 0 to 2 of 2":     {Continuations: []Continuation{{IDs: []int32{1, 2}}}},
		"query 0: a continuation is tokens 2 to 2 of 2":     {Continuations: []Continuation{{IDs: []int32{1, 2}, From: 2}}},
		"query 0: token 1 has ID -1":                        {Continuations: []Continuation{{IDs: []int32{1, -1}, From: 1}}},
		"query 0: 1 tokens for an encoder, of which the mo": {Source: []int32{1}},
	} {
		_, err := Likelihoods(t.Context(), m, []Query{q}, LikelihoodOptions{})
		wantError(t, "likelihoods", err, want)
	}
}

// TestClusters: queries that share half of what their continuations share are read together.
func TestClusters(t *testing.T) {
	all := clusters(readings(someQueries(128)))
	if len(all) != 2 || len(all[0].head) != 41 && len(all[0].head) != 40 || len(all[0].readings) != 3 || len(all[1].readings) != 6 {
		t.Errorf("got %d clusters: %+v", len(all), all)
	}
	for _, b := range all[0].batches(1000, 2*all[0].width()) {
		if n := len(b.readings); n > 2 {
			t.Errorf("%d readings in a batch, whose cache has room for 2", n)
		}
	}
	for _, b := range all[1].batches(20, 1000) {
		if n := len(b.readings); n > 1 && n*b.width > 20 {
			t.Errorf("%d readings of %d tokens in a batch", n, b.width)
		}
	}
}

// TestLikelihoodsThroughCaches: with a cache that rounds or drops keys and values, they are those of a pass in which it does the same.
func TestLikelihoodsThroughCaches(t *testing.T) {
	for name, kv := range map[string]KVCache{"bf16": {DType: "bf16"}, "int8": {DType: "int8"}, "window": {Window: 9, Sinks: 2}} {
		m, err := LoadModel(t.Context(), golden.Named(t, "llama").Dir, ModelOptions{Cache: kv})
		if err != nil {
			t.Fatal(err)
		}
		queries := someQueries(m.Arch.Vocab)
		all, err := Likelihoods(t.Context(), m, queries, LikelihoodOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, q := range queries {
			for j, c := range q.Continuations {
				want := logP(m.Host(m.Logits(ops.NewBatch(c.IDs[:len(c.IDs)-1]))), m.Arch.Vocab, c.IDs, c.From, len(c.IDs), -1)
				if got := all[i][j]; math.Abs(got.LogP-want.LogP) > 2e-3*float64(len(c.IDs)-c.From) {
					t.Errorf("%s: query %d, continuation %d: %v, want %v", name, i, j, got, want)
				}
			}
		}
	}
}

// onScarce returns the sample on a device with memory of its own.
func onScarce(t *testing.T) (*Model, *devicetest.Scarce) {
	t.Helper()
	m, dev := gopher(t), devicetest.NewScarce()
	src, err := weights.Open(m.Dir, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if m.Decoder, err = infer.Build(dev, infer.Formats{}, m.Arch, src.Weights(t.Context())); err != nil {
		t.Fatal(err)
	}
	return m, dev
}

// What caches take of a device's memory is free again after likelihoods, continuations, a text and timing.
func TestCachesAreFreed(t *testing.T) {
	m, dev := onScarce(t)
	prompts := []Prompt{{IDs: someIDs(1, 5, m.Arch.Vocab)}, {IDs: someIDs(2, 60, m.Arch.Vocab)}}
	for name, work := range map[string]func() error{
		"likelihoods": func() error {
			_, err := Likelihoods(t.Context(), m, someQueries(m.Arch.Vocab), LikelihoodOptions{})
			return err
		},
		"continuations": func() error {
			_, err := Continue(t.Context(), m, prompts, ContinueOptions{MaxTokens: 3})
			return err
		},
		"a text": func() error {
			return Generate(t.Context(), m, prompts[0].IDs, GenerateOptions{MaxTokens: 3, Stop: -1}, func(int32) error { return nil })
		},
		"timing": func() error {
			_, err := MeasureLatencies(t.Context(), []Cell{{Model: m, LatencyOptions: LatencyOptions{1, 20, 8}}}, Machine{}, Timing{6, 1e-9})
			return err
		},
	} {
		var used [2]int
		for i := range used { // what the first time leaves is scratch memory of passes
			if err := work(); err != nil {
				t.Fatal(name, err)
			}
			used[i] = dev.InUse
		}
		if used[0] != used[1] || dev.Misused != nil {
			t.Errorf("%s: %d bytes are in use afterwards, then %d: %v", name, used[0], used[1], dev.Misused)
		}
	}
}

// Sequences that are read together have a cache that fits beside the model, in its own memory.
func TestCacheTokensOfADevice(t *testing.T) {
	m, dev := onScarce(t)
	m.Parameters = 1 << 30
	own, _ := m.kvBytes(m.keeps())
	for room, want := range map[int]int64{0: 1 << 31, 1 << 33: 1 << 31, 1<<31 + 1: 1 << 30, 1 << 20: leastCache} {
		if dev.Limit = 0; room > 0 {
			dev.Limit = dev.InUse + room
		}
		if got := m.cacheTokens(); int64(got) != want/own {
			t.Errorf("%d bytes of memory: a cache of %d tokens, want %d", room, got, want/own)
		}
	}
}
