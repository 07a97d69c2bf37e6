package target

import (
	"reflect"
	"strings"
	"testing"

	"gqa/configs"
	"gqa/internal/golden"
)

// TestRows: of 4 heads of two rows each in rows 10 to 17 of a tensor, two groups are made.
func TestRows(t *testing.T) {
	from := configs.Param{KVHeads: 4, Shape: []int{8, 3}, Rows: []int{10, 11, 12, 13, 14, 15, 16, 17}}
	to := configs.Param{KVHeads: 2, Shape: []int{4, 3}}
	for kind, want := range map[Kind][][]int{
		Averaged: {{10, 12}, {11, 13}, {14, 16}, {15, 17}},
		First:    {{10}, {11}, {14}, {15}},
		Copied:   {{10}, {11}, {12}, {13}},
	} {
		w := Weight{Param: to, From: from, Kind: kind}
		if kind == Copied {
			w.Param = from
		}
		for r := range want {
			if got := w.Rows(r); !reflect.DeepEqual(got, want[r]) {
				t.Errorf("kind %d: row %d is made of %v, want %v", kind, r, got, want[r])
			}
		}
		if w.Changed() != (kind != Copied) {
			t.Errorf("kind %d: changed %v", kind, w.Changed())
		}
	}
}

// TestCheck: a target says why it cannot hold a result.
func TestCheck(t *testing.T) {
	r := Unchanged(t, golden.Open(t, golden.Named(t, "opt").Dir))
	for name, want := range map[Name]string{
		Native: "", Own: "", Expanded: "",
		GGUF:   "llama.cpp cannot hold family opt",
		"onnx": `target "onnx" is unknown; want one of [native own expanded gguf mla deepseek_v3]`,
	} {
		err := Check(name, r)
		if (err != nil) != (want != "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
}

// TestUnchanged: if no KV head changes, nothing is computed, and whatever loads the source loads the result.
func TestUnchanged(t *testing.T) {
	for _, c := range golden.Cases(t) {
		src := golden.Open(t, c.Dir)
		for _, name := range []Name{Native, Own, Expanded} {
			x, err := New(name, Unchanged(t, src))
			if err != nil {
				t.Fatal(err)
			}
			if src.Arch.KVHeads < src.Arch.Heads {
				continue
			}
			if l := x.Layout(); l.Computed != 0 || len(l.Specs) != len(src.Names()) || !reflect.DeepEqual(l.LoadsIn, loadsSource) {
				t.Errorf("%s, %s: %d of %d tensors are computed; loads in %v", c.Name, name, l.Computed, len(l.Specs), l.LoadsIn)
			}
		}
	}
}
