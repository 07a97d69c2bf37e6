package advice

import (
	"errors"
	"fmt"
	"testing"

	"github.com/spf13/cobra"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/cli"
	"gqa/internal/data"
	"gqa/internal/weights"
	"gqa/train"
)

func TestOn(t *testing.T) {
	base := errors.New("x")
	for want, err := range map[string]error{
		"":                              base,
		"choose another folder with -o": checkpoints.FolderError{Dir: "d", Err: base},
		"choose another folder with -o, or replace it with --force":                                          checkpoints.FolderError{Dir: "d", Err: base, Replaceable: true},
		"name the family with gqa-convert --family (its --help lists them)":                                  configs.FamilyError{},
		"finish it with gqa-train resume d, or name one of its checkpoints":                                  weights.UnfinishedError{Run: "d"},
		"choose the key of the text with --text-key, such as --text-key content":                             &data.KeyError{Key: "text", Has: []string{"content"}, Longest: "content"},
		"see gqa-eval quality m --data c":                                                                    train.StopError{Err: base, Unfit: "m", Data: "c"},
		"there is no checkpoint yet: gqa-train resume d begins again":                                        train.StopError{Err: base, Run: "d"},
		"gqa-train resume d goes on from step 4":                                                             train.StopError{Err: base, Run: "d", Saved: 4},
		"resume with a lower learning rate: gqa-train resume d --set optimizer.lr=0.1 (goes on from step 4)": train.StopError{Err: base, Run: "d", Saved: 4, LR: 0.1},
		"resume it (gqa-train resume d), choose another folder with -o, or replace it with --force": checkpoints.FolderError{
			Dir: "d", Err: train.ErrSettings, Replaceable: true,
		},
	} {
		if got := on(fmt.Errorf("while: %w", err)); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// Advice is added once, to the errors of all commands, and the errors remain detectable with errors.Is.
func TestWrap(t *testing.T) {
	stop := train.StopError{Err: train.ErrInterrupted, Run: "d", Saved: 4}
	sub := &cobra.Command{Use: "sub", RunE: func(*cobra.Command, []string) error { return Add(stop, "wait") }}
	root := &cobra.Command{Use: "root", RunE: func(*cobra.Command, []string) error { return cli.UsageError{Err: stop} }}
	root.AddCommand(sub)
	Wrap(root)
	if err := sub.RunE(sub, nil); !errors.Is(err, train.ErrInterrupted) || err.Error() != "interrupted; wait" {
		t.Errorf("sub: %v", err)
	}
	if err := root.RunE(root, nil); !cli.IsUsage(err) || err.Error() != "interrupted; gqa-train resume d goes on from step 4" {
		t.Errorf("root: %v", err)
	}
	if err := Add(nil, "x"); err != nil {
		t.Error(err)
	}
}
