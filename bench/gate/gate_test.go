package main

import (
	"bytes"
	"strings"
	"testing"
)

// A model that is 1% worse fails, on few windows too; a copy of the model passes. The command does it with more models and windows.
func TestNoise(t *testing.T) {
	w := windows{data: "sample:val", length: 256, count: 20}
	var out bytes.Buffer
	if err := w.compareNoise(t.Context(), t.TempDir(), 2, 0.01, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "\n2 of 2 models with a loss that is 1.0% higher fail\n") {
		t.Error(out.String())
	}
	m, err := w.measure(t.Context(), "../../checkpoints/sample/gopher-4m")
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := printRepeats("sample", []measured{m, m, m}, &out); err != nil || !strings.Contains(out.String(), "6 of 6 pairs pass") {
		t.Errorf("%v: %s", err, out.String())
	}
}
