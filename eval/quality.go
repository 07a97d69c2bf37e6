package eval

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"gqa/internal/data"
	"gqa/internal/engine/infer"
)

// QualityOptions control how a model is scored.
type QualityOptions struct {
	SeqLen     int                 // tokens per window; windows do not overlap; 0 means the model's context, at most 2048
	MaxWindows int                 // 0 means all
	TextKey    string              // of JSON records; empty means data.TextKey
	Seed       uint64              // for the choice of tokens that are masked for an encoder
	Teacher    *Model              // to compare with, if not nil
	Metrics    []Metric            // measured in addition to the standard figures
	Progress   func(windows int64) // called with the number of windows as they are scored; may be nil
}

// Quality measures how well a model predicts a corpus. In a window of n tokens a decoder without an encoder predicts n-1
// tokens, an encoder 15%. If the data has labels, those that are not ignored are predicted.
type Quality struct {
	Loss          float64  `json:"loss"`        // nats per token
	LossStderr    float64  `json:"loss_stderr"` // of the mean over windows; 0 if there is only one
	Perplexity    float64  `json:"perplexity"`
	BitsPerByte   *float64 `json:"bits_per_byte"`  // of text; null if the data consists of ids
	TokenAccuracy float64  `json:"token_accuracy"` // share of tokens that were predicted as the most probable
	KL            *float64 `json:"kl"`             // KL(teacher || model), nats per token; null without a teacher
	Top1Agreement *float64 `json:"top1_agreement"` // share of tokens for which both models have the same most probable token
	Tokens        int      `json:"tokens"`         // predicted
	Windows       int      `json:"windows"`
	KLStderr      *float64 `json:"kl_stderr"`
	AccuracyError float64  `json:"token_accuracy_stderr"`

	Metrics map[string]Estimate `json:"metrics,omitempty"` // of QualityOptions.Metrics, by name

	// Figures are all of these that are means over windows, by their names in JSON, with the values of the windows.
	Figures map[string]Figure `json:"-"`
}

// Corpus is a text as token ids, with what a model must predict of it.
type Corpus = data.Dataset

// LoadCorpus reads a corpus with the tokenizer of m. name is a file of text, source code or JSON records (see
// docs/formats.md), a folder of these, a .safetensors file with input_ids, or "sample:train" or "sample:val".
func LoadCorpus(ctx context.Context, name string, m *Model, o QualityOptions) (*Corpus, error) {
	return data.Load(ctx, name, m.Dir, m.Arch, o.data(m))
}

// MeasureQuality scores a model on its predictions of a corpus. The corpus determines the length of a window; SeqLen of
// the options is for [LoadCorpus].
func MeasureQuality(ctx context.Context, m *Model, d *Corpus, o QualityOptions) (*Quality, error) {
	if err := checkQuality(m, d, o); err != nil {
		return nil, err
	}
	if _, err := data.Windows(d.IDs, d.Window); err != nil {
		return nil, WindowError{fmt.Errorf("%s: %w", d.Name, err)}
	}
	for _, model := range []*Model{m, o.Teacher} {
		if model != nil {
			model.Until(ctx)
			defer model.Until(context.Background())
		}
	}
	windows := int(o.Windows(d))
	t := newTally(m, o, d)
	per := min(windows, max(1, scoreRows/d.Window))
	for at := 0; at < windows; at += per {
		n := min(per, windows-at)
		ids := d.Read(at*d.Window, (at+n)*d.Window)
		if err := d.Err(); err != nil {
			return nil, err
		}
		t.score(ctx, ids, n)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if t.err != nil {
			return nil, t.err
		}
		if o.Progress != nil {
			o.Progress(int64(n))
		}
	}
	q := t.quality()
	items := identity(d, windows)
	for name, f := range q.Figures {
		f.Items = items
		q.Figures[name] = f
	}
	if math.IsNaN(q.Loss+t.kl.mean()) || math.IsInf(q.Loss+t.kl.mean(), 0) {
		return nil, fmt.Errorf("the loss is %v, the KL divergence %v: a model has weights or activations that are not finite numbers", q.Loss, t.kl.mean())
	}
	return q, nil
}

// WindowError reports that windows are too short or too long: for prediction, the corpus, a model or memory.
type WindowError struct{ Err error }

// Error returns the text of the wrapped error.
func (e WindowError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e WindowError) Unwrap() error { return e.Err }

// scoreRows is the number of tokens that go through the layers at once.
const scoreRows = 4096

