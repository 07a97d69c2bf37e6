//go:build unix

package trust

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterruptedPrompt interrupts generate while it waits for its prompt, and while it reads a long one.
func TestInterruptedPrompt(t *testing.T) {
	model := sampleModel(t)
	for name, text := range map[string]string{"an idle pipe": "package main", "a long word": strings.Repeat("a", 16<<20)} {
		cmd := command(t, t.TempDir(), "gqa-eval", "generate", model, "--prompt", "-")
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if name != "an idle pipe" {
			in.Close()
		}
		time.Sleep(300 * time.Millisecond)
		began := time.Now()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		took := time.Since(began)
		if err == nil || cmd.ProcessState.ExitCode() != 1 || took > time.Second || strings.Count(errOut.String(), "\n") != 1 {
			t.Errorf("%s: %v after %v: %s", name, err, took, &errOut)
		}
	}
}

// TestPipesForReports passes pipes where a report is expected.
func TestPipesForReports(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "report.json"), 0o600); err != nil {
		t.Skip(err)
	}
	refused(t, run(t, dir, "gqa-eval", "report", "."), "report.json: is a pipe")
	refused(t, run(t, dir, "gqa-eval", "gate", ".", "--baseline", "report.json"), "report.json: is a pipe")
	refused(t, run(t, dir, "gqa-eval", "report", "/dev/zero"), "/dev/zero: is a device")
}
