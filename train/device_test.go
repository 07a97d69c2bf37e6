package train

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/devices"
	"gqa/internal/engine"
)

// failing is a trainer whose device fails after some calls of Err.
type failing struct {
	engine.Trainer
	after int
}

var errDevice = errors.New("the device has failed")

func (f *failing) Err() error {
	if f.after--; f.after < 0 {
		return errDevice
	}
	return nil
}

// Whatever a failed device computes is not saved, and the learning rate is not blamed.
func TestDeviceFails(t *testing.T) {
	recipe, whole := smallRun(t, "steps=4")
	mustRun(t, recipe, whole)
	for after := range 40 {
		o := Options{Dir: filepath.Join(t.TempDir(), "run")}
		r := begun(t, recipe, o)
		r.trainer.Trainer = &failing{r.trainer.Trainer, after}
		err := r.loop(t.Context(), o)
		if err == nil {
			if after < 10 {
				t.Errorf("after %d questions the run ends as if nothing had happened", after)
			}
			break
		}
		var stop StopError
		if !errors.Is(err, errDevice) || errors.Is(err, ErrDiverged) || !errors.As(err, &stop) || stop.Run != o.Dir || stop.LR != 0 {
			t.Fatalf("after %d questions: %v", after, err)
		}
		if _, err := os.Stat(filepath.Join(o.Dir, modelDir)); err == nil {
			t.Errorf("after %d questions: there is a result", after)
		}
		if _, err := Resume(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"checkpoints/step-4/model.safetensors", "model/model.safetensors"} {
			if read(t, o.Dir, name) != read(t, whole.Dir, name) {
				t.Errorf("after %d questions: %s is another", after, name)
			}
		}
	}
}

// The device does not affect what a run learns: it can change, and a checkpoint does not count as damaged because a
// device cannot be used.
func TestDeviceOfRun(t *testing.T) {
	var wrong recipe.Error
	r, o := smallRun(t, "steps=2", "device=gpu")
	if _, err := Run(t.Context(), r, o); !errors.As(err, &wrong) || err.Error() != `device is "gpu", want auto, cpu, cuda or cuda:N` {
		t.Errorf("an unknown device: %v", err)
	}
	r.Device = "cpu"
	mustRun(t, r, o)
	if _, err := Resume(t.Context(), o, []string{"steps=4", "device=cuda:255"}); err == nil || strings.Contains(err.Error(), "checkpoint") ||
		errors.As(err, &wrong) == devices.GPUs {
		t.Errorf("a device that there is not: %v", err)
	}
	if s, err := Resume(t.Context(), o, []string{"device=auto", "threads=1"}); err != nil || !s.Idle {
		t.Errorf("a finished run on another device: %+v, %v", s, err)
	}
	if s, err := Resume(t.Context(), o, []string{"steps=3", "device="}); err != nil || s.Step != 3 {
		t.Errorf("without a device: %+v, %v", s, err)
	}
	r.Steps, r.Device = 3, "cpu"
	if s, err := Run(t.Context(), r, o); err != nil || !s.Idle {
		t.Errorf("the same recipe again: %+v, %v", s, err)
	}
}
