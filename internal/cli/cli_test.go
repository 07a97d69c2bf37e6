package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// tree returns a root command with a subcommand of each kind.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "gqa-test"}
	var mode string
	work := &cobra.Command{
		Use: "work INPUT", Args: Args("INPUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "fail":
				return errors.New("tensor x: got [2], want [3]")
			case "lines":
				return errors.Join(errors.New("first"), errors.New("second"))
			case "usage":
				return fmt.Errorf("--groups: %w", Usagef("3 does not divide 8"))
			case "log":
				slog.Info("step", "n", 7)
				slog.Warn("slow")
			case "threads":
				fmt.Fprintln(cmd.OutOrStdout(), runtime.GOMAXPROCS(0))
			default:
				fmt.Fprintln(cmd.OutOrStdout(), args[0], mode)
			}
			return nil
		},
	}
	var share float64
	NumberVar(work.Flags(), &share, "share", 0.5, 0, 1.5, "how much")
	NumberVar(work.Flags(), &share, "size", 0, 0, 1<<30, "how large")
	EnumVar(work.Flags(), &mode, "mode", "fast", "how", "fast", "slow")
	plain := &cobra.Command{Use: "plain", Run: func(cmd *cobra.Command, _ []string) { cmd.PrintErr("plain\n") }}
	need := &cobra.Command{Use: "need", RunE: func(*cobra.Command, []string) error { return nil }}
	need.Flags().String("data", "", "a file")
	if err := need.MarkFlagRequired("data"); err != nil {
		panic(err)
	}
	group := &cobra.Command{Use: "group"}
	group.AddCommand(&cobra.Command{Use: "leaf", Run: func(*cobra.Command, []string) {}})
	root.AddCommand(work, plain, need, group)
	return root
}

func run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	old := slog.Default()
	t.Cleanup(func() { slog.SetDefault(old) })
	var out, errw bytes.Buffer
	status = Run(t.Context(), args, &out, &errw, tree())
	return status, out.String(), errw.String()
}

func TestRunStatusAndOneLine(t *testing.T) {
	const help, helpWork, helpGroup = " (see gqa-test --help)\n", " (see gqa-test work --help)\n", " (see gqa-test group --help)\n"
	long := strings.Repeat("9", 200)
	for _, test := range []struct {
		args   string
		status int
		stderr string // all of it
	}{
		{"work x", 0, ""},
		{"plain", 0, "plain\n"},
		{"work fail", 1, "gqa-test: tensor x: got [2], want [3]\n"},
		{"work lines", 1, "gqa-test: first; second\n"},
		{"work usage", 2, "gqa-test: --groups: 3 does not divide 8" + helpWork},
		{"work", 2, "gqa-test: INPUT is missing" + helpWork},
		{"work a b", 2, `gqa-test: unexpected argument "b"` + helpWork},
		{"work x --nope", 2, "gqa-test: unknown flag: --nope" + helpWork},
		{"work x --mode odd", 2, `gqa-test: --mode is "odd", want fast or slow` + helpWork},
		{"work x --threads -1", 2, "gqa-test: --threads is -1, want 0 to 4096" + helpWork},
		{"work x --threads 2147483647", 2, "gqa-test: --threads is 2147483647, want 0 to 4096" + helpWork},
		{"work x --threads 99999999999999999999", 2, `gqa-test: --threads is 99999999999999999999, want 0 to 4096` + helpWork},
		{"work x --share NaN", 2, "gqa-test: --share is NaN, want 0 to 1.5" + helpWork},
		{"work x --share 1e999", 2, `gqa-test: --share is "1e999", want 0 to 1.5` + helpWork},
		{"work x --share much", 2, `gqa-test: --share is "much", want a number` + helpWork},
		{"work x --threads two", 2, `gqa-test: --threads is "two", want a whole number` + helpWork},
		{"need", 2, `gqa-test: required flag(s) "data" not set` + " (see gqa-test need --help)\n"},
		{"", 2, "gqa-test: missing command; want group, need, plain or work" + help},
		{"group", 2, "gqa-test: missing command; want leaf" + helpGroup},
		{"group twig", 2, `gqa-test: unknown command "twig"; want leaf` + helpGroup},
		{"wrk", 2, `gqa-test: unknown command "wrk"; did you mean gqa-test work?` + help},
		{"zzz --nope", 2, `gqa-test: unknown command "zzz"; want group, need, plain or work` + help},
		{"group laef", 2, `gqa-test: unknown command "laef"; did you mean gqa-test group leaf?` + helpGroup},
		{"version", 2, `gqa-test: unknown command "version"; did you mean gqa-test --version?` + help},
		{"help wrk", 2, `gqa-test: unknown command "wrk"; did you mean gqa-test work?` + help},
		{"help nosuch", 2, `gqa-test: unknown command "nosuch"; want group, need, plain or work` + help},
		{"help group leaf twig", 2, `gqa-test: gqa-test group leaf has no command "twig"` + help},
		{"verzion", 2, `gqa-test: unknown command "verzion"; did you mean gqa-test --version?` + help},
		{"work x --mode " + long, 2, `gqa-test: --mode is "` + long[:79] + `…", want fast or slow` + helpWork},
		{"work x " + long, 2, `gqa-test: unexpected argument "` + long[:79] + `…"` + helpWork},
		{long, 2, `gqa-test: unknown command "` + long[:79] + `…"; want group, need, plain or work` + help},
		{"work x --size -1", 2, "gqa-test: --size is -1, want 0 to 1073741824" + helpWork},
		{"help group twig", 2, `gqa-test: unknown command "twig"; want leaf` + help},
	} {
		t.Run(test.args, func(t *testing.T) {
			status, _, stderr := run(t, strings.Fields(test.args)...)
			if status != test.status || stderr != test.stderr {
				t.Errorf("status %d, stderr %q; want %d, %q", status, stderr, test.status, test.stderr)
			}
		})
	}
}

