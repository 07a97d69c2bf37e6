package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/golden"
)

// TestAllGroupsIsACopy checks that the weight files are copied byte for byte, sharded or not.
func TestAllGroupsIsACopy(t *testing.T) {
	for name, m := range map[string]model{
		"one file": {config: gpt2Config, dtype: checkpoints.F16},
		"shards":   {config: neoxConfig, dtype: checkpoints.BF16, shard: 3000},
		"int8":     {config: llamaConfig, dtype: checkpoints.I8},
	} {
		t.Run(name, func(t *testing.T) {
			dir := m.write(t)
			out := convertTo(t, dir, Options{Goal: Groups(8)})
			for _, file := range append(out.Files, out.Index) {
				if file != "" && readFile(t, filepath.Join(out.Dir, file)) != readFile(t, filepath.Join(dir, file)) {
					t.Errorf("%s differs", file)
				}
			}
			if len(out.Files) != len(golden.Open(t, dir).Files) {
				t.Errorf("files %v", out.Files)
			}
		})
	}
}

// TestUntouchedTensorsKeepEveryBit of every layout, NaNs and all.
func TestUntouchedTensorsKeepEveryBit(t *testing.T) {
	for _, config := range []string{llamaConfig, neoxConfig, gpt2Config} {
		dir := model{config: config, dtype: checkpoints.BF16}.write(t)
		src, plan := golden.Open(t, dir), newPlan(t, dir, Options{Goal: Groups(2), Target: Own})
		out := convertTo(t, dir, Options{Goal: Groups(2), Target: Own})
		computed := map[string]bool{}
		for i, w := range plan.result.Weights {
			computed[w.Tensor] = computed[w.Tensor] || plan.result.Weights[i].Changed()
		}
		kept := 0
		for _, name := range src.Names() {
			if !computed[name] {
				kept++
				if raw(t, out, name) != raw(t, src, name) {
					t.Errorf("%s changed", name)
				}
			}
		}
		if kept+plan.Pooled() != len(out.Names()) || plan.Pooled() == 0 {
			t.Errorf("%d kept and %d pooled of %d", kept, plan.Pooled(), len(out.Names()))
		}
	}
}

// TestHalvesArePooledInF32 and rounded to nearest, ties to even. Two heads of two dims over four inputs.
func TestHalvesArePooledInF32(t *testing.T) {
	const config = `{"model_type": "llama", "vocab_size": 2, "hidden_size": 4, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 2}`
	const name = "model.layers.0.self_attn.k_proj.weight"
	for _, c := range []struct {
		dtype           checkpoints.DType
		one, other, sum []uint64 // bits of an element of each head, and of their mean
	}{
		// Of one and the next number up the mean is half-way: down to the even one, then up to the even one. Large ones do
		// not overflow; what f32 holds between is summed before it is rounded.
		{checkpoints.BF16, []uint64{0x3f80, 0x3f81, 0x7eff, 0xbf80}, []uint64{0x3f81, 0x3f82, 0x7efe, 0x3f80}, []uint64{0x3f80, 0x3f82, 0x7efe, 0}},
		{checkpoints.F16, []uint64{0x3c00, 0x3c01, 0x7bff, 0x0001}, []uint64{0x3c01, 0x3c02, 0x7bff, 0x0002}, []uint64{0x3c00, 0x3c02, 0x7bff, 0x0002}},
		{checkpoints.F32, []uint64{0x3f800000, 0x3f800001, 0, 0}, []uint64{0x3f800001, 0x3f800002, 0, 0}, []uint64{0x3f800000, 0x3f800002, 0, 0}},
		// 1 + 2⁻⁴⁰ is 1 in f32.
		{checkpoints.F64, []uint64{0x3ff0000000001000, 0, 0, 0}, []uint64{0x4008000000000000, 0, 0, 0}, []uint64{0x4000000000000000, 0, 0, 0}},
	} {
		element := func(bits []uint64) (data []byte) { // the four inputs of one dim of a head
			for _, b := range bits {
				data = append(data, binary.LittleEndian.AppendUint64(nil, b)[:c.dtype.Size()]...)
			}
			return data
		}
		one, other, want := element(c.one), element(c.other), element(c.sum)
		dir := model{config: config, dtype: c.dtype, data: map[string][]byte{name: slices.Concat(one, one, other, other)}}.write(t)
		if got, want := raw(t, convertTo(t, dir, Options{Goal: Groups(1)}), name), c.dtype.String()+string(want)+string(want); got != want {
			t.Errorf("%s: pooled to %x, want %x", c.dtype, got, want)
		}
	}
}

