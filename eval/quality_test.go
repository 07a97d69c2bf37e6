package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"gqa/configs"
	"gqa/internal/data"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
)

func mustMeasure(t *testing.T, m *Model, s *data.Tokens, o QualityOptions) *Quality {
	t.Helper()
	q, err := MeasureQuality(t.Context(), m, nextToken(s, o.seqLen(m)), o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// nextToken is a corpus of which each token of a window is predicted from those before it.
func nextToken(s *data.Tokens, window int) *Corpus {
	return &Corpus{Tokens: s, Objective: data.NextToken{}, Window: window}
}

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance }

func sampleText(t *testing.T, m *Model, tokens int) *data.Tokens {
	t.Helper()
	s, err := data.LoadTokens(t.Context(), "sample:val", m.Dir, m.Arch.Vocab, data.Options{MaxTokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestQualityOfSample: the figures are of a program in C, in float64 throughout, that reads the sample's weights and the ids
// of the first six windows. transformers' loss over the first hundred windows (reference.json) is 1.725436; this program's is
// that within 2e-6.
func TestQualityOfSample(t *testing.T) {
	m := gopher(t)
	q := mustMeasure(t, m, sampleText(t, m, 6*512+5), QualityOptions{SeqLen: 512})
	const loss, stderr, right, tokens, bitsPerByte = 1.963336086, 0.098282619, 1762, 3066, 1.146610825
	if !near(q.Loss, loss, 1e-5) || !near(q.LossStderr, stderr, 1e-5) || !near(q.Perplexity, math.Exp(loss), 1e-4) {
		t.Errorf("loss %v ± %v, perplexity %v; want %v ± %v", q.Loss, q.LossStderr, q.Perplexity, loss, stderr)
	}
	if q.Tokens != tokens || q.Windows != 6 || !near(q.TokenAccuracy, float64(right)/tokens, 1.5/tokens) {
		t.Errorf("accuracy %v of %d tokens in %d windows, want %v", q.TokenAccuracy, q.Tokens, q.Windows, float64(right)/tokens)
	}
	if q.BitsPerByte == nil || !near(*q.BitsPerByte, bitsPerByte, 1e-5) {
		t.Errorf("bits per byte %v, want %v", q.BitsPerByte, bitsPerByte)
	}
	if q.KL != nil || q.KLStderr != nil || q.Top1Agreement != nil {
		t.Errorf("figures of a teacher without one: %v, %v, %v", q.KL, q.KLStderr, q.Top1Agreement)
	}
}

// figures is the definition of Quality, in float64, from the logits of one window after another.
type figures struct{ loss, accuracy, kl, agreement []float64 } // window means

func define(m, teacher *Model, ids []int32, seqLen, windows int) (f figures) {
	for i := range windows {
		window := ids[i*seqLen : (i+1)*seqLen]
		p, q := probabilities(teacher, window), probabilities(m, window)
		var loss, right, kl, agree float64
		for r := range seqLen - 1 {
			next := window[r+1]
			loss -= math.Log(q[r][next])
			right += indicator(most(q[r]) == int(next))
			agree += indicator(most(q[r]) == most(p[r]))
			for j := range p[r] {
				kl += p[r][j] * math.Log(p[r][j]/q[r][j])
			}
		}
		n := float64(seqLen - 1)
		f.loss, f.accuracy = append(f.loss, loss/n), append(f.accuracy, right/n)
		f.kl, f.agreement = append(f.kl, kl/n), append(f.agreement, agree/n)
	}
	return f
}

func probabilities(m *Model, window []int32) (rows [][]float64) {
	logits, vocab := m.Logits(ops.NewBatch(window)).F32(), m.Arch.Vocab
	for r := range window {
		row, sum := make([]float64, vocab), 0.0
		for j := range row {
			row[j] = math.Exp(float64(logits[r*vocab+j]))
			sum += row[j]
		}
		for j := range row {
			row[j] /= sum
		}
		rows = append(rows, row)
	}
	return rows
}

func most(row []float64) int { return slices.Index(row, slices.Max(row)) }

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func meanAndError(x []float64) (mean, stderr float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	if len(x) < 2 {
		return mean, 0
	}
	for _, v := range x {
		stderr += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(stderr / float64(len(x)-1) / float64(len(x)))
}

// TestQualityDefinition also cuts the work in every way: batches of windows, rows of logits.
func TestQualityDefinition(t *testing.T) {
	m, teacher := tiny(t, "llama"), tiny(t, "gpt2")
	for _, c := range []struct{ tokens, seqLen, max, headRows, windows int }{
		{57, 11, 0, 1 << 20, 5},
		{57, 11, 0, 7, 5},
		{57, 11, 0, 1, 5},
		{57, 11, 3, 20, 3},
		{57, 11, 9, 55, 5},
		{57, 57, 0, 8, 1},
		{57, 2, 0, 5, 28},
		{2 * (scoreRows + 100), 64, 0, 1000, 131}, // more than two batches, the last one smaller
	} {
		s := &data.Tokens{Name: "ids", IDs: someIDs(1, c.tokens, 128)}
		m.headRows, teacher.headRows = c.headRows, 3 // only the model's own counts
		scored := int64(0)
		q := mustMeasure(t, m, s, QualityOptions{
			SeqLen: c.seqLen, MaxWindows: c.max, Teacher: teacher, Progress: func(n int64) { scored += n },
		})
		if q.Windows != c.windows || q.Tokens != c.windows*(c.seqLen-1) || scored != int64(c.windows) {
			t.Errorf("%+v: %d windows, %d tokens, progress %d", c, q.Windows, q.Tokens, scored)
		}
		want := define(m, teacher, s.IDs, c.seqLen, c.windows)
		for _, f := range []struct {
			name          string
			mean, stderr  float64
			windows       []float64
			hasNoErrorKey bool
		}{
			{"loss", q.Loss, q.LossStderr, want.loss, false},
			{"accuracy", q.TokenAccuracy, q.AccuracyError, want.accuracy, false},
			{"kl", *q.KL, *q.KLStderr, want.kl, false},
			{"agreement", *q.Top1Agreement, 0, want.agreement, true},
		} {
			mean, stderr := meanAndError(f.windows)
			if !near(f.mean, mean, 2e-5) || !f.hasNoErrorKey && !near(f.stderr, stderr, 2e-5) {
				t.Errorf("%+v: %s %v ± %v, want %v ± %v", c, f.name, f.mean, f.stderr, mean, stderr)
			}
		}
		if q.BitsPerByte != nil {
			t.Errorf("%+v: %v bits per byte of ids", c, *q.BitsPerByte)
		}
	}
}

func TestQualityAgainstItself(t *testing.T) {
	m, s := tiny(t, "gpt_neox"), &data.Tokens{IDs: someIDs(2, 60, 128)}
	q := mustMeasure(t, m, s, QualityOptions{SeqLen: 12, Teacher: m})
	if math.Abs(*q.KL) > 1e-12 || *q.Top1Agreement != 1 {
		t.Errorf("KL %v, agreement %v; want 0 and 1", *q.KL, *q.Top1Agreement)
	}
}

// The window defaults to the model's context.
func TestQualityDefaultWindow(t *testing.T) {
	m := tiny(t, "gpt2")
	o := QualityOptions{MaxWindows: 2}
	d := &data.Dataset{Tokens: &data.Tokens{IDs: make([]int32, 3*m.Arch.Context-1)}, Window: o.data(m).SeqLen}
	if o.tokens(m) != 2*m.Arch.Context || o.Windows(d) != 2 || (QualityOptions{}).tokens(m) != 0 {
		t.Errorf("%d tokens, %d windows", o.tokens(m), o.Windows(d))
	}
	q := mustMeasure(t, m, &data.Tokens{IDs: someIDs(2, 3*m.Arch.Context-1, 128)}, o)
	if q.Windows != 2 || q.Tokens != 2*(m.Arch.Context-1) {
		t.Errorf("%d tokens in %d windows", q.Tokens, q.Windows)
	}
	m.Arch.Context = 1 << 20
	if n := (QualityOptions{MaxWindows: 1}).tokens(m); n != 2048 {
		t.Errorf("a window of a long context is %d tokens, want 2048", n)
	}
}

func TestQualityRefuses(t *testing.T) {
	m, other := tiny(t, "llama"), gopher(t)
	learned := tiny(t, "gpt2")
	s := &data.Tokens{Name: "corpus.txt", IDs: someIDs(3, 100, 128)}
	for _, c := range []struct {
		name string
		m    *Model
		o    QualityOptions
		want string
	}{
		{"one token", m, QualityOptions{SeqLen: 1}, "window of 1 token: want 2 or more"},
		{"short corpus", m, QualityOptions{SeqLen: 101}, "corpus.txt: corpus has 100 tokens, shorter than one window of 101"},
		{"positions", learned, QualityOptions{SeqLen: 65}, "65 positions requested, but the model has 64"},
		{"the teacher's positions", m, QualityOptions{SeqLen: 65, Teacher: learned}, "teacher: 65 positions requested"},
		{"vocabulary", m, QualityOptions{SeqLen: 10, Teacher: other}, "the teacher's vocabulary is 2048, the model's 128"},
		{"NaN", broken(t), QualityOptions{SeqLen: 10}, "the loss is NaN"},
		{"the teacher's NaN", m, QualityOptions{SeqLen: 10, Teacher: broken(t)}, "the KL divergence NaN"},
	} {
		q, err := MeasureQuality(t.Context(), c.m, nextToken(s, c.o.SeqLen), c.o)
		wantError(t, c.name, err, c.want)
		if q != nil {
			t.Errorf("%s: figures %+v", c.name, q)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MeasureQuality(ctx, m, nextToken(s, 10), QualityOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestQualityJSON(t *testing.T) {
	m, s := tiny(t, "llama"), &data.Tokens{IDs: someIDs(3, 40, 128)}
	contract := []string{"bits_per_byte", "kl", "loss", "loss_stderr", "perplexity", "token_accuracy", "tokens", "top1_agreement"}
	more := []string{"kl_stderr", "token_accuracy_stderr", "windows"}
	for _, teacher := range []*Model{nil, tiny(t, "gpt2")} {
		got := asJSON(t, mustMeasure(t, m, s, QualityOptions{SeqLen: 10, Teacher: teacher}))
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, slices.Sorted(slices.Values(slices.Concat(contract, more)))) {
			t.Errorf("keys %v, want %v and %v", keys, contract, more)
		}
		for _, key := range []string{"kl", "kl_stderr", "top1_agreement"} {
			if (got[key] != nil) != (teacher != nil) {
				t.Errorf("%s is %v, with a teacher: %v", key, got[key], teacher != nil)
			}
		}
		if got["bits_per_byte"] != nil {
			t.Errorf("bits_per_byte is %v, want null for ids", got["bits_per_byte"])
		}
	}
}

func asJSON(t *testing.T, figures any) (got map[string]any) {
	t.Helper()
	text, err := json.Marshal(figures)
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestQualityPrint(t *testing.T) {
	bits, kl, klError, agreement := 1.5, 0.25, 0.015, 0.875
	q := Quality{Loss: 2, LossStderr: 0.1, Perplexity: 7.389, TokenAccuracy: 0.5, AccuracyError: 0.02, Tokens: 18, Windows: 2}
	short := "loss            2.0000 ± 0.1000 nats/token\nperplexity      7.389\ntoken accuracy  50.00% ± 2.00%\n" +
		"tokens          18 in 2 windows\n"
	full := "loss            2.0000 ± 0.1000 nats/token\nperplexity      7.389\nbits per byte   1.5000\ntoken accuracy  50.00% ± 2.00%\n" +
		"KL to teacher   0.2500 ± 0.0150 nats/token\ntop-1 agreement 87.50%\ntokens          18 in 2 windows\n"
	for want, set := range map[string]func(q *Quality){
		short: func(*Quality) {},
		full:  func(q *Quality) { q.BitsPerByte, q.KL, q.KLStderr, q.Top1Agreement = &bits, &kl, &klError, &agreement },
		strings.NewReplacer(" ± 0.1000", "", " ± 2.00%", "", "2 windows", "1 window").Replace(short): func(q *Quality) { q.Windows = 1 },
	} {
		got, q := new(bytes.Buffer), q
		set(&q)
		if err := q.Print(got); err != nil || got.String() != want {
			t.Errorf("printed\n%swant\n%s(%v)", got, want, err)
		}
	}
}

// TestQualityOfUntiedHead: an encoder with its own head scores masked tokens with that head: if it has the embedding's
// values, the scores are unchanged, otherwise they differ.
func TestQualityOfUntiedHead(t *testing.T) {
	src, all := golden.Load(t, golden.Named(t, "bert").Dir)
	config := bytes.Replace(src.Config, []byte(`"tie_word_embeddings": true`), []byte(`"tie_word_embeddings": false`), 1)
	untied, err := configs.Resolve(config, "")
	if err != nil || untied.Tied {
		t.Fatalf("tied %v (%v)", untied.Tied, err)
	}
	score := func(a *configs.Arch) float64 {
		m, err := NewModel(ModelOptions{}, "", a, model.FromMap(a, all))
		if err != nil {
			t.Fatal(err)
		}
		d := &data.Dataset{Tokens: &data.Tokens{IDs: someIDs(4, 96, a.Vocab)}, Objective: data.Masked{Mask: 3}, Window: 24}
		q, err := MeasureQuality(t.Context(), m, d, QualityOptions{SeqLen: 24})
		if err != nil {
			t.Fatal(err)
		}
		return q.Loss
	}
	want, head := score(src.Arch), slices.Clone(all["embed.weight"])
	all["head.weight"] = head
	if got := score(untied); got != want {
		t.Errorf("loss %v with a copy of the embedding, want %v", got, want)
	}
	for i := range head {
		head[i] *= -1
	}
	if got := score(untied); math.Abs(got-want) < 0.1 {
		t.Errorf("loss %v with another head, as without", got)
	}
}
