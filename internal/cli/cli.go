// Package cli is the framework of the commands: exit status, one-line errors, signals, logs, progress bars, JSON output
// and the version.
//
// A main function is one line:
//
//	func main() { cli.Main(newRoot) }
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit statuses of every command.
const (
	ExitDone   = 0 // the request was carried out
	ExitFailed = 1 // it was attempted and failed, or was interrupted
	ExitUsage  = 2 // it was not attempted: unknown flag, missing argument, invalid value
)

// Main runs the command returned by newRoot with the arguments, output and signals of the process, and exits with its
// status.
func Main(newRoot func() *cobra.Command) {
	os.Exit(Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr, newRoot()))
}

// Run executes root with args and returns its exit status. Results go to stdout; logs, progress and at most one error
// line to stderr. The first SIGINT, SIGTERM or SIGHUP cancels the commands' context, the second one kills the process.
// A SIGHUP that is ignored, as under nohup, stays ignored.
//
// Run adds to root --version and the flags shared by all commands: --log-format, --quiet, --threads and --cpuprofile.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer, root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(ctx, endings()...)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on a signal has its default effect: it kills the process

	started := frame(root, helpWidth(stdout, stderr))
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	if !*started && !IsUsage(err) {
		err = UsageError{cmp.Or(findCommand(root, args), err)} // cobra's own error: unknown command, wrong arguments, required flags
	}
	return explain(stderr, cmd, err)
}

// endings returns the signals that ask a process to stop.
func endings() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// frame gives root the shared flags and help of the given width, and wraps every command below it. The result becomes
// true once a command has begun its work.
func frame(root *cobra.Command, width int) *bool {
	root.SilenceUsage, root.SilenceErrors = true, true
	root.Version = buildVersion()
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError{flagError(err)} })
	root.SetHelpCommand(helpCommand())
	wrapHelp(root, width)
	doubtArgs(root)
	common := addCommon(root.PersistentFlags())
	started := new(bool)
	wrap(root, common, started)
	return started
}

// wrap makes each command of the tree record that it has started and apply the shared flags around its own work.
func wrap(cmd *cobra.Command, common *common, started *bool) {
	for _, sub := range cmd.Commands() {
		wrap(sub, common, started)
	}
	run := runOf(cmd)
	cmd.Run = nil
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		*started = true
		end, err := common.apply(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		err = run(cmd, args)
		if endErr := end(); err == nil {
			err = endErr
		}
		return err
	}
}

// runOf returns the function that cmd runs; for a command that only groups others it returns an error that asks for
// one.
func runOf(cmd *cobra.Command) func(*cobra.Command, []string) error {
	switch run := cmd.Run; {
	case cmd.RunE != nil:
		return cmd.RunE
	case run != nil:
		return func(cmd *cobra.Command, args []string) error { run(cmd, args); return nil }
	}
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return Usagef("missing command; want %s", orList(commands(cmd)))
	}
}

// explain prints err as a one-line message of cmd and returns its exit status.
func explain(w io.Writer, cmd *cobra.Command, err error) int {
	if errors.As(err, new(Silent)) {
		return ExitFailed
	}
	name := cmd.Root().Name()
	message := oneLine(err.Error())
	// a library's error after Ctrl-C means nothing to users
	message = strings.ReplaceAll(message, context.Canceled.Error(), "interrupted")
	if !IsUsage(err) {
		fmt.Fprintf(w, "%s: %s\n", name, message)
		return ExitFailed
	}
	if cmd.Name() == "help" {
		cmd = cmd.Root()
	}
	fmt.Fprintf(w, "%s: %s (see %s --help)\n", name, message, cmd.CommandPath())
	return ExitUsage
}
