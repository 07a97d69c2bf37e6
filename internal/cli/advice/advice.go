// Package advice adds to errors what the user can do about them. The packages that return errors describe what is wrong;
// only commands know which flag or command helps.
package advice

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/cli"
	"gqa/internal/data"
	"gqa/internal/devices"
	"gqa/internal/weights"
	"gqa/train"
)

// Wrap makes root and its subcommands add advice to their errors, unless these already have advice.
func Wrap(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		Wrap(cmd)
	}
	if run := root.RunE; run != nil {
		root.RunE = func(cmd *cobra.Command, args []string) error {
			err := run(cmd, args)
			return Add(err, on(err))
		}
	}
}

// advised is an error with advice.
type advised struct{ error }

func (e advised) Unwrap() error { return e.error }

// Add adds advice to err. It returns err unchanged if err is nil, already has advice, or the advice is empty.
func Add(err error, advice string) error {
	if err == nil || advice == "" || errors.As(err, new(advised)) {
		return err
	}
	return advised{fmt.Errorf("%w; %s", err, advice)}
}

// on returns the advice on errors that several commands may return; empty if there is none.
func on(err error) string {
	var folder checkpoints.FolderError
	var family configs.FamilyError
	var unfinished weights.UnfinishedError
	var key *data.KeyError
	var stop train.StopError
	var gpu devices.GPUError
	switch {
	case errors.As(err, &folder):
		return onFolder(folder)
	case errors.As(err, &family):
		return onFamily(family)
	case errors.As(err, &unfinished):
		return fmt.Sprintf("finish it with gqa-train resume %s, or name one of its checkpoints", unfinished.Run)
	case errors.As(err, &key) && key.Longest != "":
		return fmt.Sprintf("choose the key of the text with --text-key, such as --text-key %s", key.Longest)
	case errors.As(err, &stop):
		return onStop(stop)
	case errors.As(err, &gpu):
		return "gqa-train doctor says what is missing"
	}
	return ""
}

func onFolder(e checkpoints.FolderError) string {
	const other = "choose another folder with -o"
	switch {
	case errors.Is(e, train.ErrSettings):
		return fmt.Sprintf("resume it (gqa-train resume %s), %s, or replace it with --force", e.Dir, other)
	case e.Replaceable:
		return other + ", or replace it with --force"
	}
	return other
}

func onFamily(e configs.FamilyError) string {
	if e.ModelType == "" {
		return "name the family with gqa-convert --family (its --help lists them)"
	}
	families, _ := configs.Families() // they were read before, otherwise there would be no such error
	return fmt.Sprintf("gqa-convert --help lists all %d, and its --family takes a checkpoint for one", len(families))
}

func onStop(e train.StopError) string {
	from := fmt.Sprintf("goes on from step %d", e.Saved)
	switch {
	case e.Unfit != "":
		return fmt.Sprintf("see gqa-eval quality %s --data %s", e.Unfit, e.Data)
	case e.LR > 0:
		if e.Saved == 0 {
			from = "nothing is saved yet, so it begins again from the model"
		}
		return fmt.Sprintf("resume with a lower learning rate: gqa-train resume %s --set optimizer.lr=%.3g (%s)", e.Run, e.LR, from)
	case e.Saved == 0:
		return fmt.Sprintf("there is no checkpoint yet: gqa-train resume %s begins again", e.Run)
	}
	return fmt.Sprintf("gqa-train resume %s %s", e.Run, from)
}

// OutsideHub returns an error if a result would by default be written into the current folder and that lies in a hub's
// cache.
func OutsideHub() error {
	if err := checkpoints.OutsideHub("."); err != nil {
		return cli.Usagef("%w: name a folder with -o", err)
	}
	return nil
}
