package eval

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
)

// TestShapesAgainstPublishedFigures compares the built-in shapes with what their
// authors or users of each model state: parameters (in billions, embeddings
// included) and KV bytes per token in 16 bits.
func TestShapesAgainstPublishedFigures(t *testing.T) {
	for _, test := range []struct {
		name    string
		params  float64
		kvBytes int64
	}{
		{"gpt2", 0.124, 36864},
		{"gpt2-medium", 0.355, 98304},
		{"gpt2-large", 0.774, 184320},
		{"gpt2-xl", 1.558, 307200},
		{"gpt-j-6b", 6.05, 458752},
		{"pythia-1.4b", 1.415, 196608},
		{"pythia-2.8b", 2.775, 327680},
		{"pythia-6.9b", 6.857, 524288},
		{"pythia-12b", 11.846, 737280},
		{"opt-6.7b", 6.66, 524288},
		{"mpt-7b", 6.65, 524288},
		{"llama-2-7b", 6.738, 524288},
		{"llama-2-13b", 13.016, 819200},
		{"llama-2-70b", 68.977, 327680},
		{"llama-3-8b", 8.030, 131072},
		{"llama-3-70b", 70.554, 327680},
		{"mistral-7b", 7.242, 131072},
		{"falcon-7b", 6.922, 8192},
		{"chatglm2-6b", 6.244, 28672},
	} {
		s, err := ShapeByName(test.name)
		if err != nil {
			t.Fatal(err)
		}
		got := float64(s.params(s.KVHeads)) / 1e9
		tolerance := 0.001
		if strings.HasPrefix(test.name, "gpt2") || strings.HasPrefix(test.name, "opt") {
			tolerance = 0.005 // shapes do not count learned positions and biases
		}
		if math.Abs(got-test.params)/test.params > tolerance {
			t.Errorf("%s: %.3fB parameters, published %.3fB", test.name, got, test.params)
		}
		if kv := kvBytes(s, s.KVHeads, 1, 1, perElement(2)); kv != test.kvBytes {
			t.Errorf("%s: %d KV bytes per token, want %d", test.name, kv, test.kvBytes)
		}
	}
}

func TestT5DecoderCountsCrossAttention(t *testing.T) {
	s, err := ShapeByName("T5-v1.1-XXL-decoder")
	if err != nil {
		t.Fatal(err)
	}
	inner := 64 * 64
	want := int64(24*(2*4*4096*inner+3*4096*10240) + 2*32128*4096)
	if got := s.params(64); got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
}

func TestKVBytes(t *testing.T) {
	s := Shape{Layers: 3, HeadDim: 5}
	if got, want := kvBytes(s, 2, 7, 11, perElement(4)), int64(2*3*2*5*7*11*4); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	s.Window = 4
	if got, want := kvBytes(s, 2, 7, 11, perElement(4)), int64(2*3*2*5*4*11*4); got != want {
		t.Errorf("with a window: got %d, want %d", got, want)
	}
}

// TestLatentKVBytes compares caches of latent attention with published sizes: 4.5 heads per layer instead of 2·128 in DeepSeek-V2 (arXiv
// 2405.04434, table 1), and 70.272 KB per token in DeepSeek-V3 (arXiv 2505.09343, table 1).
func TestLatentKVBytes(t *testing.T) {
	for name, want := range map[string]int64{"deepseek-v2": 60 * 128 * 9 / 2 * 2, "deepseek-v3": 70272} {
		s, err := ShapeByName(name)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := KVRows(s, KVOptions{Memory: 1 << 40})
		if err != nil {
			t.Fatal(err)
		}
		mla, mha := rows[len(rows)-1], rows[0]
		if mla.KVBytesPerToken != want || !mla.Latent || !mla.Published || mla.WeightBytes != 0 || mla.MaxBatch != nil {
			t.Errorf("%s: %+v, want %d bytes per token and nothing about weights", name, mla, want)
		}
		if mha.Groups != 128 || mha.Published || !near(mla.RelativeToMHA, 576.0/(2*128*128), 1e-9) {
			t.Errorf("%s: %+v beside %+v", name, mla, mha)
		}
	}
}

