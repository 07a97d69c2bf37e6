//go:build unix

package weights

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gqa/checkpoints"
)

// TestPipes: a pipe without a writer in place of any file of a model must not block.
func TestPipes(t *testing.T) {
	for name, want := range map[string]string{
		"config.json": "is a pipe", "model.safetensors": "is a pipe", "model.safetensors.index.json": "", "modules.json": "",
		"tokenizer.json": "", "tokenizer_config.json": "", "adapter_config.json": "",
	} {
		dir, _ := write(t, llama, checkpoints.F32)
		path := filepath.Join(dir, name)
		os.Remove(path)
		if err := syscall.Mkfifo(path, 0o666); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			s, err := Open(dir, Options{})
			if err == nil {
				_, _, err = s.SideFiles()
				s.Close()
			}
			done <- err
		}()
		select {
		case err := <-done:
			if want != "" {
				wantError(t, err, path+": "+want)
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: still reading", name)
		}
	}
}
