package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gqa/checkpoints/sample"
	"gqa/internal/cli"
)

// endless is a text that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// Whatever comes from standard input, generate ends: soon after an interrupt, or when the input is too long.
func TestGenerateFromStandardInput(t *testing.T) {
	model := filepath.Join(t.TempDir(), sample.Name)
	if err := sample.Extract(model); err != nil {
		t.Fatal(err)
	}
	idle, keep := io.Pipe()
	defer keep.Close()
	for name, c := range map[string]struct {
		in   io.Reader
		stop time.Duration // 0 for no interrupt
		want string
	}{
		"idle":      {idle, 100 * time.Millisecond, ""},
		"one word":  {io.LimitReader(endless{}, maxPrompt), 500 * time.Millisecond, ""},
		"too long":  {endless{}, 0, "gqa-eval: --prompt -: standard input has more than 16777216 bytes, the limit for a prompt\n"},
		"all right": {strings.NewReader("package main"), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.stop > 0 {
				defer time.AfterFunc(c.stop, cancel).Stop()
			}
			var out, errOut bytes.Buffer
			root, began := newRoot(), time.Now()
			root.SetIn(c.in)
			status := cli.Run(ctx, []string{"generate", model, "--prompt", "-", "--max-tokens", "1"}, &out, &errOut, root)
			if failed := c.stop > 0 || c.want != ""; (status != 0) != failed || c.want != "" && errOut.String() != c.want {
				t.Errorf("status %d: %s", status, &errOut)
			}
			if took := time.Since(began); took > c.stop+time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
