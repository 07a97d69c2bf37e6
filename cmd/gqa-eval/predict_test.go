package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"gqa/internal/cli"
)

// The example of docs/predict.md is what the command prints.
func TestDocumentedPrediction(t *testing.T) {
	doc, err := os.ReadFile("../../docs/predict.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```sh\ngqa-eval ([^\n]+)\n```\n\n```\n(.*?)```\n").FindSubmatch(doc)
	if example == nil {
		t.Fatal("docs/predict.md has no command followed by its output")
	}
	var out bytes.Buffer
	if status := cli.Run(t.Context(), strings.Fields(string(example[1])), &out, io.Discard, newRoot()); status != 0 {
		t.Fatalf("gqa-eval %s: status %d", example[1], status)
	}
	if out.String() != string(example[2]) {
		t.Errorf("docs/predict.md has\n%s\nbut gqa-eval %s prints\n%s", example[2], example[1], &out)
	}
}
