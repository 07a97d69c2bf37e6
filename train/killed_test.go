package train

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gqa/configs/recipe"
)

// The variables name the recipe and the folder of a run in a process of its own.
const killedRecipe, killedRun = "GQA_TEST_RECIPE", "GQA_TEST_RUN"

// TestKilledProcess is a process that is killed; otherwise it does nothing.
func TestKilledProcess(t *testing.T) {
	path := os.Getenv(killedRecipe)
	if path == "" {
		t.Skip("it is not such a process")
	}
	r, err := recipe.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, r, Options{Dir: os.Getenv(killedRun)})
}

func TestKilled(t *testing.T) { killed(t, 3, "device=cpu") }

// killed kills a run some times at different moments and resumes it each time. It has the bits of one that is left alone.
func killed(t *testing.T, times int, sets ...string) {
	t.Helper()
	const apart = 12 // steps
	r, whole := smallRun(t, append([]string{"steps=200", "save_every=3", "valid_every=7", "keep=2"}, sets...)...)
	r.Steps = apart * (times + 2)
	for _, path := range []*string{&r.Model, &r.Data, &r.Valid} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			t.Fatal(err)
		}
		*path = abs
	}
	mustRun(t, r, whole)
	text, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	file, dir := put(t, t.TempDir(), "recipe.yaml", string(text)), filepath.Join(t.TempDir(), "run")
	random := rand.New(rand.NewPCG(246, 0))
	for n := range times + 1 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), killedRecipe+"="+file, killedRun+"="+dir)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if n == times { // the last is left alone
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			break
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for lastStep(dir) < apart*(n+1) {
			select {
			case err := <-ended:
				t.Fatalf("run %d ended by itself, at step %d: %v: %s", n, lastStep(dir), err, out.String())
			case <-time.After(time.Millisecond):
			}
		}
		time.Sleep(time.Duration(random.Int64N(int64(10 * time.Millisecond))))
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := <-ended; !errors.As(err, &exit) {
			t.Errorf("run %d was finished before it was killed: %v", n, err)
		}
	}
	same(t, "killed", dir, whole.Dir)
}

// lastStep returns the last step in a run's metrics.
func lastStep(dir string) int {
	all, _, err := readMetrics(filepath.Join(dir, metricsFile))
	if err != nil || len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Step
}
