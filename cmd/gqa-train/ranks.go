package main

import (
	"errors"
	"log/slog"
	"os"

	"gqa/internal/cli"
	"gqa/internal/comm"
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

// told makes an error silent that another process reports.
func told(err error) error {
	if errors.As(err, new(comm.Elsewhere)) {
		return cli.Silent{Err: err}
	}
	return err
}