func checkQuality(m *Model, d *data.Dataset, o QualityOptions) error {
	_, labelled := d.Objective.(data.Labelled) // its rows were checked when they were read
	if d.Window < 2 {
		return WindowError{fmt.Errorf("window of %s: want 2 or more, since the first one is not predicted", count(d.Window, "token"))}
	}
	if err := m.CheckLength(d.Window); err != nil && !labelled {
		return WindowError{err}
	}
	if err := m.checkPass(1, d.Window); err != nil {
		return WindowError{err}
	}
	if t := o.Teacher; t != nil {
		if t.Arch.Vocab != m.Arch.Vocab {
			return fmt.Errorf("the teacher's vocabulary is %d, the model's %d: their predictions cannot be compared", t.Arch.Vocab, m.Arch.Vocab)
		}
		if !slices.Equal(t.Arch.Sites(), m.Arch.Sites()) {
			return fmt.Errorf("the teacher attends at %v, the model at %v: they do not predict the same", t.Arch.Sites(), m.Arch.Sites())
		}
		if err := t.CheckLength(d.Window); err != nil && !labelled {
			return WindowError{fmt.Errorf("teacher: %w", err)}
		}
	}
	return nil
}

// tally accumulates the scores of the windows. Each figure is kept as window means, so that its error allows for the
// correlation of tokens within a window.
type tally struct {
	model             *Model
	o                 QualityOptions
	data              *data.Dataset
	loss, accuracy    series
	kl, agreement     series
	bits              series // per byte
	rowLoss, rowKL    []float32
	best, teacherBest []int32
	targets           []int32
	err               error // of the tokenizer or of a device
	rowMetrics        [][]float32
	metrics           []series // of o.Metrics
}

func newTally(m *Model, o QualityOptions, d *data.Dataset) *tally {
	n := len(o.Metrics)
	return &tally{model: m, o: o, data: d, rowMetrics: make([][]float32, n), metrics: make([]series, n)}
}

// score runs n windows through the model (and the teacher) and adds their scores.
func (t *tally) score(ctx context.Context, ids []int32, n int) {
	windows := slices.Collect(slices.Chunk(ids, t.data.Window))
	b, targets := t.data.Batch(windows)
	t.size(len(targets))
	t.targets = targets
	hidden, teacherHidden := t.model.Hidden(b), infer.Mat{}
	if t.o.Teacher != nil {
		teacherHidden = t.o.Teacher.Hidden(b)
	}
	for lo := 0; lo < len(targets) && ctx.Err() == nil; lo += t.model.headRows {
		hi := min(lo+t.model.headRows, len(targets))
		var teacher infer.Mat
		if t.o.Teacher != nil {
			teacher = t.o.Teacher.Head(teacherHidden, lo, hi)
		}
		t.scoreRows(t.model.Head(hidden, lo, hi), teacher, lo, hi)
	}
	t.err = cmp.Or(t.err, t.model.Err())
	if t.o.Teacher != nil {
		t.err = cmp.Or(t.err, t.o.Teacher.Err())
	}
	rows := len(targets) / n
	for i := range n {
		t.addWindow(i*rows, (i+1)*rows)
	}
}

func (t *tally) size(rows int) {
	if len(t.rowLoss) == rows {
		return
	}
	for _, s := range []*[]float32{&t.rowLoss, &t.rowKL} {
		*s = make([]float32, rows)
	}
	for _, s := range []*[]int32{&t.best, &t.teacherBest} {
		*s = make([]int32, rows)
	}
	for i := range t.rowMetrics {
		t.rowMetrics[i] = make([]float32, rows)
	}
}

// scoreRows scores the logits of rows [lo, hi), the model's and, if there is one, the teacher's.
func (t *tally) scoreRows(logits, teacher infer.Mat, lo, hi int) {
	targets := t.targets[lo:hi]
	t.model.CrossEntropy(t.rowLoss[lo:hi], logits, targets)
	t.model.Argmax(t.best[lo:hi], logits)
	if len(t.o.Metrics) > 0 {
		host := t.model.Host(logits)
		for i, m := range t.o.Metrics {
			m.Score(t.rowMetrics[i][lo:hi], host, targets)
		}
	}
	if t.o.Teacher != nil {
		t.o.Teacher.Argmax(t.teacherBest[lo:hi], teacher)
		t.model.Divergence(t.rowKL[lo:hi], logits, teacher, targets)
	}
}

// addWindow adds the predictions of rows [lo, hi).
func (t *tally) addWindow(lo, hi int) {
	var n, loss, right, kl, agree, bytes float64
	for i := lo; i < hi; i++ {
		if t.targets[i] < 0 {
			continue
		}
		n++
		loss += float64(t.rowLoss[i])
		kl += float64(t.rowKL[i])
		if t.best[i] == t.targets[i] {
			right++
		}
		if t.best[i] == t.teacherBest[i] {
			agree++
		}
		if t.data.Tokenizer != nil {
			token, err := t.data.Tokenizer.TokenBytes(t.targets[i])
			bytes, t.err = bytes+float64(len(token)), cmp.Or(t.err, err)
		}
	}
	if n == 0 {
		return // a row whose labels are all ignored
	}
	t.loss.add(loss/n, n)
	if bytes > 0 {
		t.bits.add(loss/math.Ln2/bytes, bytes)
	}
	t.accuracy.add(right/n, n)
	t.kl.add(kl/n, n)
	t.agreement.add(agree/n, n)
	for i, scores := range t.rowMetrics {
		t.metrics[i].add(meanScore(scores[lo:hi], t.targets[lo:hi]), n)
	}
}

