package train

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// With averages in 8 bits, processes round in other blocks than one does. The same number of them gives the same bits.
func TestTeamRounds(t *testing.T) {
	recipe, one := smallRun(t, "batch=4", "accumulate=1", "optimizer.moments=8bit", "optimizer.eps=1e-4", "keep=0")
	mustRun(t, recipe, one)
	runs := []string{filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "run")}
	mustAmong(t, 2, func(team *team, _ int) error {
		_, err := Run(t.Context(), recipe, Options{Dir: runs[0], team: team})
		return err
	})
	runs[1] = copied(t, runs[0]).Dir
	for _, last := range []string{filepath.Join(checkpointsDir, "step-8"), modelDir} {
		if err := os.RemoveAll(filepath.Join(runs[1], last)); err != nil {
			t.Fatal(err)
		}
	}
	mustAmong(t, 2, func(team *team, _ int) error {
		_, err := Resume(t.Context(), Options{Dir: runs[1], team: team}, nil)
		return err
	})
	same(t, "resumed", runs[1], runs[0])
	got := figures(t, runs[0])
	for i, w := range figures(t, one.Dir) {
		if math.Abs(float64(got[i].Loss-w.Loss)) > 1e-4 {
			t.Errorf("step %d: loss %v, want %v", w.Step, got[i].Loss, w.Loss)
		}
	}
}
