package train

import (
	"errors"
	"strings"
	"testing"
)

func TestDiverged(t *testing.T) {
	recipe, o := smallRun(t, "optimizer.lr=3e38", "optimizer.weight_decay=0", "schedule.warmup=0", "save_every=1", "valid=")
	_, err := Run(t.Context(), recipe, o)
	if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "--set optimizer.lr=7.5e+37") {
		t.Fatalf("error %v, want ErrDiverged and how to resume", err)
	}
	steps, err := savedSteps(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 0 {
		t.Fatalf("checkpoints of %v were saved of a model that does not work", steps)
	}
	s, err := Resume(t.Context(), o, []string{"optimizer.lr=1e-3"}) // begins again
	if err != nil || s.State != Finished {
		t.Errorf("with a lower rate: %+v, %v", s, err)
	}
}

// What diverges later keeps its checkpoints of before, and goes on from there.
func TestDivergedLater(t *testing.T) {
	recipe, o := smallRun(t, "steps=4", "schedule.kind=constant", "valid=")
	mustRun(t, recipe, o)
	_, err := Resume(t.Context(), o, []string{"steps=8", "optimizer.lr=3e38", "optimizer.weight_decay=0"})
	if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "goes on from step 4") {
		t.Fatalf("error %v, want ErrDiverged and where it goes on from", err)
	}
	if s, err := Resume(t.Context(), o, []string{"optimizer.lr=1e-3"}); err != nil || s.Saved != 8 {
		t.Errorf("with a lower rate: %+v, %v", s, err)
	}
}
