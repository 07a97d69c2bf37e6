package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/internal/cli"
	"gqa/internal/comm"
	"gqa/internal/devices"
	"gqa/internal/launch"
)

// first reports whether this process is the one, of those that train together, that writes logs, bars and results. It silences the
// others, but for their errors.
func first() (bool, error) {
	world, err := launch.FromEnvironment(os.Getenv)
	if err != nil {
		return true, err
	}
	if world.Rank > 0 {
		slog.SetDefault(slog.New(slog.DiscardHandler))
	}
	return world.Rank == 0, nil
}

// gpus is the flag --gpus: the number of processes to start on this machine.
type gpus int

func (n *gpus) add(fl *pflag.FlagSet) {
	fl.IntVar((*int)(n), "gpus", 0, "train on `N` GPUs of this machine, with a process for each")
}

// start starts the processes, with the arguments of this one, if the flag is set.
func (n gpus) start(cmd *cobra.Command) (started bool, err error) {
	switch {
	case !cmd.Flags().Changed("gpus"):
		return false, nil
	case n < 1:
		return true, cli.Usagef("--gpus is %d, want at least 1", n)
	case !devices.GPUs:
		return true, cli.UsageError{Err: fmt.Errorf("--gpus %d: %w", n, devices.ErrBuild)}
	}
	if world, err := launch.FromEnvironment(os.Getenv); err != nil || !world.Alone() {
		return true, cli.UsageError{Err: errors.Join(err, fmt.Errorf("--gpus starts processes, but %s has already started %d", world.Launcher, world.Size))}
	}
	program, err := os.Executable()
	if err != nil {
		return true, err
	}
	err = launch.Local(cmd.Context(), int(n), program, launch.Without(os.Args[1:], "--gpus"))
	var failed launch.RankError
	if errors.As(err, &failed) && failed.Told() {
		return true, cli.Silent{Err: err}
	}
	return true, err
}

// told makes an error silent that another process reports.
func told(err error) error {
	if errors.As(err, new(comm.Elsewhere)) {
		time.Sleep(time.Second) // a launcher may kill the others at once when this process fails
		return cli.Silent{Err: err}
	}
	return err
}
