package trust

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// extremes are values each of which some numeric flags must reject and others accept.
var extremes = []string{"-1", "2147483647", "9223372036854775807", "NaN", "Inf", "0", "99999999999999999999", "1e308"}

// numeric finds the numeric flags in a command's help.
var numeric = regexp.MustCompile(`--([a-z-]+) (?:int|ints|int32Slice|int64|uint|float|N|K|X|D|T|RATE|NORM)\b`)

// TestNumbers passes every extreme value to every numeric flag of every command. Most are wrong usage; others lead to a
// run with the shortest possible length, or to an error that depends on the model's files. None leads to a panic, or to
// an excessive use of memory.
func TestNumbers(t *testing.T) {
	dir, model := t.TempDir(), sampleModel(t)
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("func main() { return }\n", 40)), 0o666); err != nil {
		t.Fatal(err)
	}
	var attacks [][]string
	for _, base := range [][]string{
		{"gqa-convert", "--dry-run", "--groups", "2", model},
		{"gqa-train", "run", "--model", model, "--data", text, "--steps", "1", "--seq-len", "16", "--warmup", "0", "--batch", "1", "--force", "-o", "run"},
		{"gqa-eval", "quality", model, "--data", text, "--seq-len", "16"},
		{"gqa-eval", "latency", model},
		{"gqa-eval", "generate", model, "--prompt-ids", "1,2,3"},
		{"gqa-eval", "kv", "gpt2"},
		{"gqa-eval", "sweep", "--model", model, "--valid", text, "--steps", "0", "--groups", "2", "--methods", "mean", "--eval-windows", "1", "--set", "seq_len=16", "--force"},
		{"gqa-eval", "gate", "no-report", "--baseline", "no-report"},
	} {
		help := run(t, dir, base[0], base[1], "--help")
		if base[0] == "gqa-convert" {
			help = run(t, dir, base[0], "--help")
		}
		flags := numeric.FindAllStringSubmatch(help.out, -1)
		if len(flags) == 0 {
			t.Fatalf("%v: no flags of numbers in %s", base[:2], help.out)
		}
		for _, flag := range flags {
			for _, value := range extremes {
				attacks = append(attacks, append(append([]string(nil), base...), "--"+flag[1]+"="+value))
			}
		}
	}
	step := max(1, len(attacks)/pick(60, len(attacks)))
	for i := 0; i < len(attacks); i += step {
		attack := attacks[i]
		if r := run(t, dir, attack[0], attack[1:]...); r.status != 0 {
			r.clean(t)
			r.oneLine(t)
		}
	}
	t.Logf("%d attacks", (len(attacks)+step-1)/step)
}

// oneLine fails the test unless exactly the last line of an error is not a log line.
func (r result) oneLine(t *testing.T) {
	t.Helper()
	said := 0
	for line := range strings.Lines(r.errOut) {
		if !strings.HasPrefix(line, "time=") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("status %d says %d lines: %s", r.status, said, r.errOut)
	}
}

// TestProducts passes values that are allowed individually but not together.
func TestProducts(t *testing.T) {
	dir, model := t.TempDir(), sampleModel(t)
	for _, c := range []struct {
		status int
		want   string
		args   []string
	}{
		{2, "batch * accumulate * seq_len is ", []string{"gqa-train", "run", "--model", model, "--data", "sample:train", "--steps", "1", "--batch", "65536", "--accumulate", "65536"}},
		{1, "a step's batch of 65536 windows of 512 tokens takes ", []string{"gqa-train", "run", "--model", model, "--data", "sample:train", "--steps", "1", "--batch", "65536"}},
		{1, "the KV cache in f32 takes ", []string{"gqa-eval", "latency", model, "--batch", "65536", "--context", "16777215"}},
		{1, "llama-2-70b in f32 takes ", []string{"gqa-eval", "latency", "--shape", "llama-2-70b"}},
		{2, "is too large to compute with", []string{"gqa-eval", "kv", "llama-2-70b", "--batch", "1000000000", "--context", "16777216"}},
		{2, "steps is ", []string{"gqa-train", "run", "--model", model, "--data", "sample:train", "--set", "alpha=1000", "--set", "original_tokens=1000000000000000"}},
	} {
		r := run(t, dir, c.args[0], c.args[1:]...)
		r.clean(t)
		r.oneLine(t)
		if r.status != c.status || !strings.Contains(r.errOut, c.want) {
			t.Errorf("%v: status %d, %s; want %d and %q", c.args, r.status, r.errOut, c.status, c.want)
		}
	}
}

// TestRecipeBombs passes recipes that expand to more than they contain, or contain more than any recipe.
func TestRecipeBombs(t *testing.T) {
	dir := t.TempDir()
	bomb := "a: &a [x, x]\n"
	for c := 'b'; c < 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	for want, text := range map[string]string{
		"aliases and merges, more than 16":       bomb,
		"larger than 65536 bytes":                "name: " + strings.Repeat("x", 1<<20),
		"words and signs, more than 4096":        strings.Repeat("[", 1<<15),
		"keys, more than 1000":                   strings.Repeat("a:\n", 2000),
		"nest more than 16 deep":                 "name: " + strings.Repeat("{a: ", 20) + strings.Repeat("}", 20),
		"batch is 2147483647, want 1 to":         "batch: 2147483647",
		"batch * accumulate * seq_len is":        "batch: 65536\naccumulate: 65536",
		"optimizer.lr is +Inf, want more than 0": "optimizer: {lr: .inf}",
	} {
		if err := os.WriteFile(filepath.Join(dir, "recipe.yaml"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "gqa-train", "run", "--config", "recipe.yaml", "--model", "m", "--data", "d", "--steps", "1")
		r.clean(t)
		r.oneLine(t)
		if r.status != 2 || !strings.Contains(r.errOut, want) {
			t.Errorf("status %d, %s; want 2 and %q", r.status, r.errOut, want)
		}
	}
}