func TestDType(t *testing.T) {
	m := model{config: llamaConfig, extra: []checkpoints.Spec{
		{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", DType: checkpoints.F32, Shape: []int{1}},
	}}
	dir := m.write(t)
	src := golden.Open(t, dir)
	kept := convertTo(t, dir, Options{Goal: Groups(4)})
	for _, dtype := range []checkpoints.DType{checkpoints.BF16, checkpoints.F16, checkpoints.F32} {
		out := convertTo(t, dir, Options{Goal: Groups(4), DType: dtype})
		for _, name := range out.Names() {
			x, _ := out.Tensor(name)
			want := dtype
			if strings.HasSuffix(name, "inv_freq") { // a buffer is carried as it is
				want = checkpoints.F32
			}
			if x.DType != want {
				t.Errorf("%s is %s, want %s", name, x.DType, want)
			}
			rounded := make([]byte, x.Bytes())
			if err := checkpoints.EncodeFloats(rounded, floats(t, kept, name), want); err != nil {
				t.Fatal(err)
			}
			if raw(t, out, name) != want.String()+string(rounded) {
				t.Errorf("%s is not what f32 rounds to", name)
			}
		}
	}
	if got := floats(t, kept, "model.norm.weight"); !slices.Equal(got, floats(t, src, "model.norm.weight")) {
		t.Error("without a dtype norms changed")
	}
}

func TestShards(t *testing.T) {
	dir := model{config: llamaConfig, shard: 2000}.write(t)
	src := golden.Open(t, dir)
	if len(src.Files) < 3 {
		t.Fatalf("only %d shards to begin with", len(src.Files))
	}
	for _, c := range []struct {
		size  int64
		files int
		most  int64
	}{{0, 5, 2000}, {1 << 20, 1, 1 << 20}, {1000, 9, 1024}} { // a tensor of 1024 bytes is larger than the shard
		out := convertTo(t, dir, Options{Goal: Groups(1), ShardSize: c.size})
		if len(out.Files) != c.files || (out.Index == "") != (c.files == 1) {
			t.Errorf("shards of %d bytes: files %v, index %q; want %d", c.size, out.Files, out.Index, c.files)
		}
		perFile := map[string]int64{}
		for _, name := range out.Names() { // that the index agrees was checked when it was opened
			x, _ := out.Tensor(name)
			perFile[x.File] += x.Bytes()
		}
		for file, n := range perFile {
			if n > c.most {
				t.Errorf("%s has %d bytes of tensors, want %d at most", file, n, c.most)
			}
		}
	}
}

// TestCarried: tensors that older releases saved beside the weights, and a tied head's copy, are unchanged in the result.
func TestCarried(t *testing.T) {
	var embedding bytes.Buffer
	if err := writeNoise(checkpoints.Spec{Name: "transformer.wte.weight", DType: checkpoints.F32, Shape: []int{6, 16}}, &embedding); err != nil {
		t.Fatal(err)
	}
	tied := map[string][]byte{"lm_head.weight": embedding.Bytes()}
	for _, c := range []struct {
		m       model
		carried []checkpoints.Spec
	}{
		{model{config: neoxConfig}, []checkpoints.Spec{
			{Name: "gpt_neox.layers.0.attention.bias", DType: checkpoints.Bool, Shape: []int{1, 1, 32, 32}},
			{Name: "gpt_neox.layers.0.attention.masked_bias", DType: checkpoints.F32},
		}},
		{model{config: gpt2Config, data: tied}, []checkpoints.Spec{
			{Name: "transformer.h.0.attn.bias", DType: checkpoints.U8, Shape: []int{1, 1, 4, 4}},
			{Name: "lm_head.weight", DType: checkpoints.F32, Shape: []int{6, 16}},
		}},
		{model{config: gpt2Config, strip: "transformer."}, []checkpoints.Spec{{Name: "h.1.attn.bias", DType: checkpoints.F32, Shape: []int{1, 1, 4, 4}}}},
	} {
		c.m.extra = c.carried
		dir := c.m.write(t)
		src, out := golden.Open(t, dir), convertTo(t, dir, Options{Goal: Groups(2), DType: checkpoints.BF16, Target: Own})
		if len(out.Names()) != len(src.Names()) {
			t.Errorf("%d tensors, want %d", len(out.Names()), len(src.Names()))
		}
		for _, s := range c.carried {
			if raw(t, out, s.Name) != raw(t, src, s.Name) {
				t.Errorf("%s changed", s.Name)
			}
		}
	}
}

// TestTablesAreDropped: tables that can be computed from config.json are, in every family.
func TestTablesAreDropped(t *testing.T) {
	for config, table := range map[string]string{llamaConfig: "model.layers.1.self_attn.rotary_emb.inv_freq", neoxConfig: "gpt_neox.rotary_emb.cos_cached", gpt2Config: "transformer.h.0.attn.causal_mask"} {
		dir := model{config: config, extra: []checkpoints.Spec{{Name: table, DType: checkpoints.F32, Shape: []int{1, 1, 4, 4}}}}.write(t)
		if _, there := convertTo(t, dir, Options{Goal: Groups(2), Target: Own}).Tensor(table); there {
			t.Errorf("%s is in the result", table)
		}
	}
}

// TestRandomDependsOnSeedAlone: neither on the order of tensors in files nor on other tensors.
func TestRandomDependsOnSeedAlone(t *testing.T) {
	const name = "model.layers.1.self_attn.v_proj.weight"
	draw := func(m model, seed uint64) []float32 {
		m.config = llamaConfig
		return floats(t, convertTo(t, m.write(t), Options{Goal: Groups(2), Method: Random, Seed: seed}), name)
	}
	want := draw(model{}, 5)
	for _, m := range []model{{}, {shard: 1500}, {extra: []checkpoints.Spec{{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", DType: checkpoints.F64, Shape: []int{1}}}}} {
		if !slices.Equal(draw(m, 5), want) {
			t.Errorf("%+v: another draw", m)
		}
	}
	if slices.Equal(draw(model{}, 6), want) {
		t.Error("another seed, the same draw")
	}
}

// TestInterrupted cancels before each step up to the last: no new files may stay, and existing ones must.
func TestInterrupted(t *testing.T) {
	dir := model{config: llamaConfig, shard: 2000}.write(t)
	plan := newPlan(t, dir, Options{Goal: Groups(2), Method: Mean})
	for after := range len(plan.Specs) + 1 {
		ctx, cancel := context.WithCancel(context.Background())
		parent := t.TempDir()
		left := after
		step := func(int64) {
			if left--; left <= 0 {
				cancel()
			}
		}
		if after == 0 {
			cancel()
		}
		_, err := plan.Run(ctx, filepath.Join(parent, "new", "out"), RunOptions{OnWrite: step})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d tensors: error %v", after, err)
		}
		wantEmpty(t, parent)
		cancel()
	}
	target := filepath.Join(t.TempDir(), "old")
	if _, err := plan.Run(t.Context(), target, RunOptions{}); err != nil {
		t.Fatal(err)
	}
	old := readFile(t, filepath.Join(target, "conversion.json"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := plan.Run(ctx, target, RunOptions{Force: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if readFile(t, filepath.Join(target, "conversion.json")) != old {
		t.Error("what was there is lost")
	}
}

// TestSourceChanges removes parts of the source between plan and run.
func TestSourceChanges(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"weights cut short": {func(dir string) error { return os.Truncate(filepath.Join(dir, "model.safetensors"), 5000) }, "the file ends inside it; it has changed since it was opened"},
		"side file gone":    {func(dir string) error { return os.Remove(filepath.Join(dir, "tokenizer.json")) }, "tokenizer.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, parent := model{config: llamaConfig}.write(t), t.TempDir()
			writeFile(t, filepath.Join(dir, "tokenizer.json"), "{}")
			plan := newPlan(t, dir, Options{Goal: Groups(2)})
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, err := plan.Run(context.Background(), filepath.Join(parent, "out"), RunOptions{})
			wantError(t, err, c.want)
			wantEmpty(t, parent)
		})
	}
}

// TestMemory converts every tensor through memory, some of 16 MB, and wants less than one of them allocated in all. Of the
// layouts the fused and the transposed are not to be in memory whole either.
func TestMemory(t *testing.T) {
	const largest = 16 << 20
	for name, c := range map[string]struct {
		config string
		o      Options
	}{
		"llama": {`{"model_type": "llama", "vocab_size": 32, "hidden_size": 2048, "intermediate_size": 64, "num_hidden_layers": 2,
			"num_attention_heads": 16}`, Options{Goal: Groups(4), DType: checkpoints.BF16}},
		"gpt_neox": {`{"model_type": "gpt_neox", "vocab_size": 32, "hidden_size": 1280, "intermediate_size": 64, "num_hidden_layers": 2,
			"num_attention_heads": 16, "max_position_embeddings": 32}`, Options{Goal: Groups(1), Target: Own}},
		"gpt2": {
			`{"model_type": "gpt2", "vocab_size": 32, "n_embd": 1280, "n_inner": 64, "n_layer": 2, "n_head": 16, "n_positions": 32}`,
			Options{Goal: Groups(2), Target: Expanded, DType: checkpoints.F16},
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan := newPlan(t, model{config: c.config}.write(t), c.o)
			if plan.Bytes() < largest {
				t.Fatalf("%d bytes are too few to tell", plan.Bytes())
			}
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pool of buffers
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := plan.Run(context.Background(), filepath.Join(t.TempDir(), "out"), RunOptions{}); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			n := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d bytes allocated", n)
			if n >= largest {
				t.Errorf("%d bytes allocated, %d of them of result", n, plan.Bytes())
			}
		})
	}
}

// TestPlanRunsTwice: a run leaves its plan unchanged, and progress callbacks are optional.
func TestPlanRunsTwice(t *testing.T) {
	dir, parent := model{config: gptjConfig}.write(t), t.TempDir()
	for i, o := range []Options{
		{Goal: Groups(2), Method: Calibrated, Grouping: Similar},
		{Goal: Groups(4), Method: Random, Target: Expanded},
		{Goal: Groups(2), Method: First},
	} {
		plan := newPlan(t, dir, o)
		var files [2]string
		for j := range files {
			out := filepath.Join(parent, fmt.Sprint(i, "-", j))
			s, err := plan.Run(t.Context(), out, RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if merges := o.Merges(); (s.Layers != nil) != merges || merges && len(s.Layers) != 2 {
				t.Errorf("%s, run %d: %d layers are reported", o.Method, j, len(s.Layers))
			}
			for _, name := range names(t, out) {
				files[j] += name + readFile(t, filepath.Join(out, name))
			}
		}
		if files[0] != files[1] {
			t.Errorf("%s: the second run wrote something else", o.Method)
		}
	}
}