func TestRunHelpAndVersion(t *testing.T) {
	status, stdout, stderr := run(t, "work", "--help")
	if status != ExitDone || stderr != "" || !strings.Contains(stdout, "--share float   how much [0 to 1.5] (default 0.5)") || strings.Contains(stdout, "cpuprofile") {
		t.Errorf("help: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	status, stdout, _ = run(t, "--version")
	if status != ExitDone || !strings.HasPrefix(stdout, "gqa-test ") || !strings.Contains(stdout, runtime.Version()) {
		t.Errorf("version: status %d, stdout %q", status, stdout)
	}
}

func TestSharedFlags(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	if _, stdout, _ := run(t, "work", "threads", "--threads", "3"); stdout != "3\n" {
		t.Errorf("--threads 3 computes with %q", stdout)
	}
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("%d threads are left set, want %d", after, before)
	}
	if _, _, stderr := run(t, "work", "log"); strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, "msg=step n=7") {
		t.Errorf("text log: %q", stderr)
	}
	if _, _, stderr := run(t, "work", "log", "--quiet"); strings.Contains(stderr, "step") || !strings.Contains(stderr, "slow") {
		t.Errorf("quiet log: %q", stderr)
	}
	if _, _, stderr := run(t, "work", "log", "--log-format", "json"); !strings.Contains(stderr, `"msg":"step","n":7`) {
		t.Errorf("json log: %q", stderr)
	}
}

func TestCPUProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu")
	if status, _, stderr := run(t, "work", "x", "--cpuprofile", file); status != ExitDone {
		t.Fatalf("status %d: %s", status, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Size() == 0 {
		t.Errorf("profile: %v, %v", info, err)
	}
	missing := filepath.Join(t.TempDir(), "no", "cpu")
	status, _, stderr := run(t, "work", "x", "--cpuprofile", missing)
	if status != ExitFailed || !strings.Contains(stderr, missing) {
		t.Errorf("unwritable profile: status %d, %q", status, stderr)
	}
}

func TestInterruptCancelsAndSaysSo(t *testing.T) {
	root := &cobra.Command{Use: "gqa-test", RunE: func(cmd *cobra.Command, _ []string) error {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Signal(os.Interrupt)
		}
		if err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return fmt.Errorf("step 4: %w", cmd.Context().Err())
		case <-time.After(10 * time.Second):
			return errors.New("the context was not cancelled")
		}
	}}
	var stderr bytes.Buffer
	status := Run(context.Background(), nil, &stderr, &stderr, root)
	if want := "gqa-test: step 4: interrupted\n"; status != ExitFailed || stderr.String() != want {
		t.Errorf("status %d, %q; want %d, %q", status, stderr.String(), ExitFailed, want)
	}
}

// A SIGHUP stops a command like Ctrl-C, unless it is ignored, as under nohup.
func TestHangup(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows sends no SIGHUP")
	}
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("the tests themselves run under nohup")
	}
	if got := endings(); !slices.Contains(got, os.Signal(syscall.SIGHUP)) {
		t.Errorf("%v end a command, want SIGHUP among them", got)
	}
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	if got := endings(); slices.Contains(got, os.Signal(syscall.SIGHUP)) {
		t.Errorf("%v end a command that ignores SIGHUP", got)
	}
}

func TestArgs(t *testing.T) {
	for _, test := range []struct {
		names, args string
		ok          bool
	}{
		{"A", "1", true},
		{"A", "", false},
		{"A", "1 2", false},
		{"", "", true},
		{"", "1", false},
		{"[A]", "", true},
		{"[A]", "1", true},
		{"[A]", "1 2", false},
		{"A [B]", "1", true},
		{"A...", "", false},
		{"A...", "1 2 3", true},
		{"[A...]", "", true},
		{"[A...]", "1 2", true},
	} {
		err := Args(strings.Fields(test.names)...)(nil, strings.Fields(test.args))
		if (err == nil) != test.ok || err != nil && !IsUsage(err) {
			t.Errorf("Args(%s) of %q: %v, want ok %v", test.names, test.args, err, test.ok)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"first run", "second", "sig"}
	for word, want := range map[string]string{"first rnu": "first run", "sgi": "sig", "secon": "second", "third": "", strings.Repeat("s", 999): ""} {
		if got := strings.Join(Nearest(word, names), ", "); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
