package trust

import (
	"bufio"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A text is read only as far as the requested windows need, in little memory: one line of 1 GB, and 10 GB that were
// compressed.
func TestLongDocuments(t *testing.T) {
	model, dir := sampleModel(t), t.TempDir()
	line := strings.Repeat("a line of words that goes on and on, ", 1<<15)
	write := func(name string, mebibytes int) {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := bufio.NewWriterSize(f, 1<<20)
		if strings.HasSuffix(name, ".gz") {
			z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			w = bufio.NewWriterSize(z, 1<<20)
		}
		defer w.Flush()
		record := strings.Contains(name, "json")
		if record {
			w.WriteString(`{"text": "`)
		}
		for range mebibytes {
			w.WriteString(line)
		}
		if record {
			w.WriteString("\"}\n")
		}
	}
	for name, mebibytes := range map[string]int{
		"line.jsonl": pick(300, 1<<10), "array.json.gz": pick(300, 1<<10), "bomb.txt.gz": pick(300, 10<<10), "bomb.jsonl.gz": pick(300, 10<<10),
	} {
		write(name, mebibytes)
		cmd := command(t, dir, "gqa-eval", "quality", model, "--data", name, "--max-windows", "4", "--seq-len", "128")
		begin := time.Now()
		ok(t, end(t, cmd))
		took, memory := time.Since(begin), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10
		t.Logf("%s: %d MiB of text, %v, %d MiB of memory", name, mebibytes, took, memory)
		if memory > 128 || took > 10*time.Second {
			t.Errorf("%s: %v and %d MiB of memory, want 10 s and 128 MiB at most", name, took, memory)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}
