//go:build unix

package trust

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKills sends signals to runs at random times. When resumed, each ends with the same bits as an undisturbed run. A
// run stopped by any signal except SIGKILL has saved its last step.
func TestKills(t *testing.T) {
	began := time.Now()
	u := uptrain(t, 40, 3)
	whole := time.Since(began)
	random := rand.New(rand.NewPCG(246, 0))
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGKILL, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT}
	for i := range pick(len(signals), 50*len(signals)/3) { // 50 of them SIGKILL
		dir, signal := filepath.Join(t.TempDir(), "run"), signals[i%len(signals)]
		cmd := command(t, ".", "gqa-train", append(u.args, "-o", dir)...)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(whole))))
		begun := exists(filepath.Join(dir, "recipe.yaml"))
		if err := cmd.Process.Signal(signal); err != nil {
			t.Log(err) // it has ended
		}
		err := cmd.Wait()
		saved := strings.Contains(errOut.String(), "which is saved; gqa-train resume ")
		if signal != syscall.SIGKILL && begun && err != nil && !saved {
			t.Errorf("%v: %v: %s", signal, err, errOut.String())
		}
		r := run(t, ".", "gqa-train", append(u.args, "-o", dir)...) // resumes what is there
		if r.clean(t); r.status != 0 {
			t.Errorf("after %v: status %d, %s", signal, r.status, r.errOut)
		}
		u.same(t, signal.String(), dir)
		os.RemoveAll(dir)
	}
}

// With nohup a run survives its terminal.
func TestNohup(t *testing.T) {
	u := uptrain(t, 40, 3)
	dir := filepath.Join(t.TempDir(), "run")
	cmd := command(t, ".", "nohup", append([]string{filepath.Join(bin, "gqa-train")}, append(u.args, "-o", dir)...)...)
	cmd.Path, _ = exec.LookPath("nohup")
	if err := cmd.Start(); err != nil {
		t.Skip("there is no nohup here: ", err)
	}
	for !exists(filepath.Join(dir, "checkpoints")) {
		time.Sleep(5 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Log(err) // it has ended
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGHUP stopped a run that ignores it: %v", err)
	}
	u.same(t, "nohup", dir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
