package hardware

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEmbedded(t *testing.T) {
	for _, name := range Names() {
		h, err := Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if h.Name != name || h.Description == "" || h.Source == "" || h.Achieved.Source == "" {
			t.Errorf("%s: want its own name, a description and sources: %+v", name, h)
		}
		// Every GPU so far reads a number in the time of 100 to 1000 operations, and cores of a processor of 2 to 100.
		if ratio := h.FLOPs["bf16"] / h.Bandwidth; ratio < 2 || ratio > 1000 {
			t.Errorf("%s: %.0f operations per byte", name, ratio)
		}
	}
}

const good = `
description: a card
memory_mib: 24000
bandwidth: 1e12
flops: {f32: 80e12, bf16: 160e12}
source: its datasheet
`

func TestLoadFile(t *testing.T) {
	h, err := Load(write(t, good+"achieved_like: h200"))
	if err != nil {
		t.Fatal(err)
	}
	if h.Name != "card" || h.MemoryMiB != 24000 || h.FLOPs["bf16"] != 160e12 || h.Achieved.Bandwidth == 0 {
		t.Errorf("%+v", h)
	}
}

func TestRefused(t *testing.T) {
	achieved := "achieved: {bandwidth: 0.9, products: 0.7, attention: 0.4, overlap: 0, layer_us: 50, source: tests}"
	if _, err := Load(write(t, good+achieved)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{"", "card.yaml: the file is empty"},
		{good, "give achieved, with measured shares, or achieved_like"},
		{good + achieved + "\nachieved_like: h200", "not both"},
		{good + "achieved_like: abacus", `achieved_like is "abacus", want one of a100, `},
		{good + achieved + "\nspeed: 1", `unknown field "speed"`},
		{strings.Replace(good, "24000", "0", 1) + achieved, "memory_mib is 0, want a number above 0"},
		{strings.Replace(good, "1e12", "-1", 1) + achieved, "bandwidth is -1, want a number above 0"},
		{strings.Replace(good, "80e12", ".inf", 1) + achieved, "flops: f32 is +Inf, want a number above 0"},
		{strings.Replace(good, "f32:", "f64:", 1) + achieved, `flops has "f64", want f32, bf16 or f16`},
		{good + strings.Replace(achieved, "0.7", "70", 1), "achieved: products is 70, want a share: at most 1"},
		{good + strings.Replace(achieved, "overlap: 0", "overlap: 2", 1), "overlap is 2"},
	} {
		if _, err := Load(write(t, c.text)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\ngives %v, want %s", c.text, err, c.want)
		}
	}
	if _, err := Load("abacus"); err == nil || !strings.Contains(err.Error(), `hardware "abacus" is neither a file nor one of a100, `) {
		t.Error(err)
	}
}

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "card.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
