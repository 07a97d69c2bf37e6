//go:build unix

package trust

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHangup closes the terminal of a run: the run saves and stops, unless nohup makes it ignore the hangup.
func TestHangup(t *testing.T) {
	nohup, err := exec.LookPath("nohup")
	if err != nil {
		t.Skip(err)
	}
	if signal.Ignored(syscall.SIGHUP) { // a child inherits that, so the run would never stop
		t.Skip("the tests themselves run under nohup")
	}
	dir := t.TempDir()
	train := command(t, dir, "gqa-train", "run", "--model", sampleModel(t), "--data", "sample:train", "--batch", "1", "--seq-len", "32", "--warmup", "0")
	for name, steps := range map[string]string{"closed": "100000", "kept": "40"} {
		wrapped := name == "kept"
		run := exec.CommandContext(t.Context(), train.Path, append(train.Args[1:], "--name", name, "--steps", steps)...)
		if wrapped {
			run = exec.CommandContext(t.Context(), nohup, append(append([]string{train.Path}, train.Args[1:]...), "--name", name, "--steps", steps)...)
		}
		var errOut bytes.Buffer
		run.Dir, run.Stdout, run.Stderr = dir, &errOut, &errOut
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		metrics := filepath.Join(dir, "runs", name, "metrics.jsonl")
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if text, _ := os.ReadFile(metrics); bytes.Contains(text, []byte(`"step":1,`)) {
				break
			}
		}
		if err := run.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		err := run.Wait()
		saved := strings.Contains(errOut.String(), "which is saved; gqa-train resume")
		if status := run.ProcessState.ExitCode(); wrapped && (err != nil || saved) || !wrapped && (status != 1 || !saved) {
			t.Errorf("%s: status %d, %s", name, status, errOut.String())
		}
	}
}
