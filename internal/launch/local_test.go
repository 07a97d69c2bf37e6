//go:build unix

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"gqa/internal/comm/control"
)

// TestMain makes the test's program a rank when Local starts it: GQA_TEST says what it does.
func TestMain(m *testing.M) {
	if do := os.Getenv("GQA_TEST"); do != "" {
		rank(do)
	}
	os.Exit(m.Run())
}

func rank(do string) {
	w, err := FromEnvironment(os.Getenv)
	if err != nil {
		panic(err)
	}
	g, err := control.Join(w.Rank, w.Size, w.Address)
	if err != nil {
		panic(err)
	}
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, os.Interrupt)
	if err := os.WriteFile(filepath.Join(do, fmt.Sprint(w.Rank, os.Getenv("NCCL_TEST"))), nil, 0o666); err != nil {
		panic(err)
	}
	x := []float64{1}
	if err := g.Sum(x); err != nil || x[0] != float64(w.Size) {
		panic(fmt.Sprint(x, err))
	}
	switch os.Getenv("GQA_TEST_END") {
	case "fail":
		if w.Rank == 1 {
			os.Exit(3)
		}
		time.Sleep(time.Minute)
	case "die":
		if w.Rank == 1 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		time.Sleep(time.Minute)
	case "wait":
		<-stopped
	}
	if err := g.Close(); err != nil {
		panic(err)
	}
	os.Exit(0)
}

func start(ctx context.Context, t *testing.T, end string) (dir string, err error) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("GQA_TEST", dir)
	t.Setenv("GQA_TEST_END", end)
	t.Setenv("NCCL_TEST", "-passed")
	began := time.Now()
	err = Local(ctx, 3, os.Args[0], nil)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the job ends after %v", took)
	}
	return dir, err
}

// The processes meet, with the environment passed on.
func TestLocal(t *testing.T) {
	dir, err := start(t.Context(), t, "")
	if err != nil {
		t.Fatal(err)
	}
	for rank := range 3 {
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprint(rank, "-passed"))); err != nil {
			t.Error(err)
		}
	}
}

// If a process fails or is killed the others end too.
func TestLocalEnds(t *testing.T) {
	var failed RankError
	// The others notice at once, so any may be the first that ends; each says which was.
	if _, err := start(t.Context(), t, "fail"); !errors.As(err, &failed) || !failed.Told() {
		t.Errorf("error %v", err)
	}
	if _, err := start(t.Context(), t, "die"); !errors.As(err, &failed) || failed.Rank != 1 || failed.Told() {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, cancel)
	if _, err := start(ctx, t, "wait"); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}

func TestWithout(t *testing.T) {
	got := Without([]string{"run", "--gpus", "2", "-o", "x", "--gpus=3", "--gpus-x", "--", "--gpus"}, "--gpus")
	if want := []string{"run", "-o", "x", "--gpus-x", "--", "--gpus"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
