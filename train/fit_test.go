package train

import (
	"math"
	"testing"

	"gqa/internal/device/devicetest"
	"gqa/internal/golden"
)

// What is estimated is what a device shows, whatever saves memory, and a run that would not fit begins as it fits.
func TestFit(t *testing.T) {
	const batch = 8
	base := []string{
		"data=" + writeIDs(t, golden.Windows(1, 40, 64, 128)), "valid=", "seq_len=64", "batch=8", "accumulate=1", "steps=2", "save_every=0",
	}
	recipe, whole := smallRun(t, base...)
	chosen := map[economy]bool{}
	for _, e := range []economy{{"", batch}, {"attention", batch}, {"layer", batch}, {"layer", 2}} {
		d := devicetest.NewScarce()
		r := begunOn(t, d, recipe, Options{Dir: t.TempDir() + "/run"})
		loaded := d.InUse
		r.trainer.setEconomy(e)
		if err := r.loop(t.Context(), Options{}); err != nil {
			t.Fatal(err)
		}
		m, err := r.estimate(e)
		if err != nil {
			t.Fatal(err)
		}
		m.Work -= 576 << 20 // a GPU's libraries
		if off := m.Held()/float64(loaded) - 1; math.Abs(off) > 0.02 {
			t.Errorf("%+v: %.0f bytes for weights and the optimizer, measured %d", e, m.Held(), loaded)
		}
		if off := m.All()/float64(d.Most) - 1; off < -0.1 || off > 0.4 { // buffers of single rows and sums count in so small a model
			t.Errorf("%+v: %.0f bytes, measured %d", e, m.All(), d.Most)
		}
		// Begins with what remains then.
		d = devicetest.NewScarce()
		other := Options{Dir: t.TempDir() + "/run"}
		r = begunOn(t, d, recipe, other)
		d.Limit = d.InUse + int(m.Step()) + 576<<20
		if err := r.fit(); err != nil {
			t.Fatal(err)
		}
		chosen[r.trainer.economy] = true
		if after, err := r.estimate(r.trainer.economy); err != nil || after.Step() > float64(d.Limit-d.InUse) {
			t.Errorf("%+v: chosen %+v takes %.0f, %v", e, r.trainer.economy, after.Step(), err)
		}
	}
	if len(chosen) < 3 {
		t.Errorf("chosen %v, want more", chosen)
	}
	mustRun(t, recipe, whole)
}

// Several processes with devices of their own choose what fits where the least is free, and have the figures of one.
func TestTeamFit(t *testing.T) {
	recipe, one := smallRun(t, "data="+writeIDs(t, golden.Windows(1, 40, 64, 128)), "valid=", "seq_len=64", "batch=8", "accumulate=1", "steps=3", "save_every=0")
	mustRun(t, recipe, one)
	whole, chosen := t.TempDir()+"/run", make([]economy, 2)
	mustAmong(t, 2, func(team *team, rank int) error {
		d := devicetest.NewScarce()
		team.device = d
		r, err := team.begun(t, recipe, Options{Dir: whole})
		if err != nil {
			return err
		}
		if rank == 1 { // which has not enough for everything
			m, err := r.estimate(economy{"layer", 8})
			if err != nil {
				return err
			}
			d.Limit = d.InUse + int(m.Step())
		}
		if err := r.fit(); err != nil {
			return err
		}
		chosen[rank] = r.trainer.economy
		return r.loop(t.Context(), Options{})
	})
	if chosen[0] != chosen[1] || chosen[0].Recompute != "layer" {
		t.Errorf("chosen %v", chosen)
	}
	nearlySame(t, "two processes", whole, one.Dir)
}