func (t *tally) quality() *Quality {
	q := &Quality{
		Loss: t.loss.mean(), LossStderr: t.loss.stderr(), Perplexity: math.Min(math.Exp(t.loss.mean()), math.MaxFloat64),
		TokenAccuracy: t.accuracy.mean(), AccuracyError: t.accuracy.stderr(),
		Windows: t.loss.n, Tokens: int(t.loss.weight),
	}
	q.Figures = map[string]Figure{
		"loss":           t.loss.figure("nats/token", "lower"),
		"token_accuracy": t.accuracy.figure("share of tokens", "higher"),
	}
	if t.bits.n > 0 {
		bits, f := t.bits.mean(), t.bits.figure("bits/byte", "lower")
		f.N = q.Tokens
		q.BitsPerByte, q.Figures["bits_per_byte"] = &bits, f
	}
	if t.o.Teacher != nil {
		kl, klError, agreement := t.kl.mean(), t.kl.stderr(), t.agreement.mean()
		q.KL, q.KLStderr, q.Top1Agreement = &kl, &klError, &agreement
		q.Figures["kl"] = t.kl.figure("nats/token", "lower")
		q.Figures["top1_agreement"] = t.agreement.figure("share of tokens", "higher")
	}
	for i, m := range t.o.Metrics {
		q.Figures[m.Name] = t.metrics[i].figure(m.Unit, cmp.Or(m.Better, "higher"))
	}
	q.Metrics = t.estimates()
	return q
}

// meanOf is a running weighted mean with its standard error (Welford; West 1979). A window's weight is its number of
// predictions.
type meanOf struct {
	n             int
	weight, m, m2 float64
}

func (s *meanOf) add(x, weight float64) {
	s.n++
	s.weight += weight
	d := x - s.m
	s.m += d * weight / s.weight
	s.m2 += d * weight * (x - s.m)
}

func (s *meanOf) mean() float64 { return s.m }

// stderr returns the standard error of the mean; 0 if there is only one window.
func (s *meanOf) stderr() float64 {
	if s.n < 2 {
		return 0
	}
	return math.Sqrt(s.m2 / s.weight / float64(s.n-1))
}

// Print writes the figures as text.
func (q *Quality) Print(w io.Writer) error {
	lines := fmt.Sprintf("loss            %s nats/token\nperplexity      %.4g\n", q.plusMinus("%.4f", q.Loss, q.LossStderr), q.Perplexity)
	if q.BitsPerByte != nil {
		lines += fmt.Sprintf("bits per byte   %.4f\n", *q.BitsPerByte)
	}
	lines += fmt.Sprintf("token accuracy  %s\n", q.plusMinus("%.2f%%", 100*q.TokenAccuracy, 100*q.AccuracyError))
	if q.KL != nil {
		lines += fmt.Sprintf("KL to teacher   %s nats/token\n", q.plusMinus("%.4f", *q.KL, *q.KLStderr))
		lines += fmt.Sprintf("top-1 agreement %.2f%%\n", 100**q.Top1Agreement)
	}
	for _, name := range slices.Sorted(maps.Keys(q.Metrics)) {
		e := q.Metrics[name]
		lines += fmt.Sprintf("%-15s %s\n", name, q.plusMinus("%.4f", e.Value, e.Stderr))
	}
	_, err := fmt.Fprintf(w, "%stokens          %d in %s\n", lines, q.Tokens, count(q.Windows, "window"))
	return err
}

// plusMinus formats a figure with its standard error, which is omitted for a single window.
func (q *Quality) plusMinus(format string, x, stderr float64) string {
	if q.Windows < 2 {
		return fmt.Sprintf(format, x)
	}
	return fmt.Sprintf(format+" ± "+format, x, stderr)
}

// Windows returns the number of windows of a corpus that will be scored.
func (o QualityOptions) Windows(d *data.Dataset) int64 {
	n := len(d.IDs) / d.Window
	if o.MaxWindows > 0 {
		n = min(n, o.MaxWindows)
	}
	return int64(n)
}

// tokens returns the number of tokens of a stream that will be read; 0 means all.
func (o QualityOptions) tokens(m *Model) int { return o.MaxWindows * o.seqLen(m) }

// data returns the options for reading a corpus for a model.
func (o QualityOptions) data(m *Model) data.Options {
	return data.Options{SeqLen: o.seqLen(m), Seed: o.Seed, MaxTokens: o.tokens(m), TextKey: o.TextKey}
}

func (o QualityOptions) seqLen(m *Model) int {
	if o.SeqLen > 0 {
		return o.SeqLen
	}
	return min(m.Arch.Context, 2048)
}
