package train

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/data/raw"
	"gqa/internal/ops"
)

// field are data sets as pyarrow wrote them: tables of texts, in two compressions, and of conversations.
const field = "../internal/data/testdata/dataset-folder/"

// chatModel is the sample model with a template that marks what the assistant says.
func chatModel(t *testing.T) string {
	dir := sampleModel(t)
	put(t, dir, "chat_template.jinja", "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|endoftext|>"+
		"{% endgeneration %}\n\n{% else %}{{ m.content }}\n{% endif %}{% endfor %}")
	return dir
}

// asLines writes tables as JSON lines and returns the file's name: .jsonl, or compressed .jsonl.zst.
func asLines(t *testing.T, name string, tables ...string) string {
	t.Helper()
	var text []byte
	for _, table := range tables {
		r, err := raw.Open(field+table, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, lines...)
	}
	if strings.HasSuffix(name, ".zst") {
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		text = z.EncodeAll(text, nil)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFormats: the same rows give the same losses in every format, with windows and with documents, also from a cache.
func TestFormats(t *testing.T) {
	shards := []string{"parquet/data/train-00000-of-00002.parquet", "parquet/data/train-00001-of-00002.parquet"}
	table, err := os.ReadFile(field + "parquet-zstd/data.parquet")
	if err != nil {
		t.Fatal(err)
	}
	hub := t.TempDir()
	t.Setenv("HF_HUB_CACHE", hub)
	snapshot := filepath.Join(hub, "datasets--org--set/snapshots/c1/data")
	if err := os.MkdirAll(snapshot, 0o777); err != nil {
		t.Fatal(err)
	}
	put(t, snapshot, "train.parquet", string(table))
	model := chatModel(t)
	for _, c := range []struct {
		name  string
		sets  []string
		paths []string
	}{
		{"text", nil, []string{asLines(t, "a.jsonl", shards...), field + "parquet", field + "parquet-zstd/data.parquet", field + "parquet/data/*.parquet", asLines(t, "a.jsonl.zst", shards...), "org/set"}},
		{"documents", []string{"packing=documents"}, []string{asLines(t, "a.jsonl", shards...), field + "parquet", asLines(t, "a.jsonl.zst", shards...)}},
		{"conversations", nil, []string{asLines(t, "a.jsonl", "parquet-chat/chat.parquet"), field + "parquet-chat"}},
		{"packed conversations", []string{"packing=documents"}, []string{asLines(t, "a.jsonl", "parquet-chat/chat.parquet"), field + "parquet-chat/chat.parquet"}},
		{"a mixture", []string{"packing=documents"}, []string{
			mix(t, asLines(t, "a.jsonl.zst", shards...), asLines(t, "b.jsonl", "parquet-chat/chat.parquet")), mix(t, field+"parquet", field+"parquet-chat"),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want rows
			for i, path := range c.paths {
				for _, cache := range []string{"", t.TempDir()}[:2-min(i, 1)] {
					got := rowsOf(t, append([]string{"model=" + model, "data=" + path, "valid=" + asLines(t, "v.jsonl", shards[1]), "data_cache=" + cache}, c.sets...)...)
					if want.windows == nil {
						want = got
					}
					if !reflect.DeepEqual(got, want) || !isFinite(got.loss) || counted(got.targets) == 0 {
						t.Errorf("%s, cache %q: loss %v of %d tokens, want %v of %d", path, cache, got.loss, counted(got.targets), want.loss, counted(want.targets))
					}
				}
			}
		})
	}
}

// rows is what a run learns from: its data, the batches of its first steps, and the loss of the first.
type rows struct {
	data    fingerprint
	windows [][]int32
	batch   ops.Batch
	targets []int32
	loss    float64
}

// rowsOf returns the rows of a run with a recipe.
func rowsOf(t *testing.T, sets ...string) (of rows) {
	t.Helper()
	r, _ := smallRun(t, append([]string{"valid_windows=2", "seq_len=64", "batch=3", "accumulate=1"}, sets...)...)
	if err := resolve(&r); err != nil {
		t.Fatal(err)
	}
	run, err := prepare(t.Context(), solo(nil), &r)
	if err != nil {
		t.Fatal(err)
	}
	of.data, of.windows = run.data.fingerprint, slices.Concat(run.windows(1), run.windows(2), run.data.valid)
	of.batch, of.targets = run.data.Batch(run.windows(1))
	of.loss = run.trainer.Evaluate(of.batch, of.targets)
	return of
}

// mix returns the list of a mixture of texts and conversations.
func mix(t *testing.T, texts, conversations string) string {
	t.Helper()
	text, err := json.Marshal([]recipe.Corpus{{Path: texts, Weight: 2}, {Path: conversations, Weight: 1, TextKey: "messages"}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLearnsAnswers: only what the assistant says counts in the loss: it is the mean over those tokens of the loss of a batch in which they
// are the targets.
func TestLearnsAnswers(t *testing.T) {
	model := chatModel(t)
	r, o := smallRun(t, "model="+model, "data="+field+"parquet-chat", "valid=", "seq_len=128", "steps=1", "batch=2", "accumulate=1")
	if err := resolve(&r); err != nil {
		t.Fatal(err)
	}
	run, err := prepare(t.Context(), solo(nil), &r)
	if err != nil {
		t.Fatal(err)
	}
	windows := run.windows(1)
	b, targets := data.NextToken{}.Batch(windows)
	var all, said []int32
	for _, w := range windows {
		all = append(all, data.IDs(w)[1:]...)
		all = append(all, -1)
		for _, token := range w[1:] {
			if token < 0 {
				token = -1
			}
			said = append(said, token)
		}
		said = append(said, -1)
	}
	if !slices.Equal(targets, said) || counted(said) == 0 || counted(said) == counted(all) {
		t.Fatalf("%d of %d tokens are learned, %d by the windows' marks", counted(targets), counted(all), counted(said))
	}
	if slices.ContainsFunc(b.IDs, func(id int32) bool { return id < 0 || id >= 2048 }) {
		t.Error("the model reads marks")
	}
	want := run.trainer.Evaluate(b, said)
	if whole := run.trainer.Evaluate(b, all); math.Abs(whole-want) < 1e-3 {
		t.Fatalf("the loss of the answers is that of all tokens, %v", want)
	}
	mustRun(t, r, o)
	if got := figures(t, o.Dir)[0].Loss; math.Abs(float64(got)-want) > 1e-5 {
		t.Errorf("loss %v, want %v", got, want)
	}
}

// TestResumeMixture: a run on a mixture of packed texts and conversations from a cache is exact over interruptions, and knows if a corpus, a
// weight or the packing has changed.
func TestResumeMixture(t *testing.T) {
	texts, model, cache := asLines(t, "a.jsonl.zst", "parquet-zstd/data.parquet"), chatModel(t), t.TempDir()
	r, o := smallRun(t, "model="+model, "data="+mix(t, texts, field+"parquet-chat"), "valid="+texts, "valid_windows=2", "seq_len=64", "steps=6", "batch=2",
		"accumulate=1", "packing=documents", "data_cache="+cache)
	mustRun(t, r, o)
	other := Options{Dir: filepath.Join(t.TempDir(), "run")}
	if _, err := Run(interruptedAfter(t, &other, 3), r, other); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	for set, want := range map[string]string{
		"packing=windows": "packing cannot change within a run",
		"data=" + strings.Replace(mix(t, texts, field+"parquet-chat"), `"weight":2`, `"weight":3`, 1):              "data: ",
		"data=" + mix(t, asLines(t, "a.jsonl", "parquet/data/train-00001-of-00002.parquet"), field+"parquet-chat"): "data: ",
	} {
		if _, err := Resume(t.Context(), other, []string{set}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", set, err, want)
		}
	}
	// The same rows elsewhere, and without the cache, are the same corpus.
	moved := "data=" + mix(t, asLines(t, "b.jsonl", "parquet-zstd/data.parquet"), field+"parquet-chat/chat.parquet")
	other.Observe = nil
	if _, err := Resume(t.Context(), other, []string{moved, "data_cache="}); err != nil {
		t.Fatal(err)
	}
	same(t, "resumed", other.Dir, o.Dir)
}

// TestDamagedCorpus: tokens in the cache that have changed, though not the file's time, are not learned from.
func TestDamagedCorpus(t *testing.T) {
	texts, model, cache := asLines(t, "a.jsonl", "parquet-zstd/data.parquet"), sampleModel(t), t.TempDir()
	sets := []string{"model=" + model, "data=" + texts, "valid=", "seq_len=64", "steps=3", "batch=2", "accumulate=1", "data_cache=" + cache}
	r, o := smallRun(t, sets...)
	mustRun(t, r, o)
	files, err := filepath.Glob(cache + "/*/00000.tokens")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(read(t, files[0]))
	for i := range text {
		text[i] = 0x7f // no model has so many tokens
	}
	if err := errors.Join(os.WriteFile(files[0], text, 0o644), os.Chtimes(files[0], time.Time{}, info.ModTime())); err != nil {
		t.Fatal(err)
	}
	want := files[0] + ": is damaged: the checksum of the tokens from "
	r.Steps = 4
	if _, err := Run(t.Context(), r, Options{Dir: o.Dir + "2"}); err == nil || !strings.HasPrefix(err.Error(), "step 1: data: "+want) {
		t.Errorf("error %v", err)
	}
	if _, err := Resume(t.Context(), o, []string{"steps=4"}); err == nil || !strings.HasPrefix(err.Error(), "step 4: data: "+want) || stopOf(t, err).Saved != 3 {
		t.Errorf("resumed: error %v", err)
	}
	if _, err := Resume(t.Context(), o, []string{"steps=4", "valid=" + texts, "valid_windows=1"}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("with validation: error %v", err)
	}
}

// TestBadRowsOfRun: a recipe says how many rows may be unusable.
func TestBadRowsOfRun(t *testing.T) {
	texts := asLines(t, "a.jsonl", "parquet/data/train-00001-of-00002.parquet")
	put(t, filepath.Dir(texts), "a.jsonl", read(t, texts)+"{\"txt\":1}\nnot JSON\n")
	for rows, want := range map[string]string{"2": "", "1": "more than 1 rows cannot be used", "0": `the record has no "text"`} {
		r, o := smallRun(t, "model="+sampleModel(t), "data="+texts, "valid=", "seq_len=64", "steps=1", "bad_rows="+rows)
		if _, err := Run(t.Context(), r, o); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", rows, err, want)
		}
	}
}