func TestKVRows(t *testing.T) {
	s := Shape{Name: "tiny", Layers: 2, Heads: 6, KVHeads: 6, HeadDim: 8, Dim: 48, FFN: 64, Vocab: 100, Context: 32}
	weights := s.params(6) * 4
	rows, err := KVRows(s, KVOptions{Batch: 3, KVBytes: 1, WeightBytes: 4, Memory: weights + 5*kvBytes(s, 6, 32, 1, perElement(1))})
	if err != nil {
		t.Fatal(err)
	}
	var groups []int
	for _, row := range rows {
		groups = append(groups, row.Groups)
		if row.KVBytes != row.KVBytesPerToken*32*3 || row.Published != (row.Groups == 6) {
			t.Errorf("row %+v", row)
		}
	}
	if want := []int{6, 3, 2, 1}; !slices.Equal(groups, want) {
		t.Errorf("groups %v, want %v", groups, want)
	}
	if got := *rows[0].MaxBatch; got != 5 {
		t.Errorf("the largest batch is %d, want 5", got)
	}
	saved := (s.params(6) - s.params(1)) * 4
	if got, want := *rows[3].MaxBatch, (saved+5*6*kvBytes(s, 1, 32, 1, perElement(1)))/kvBytes(s, 1, 32, 1, perElement(1)); got != want || rows[3].RelativeToMHA != 1.0/6 {
		t.Errorf("g=1: the largest batch is %d, want %d; %v of MHA", got, want, rows[3].RelativeToMHA)
	}
	if rows, _ = KVRows(s, KVOptions{Memory: 1}); *rows[0].MaxBatch != 0 {
		t.Errorf("%d sequences fit beside weights that do not", *rows[0].MaxBatch)
	}
}

func TestKVRowsRefuse(t *testing.T) {
	s, err := ShapeByName("llama-2-7b")
	if err != nil {
		t.Fatal(err)
	}
	odd := s
	odd.KVHeads = 5
	for _, test := range []struct {
		shape   Shape
		options KVOptions
		want    string
	}{
		{s, KVOptions{Context: -1}, "want none below 1"},
		{s, KVOptions{Batch: -1}, "want none below 1"},
		{s, KVOptions{Memory: -1}, "memory not below 0"},
		{s, KVOptions{Context: math.MaxInt, Batch: math.MaxInt}, "too large to compute with"},
		{Shape{Name: "none"}, KVOptions{}, "shape none: layers is 0; want at least 1"},
		{odd, KVOptions{}, "5 kv heads do not divide 32 heads"},
		{Shape{Name: "nine", Layers: 1, Heads: 4, KVHeads: 4, HeadDim: 9, Dim: 36, FFN: 64, Vocab: 100, Context: 32}, KVOptions{KVDType: "int4"}, "a KV cache of 4 bits needs an even head dim, that of nine is 9"},
	} {
		if _, err := KVRows(test.shape, test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.options, err, test.want)
		}
	}
}

func TestParseShapesIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		"- {name: x, layers: 1, heds: 2}":                                                              "heds",
		"- {name: x, layers: 1, heads: 2, dim: 8, ffn: 4, vocab: 9}":                                   "shape x: context is 0",
		"- {name: x, layers: 1, heads: 3, kv_heads: 2, dim: 9, ffn: 4, vocab: 9, context: 1, ffn2: 1}": "ffn2",
		"- {name: x, layers: 1}":                                                                       "shape x: heads is 0",
	} {
		if _, err := parseShapes([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := ShapeByName("gpt-5"); err == nil || !strings.Contains(err.Error(), "known are gpt2, ") {
		t.Errorf("unknown name: %v", err)
	}
	shapes, err := Shapes()
	if err != nil || len(shapes) < 20 {
		t.Errorf("%d shapes, %v", len(shapes), err)
	}
}

func TestWriteKVTable(t *testing.T) {
	s, err := ShapeByName("llama-2-70b")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := KVRows(s, KVOptions{Batch: 8, Memory: 640e9})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteKVTable(&out, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 8 || !strings.HasSuffix(strings.TrimSpace(lines[0]), "max batch") {
		t.Fatalf("table:\n%s", out.String())
	}
	fields := strings.Fields(lines[4])
	if want := "llama-2-70b 8* 2 320 KiB 4096 8 10 GiB 12.5%"; strings.Join(fields[:10], " ") != want {
		t.Errorf("got %q, want %q", strings.Join(fields[:10], " "), want)
	}
}

// After an encoder, a decoder caches the same amount again for each token of the source.
func TestCrossKVBytes(t *testing.T) {
	s, err := ShapeByName("t5-v1.1-xxl-decoder")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := KVRows(s, KVOptions{Context: 100, Batch: 3})
	if err != nil {
		t.Fatal(err)
	}
	const perToken = 2 * 24 * 64 * 64 * 2
	if r := rows[0]; r.KVBytesPerToken != perToken || r.CrossBytesToken != perToken || r.KVBytes != 2*perToken*100*3 {
		t.Errorf("%d bytes a token, %d a source's, %d in all", r.KVBytesPerToken, r.CrossBytesToken, r.KVBytes)
	}
	s.Cross = false
	if crossKVBytes(s, 64, 100, 1, perElement(2)) != 0 {
		t.Error("a decoder alone keeps something of a source")
	}
}
