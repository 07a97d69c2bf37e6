// Package trust tests the commands against accidents and hostile input: damaged files, kills, failing disks, folders of
// other programs, numbers that are not finite.
//
//	go test ./bench/trust                          a short form, as part of all tests
//	go test ./bench/trust -count 1 -v -args -full  every attack that docs/trust.md counts
package trust

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gqa/checkpoints/sample"
)

var full = flag.Bool("full", false, "make every attack, not a sample of them")

// bin is the folder of the three commands, built once.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	status, err := withCommands(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func withCommands(run func() int) (status int, err error) {
	if bin, err = os.MkdirTemp("", "trust-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	build := exec.Command("go", "build", "-ldflags=-w", "-o", bin+string(filepath.Separator), "gqa/cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w: %s", err, out)
	}
	return run(), nil
}

// result is the outcome of a command.
type result struct {
	status      int
	out, errOut string
}

// command prepares one of the three commands, to run in dir.
func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...)
	cmd.Dir = dir
	return cmd
}

// run runs one of the three commands in dir and waits for it.
func run(t *testing.T, dir, name string, args ...string) result {
	t.Helper()
	return end(t, command(t, dir, name, args...))
}

// end runs a command and waits for it.
func end(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// clean fails the test if an error contains programmers' jargon, or has more than one line.
func (r result) clean(t *testing.T) {
	t.Helper()
	for _, leak := range []string{"runtime error", "Go value of type", "goroutine", "panic"} {
		if strings.Contains(r.errOut, leak) {
			t.Errorf("the error holds %q: %s", leak, r.errOut)
		}
	}
}

// sampleModel extracts the embedded model, gopher-4m.
func sampleModel(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "gopher-4m")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pick returns all of n attacks or, in the short form, a few of them.
func pick(few, n int) int {
	if *full {
		return n
	}
	return few
}
