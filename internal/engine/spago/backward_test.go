package spago

import (
	"runtime"
	"strings"
	"testing"

	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/ops"
)

// TestBackwardBySpago: spago's ag.Backward runs the backward pass of every operator of a training step.
func TestBackwardBySpago(t *testing.T) { checkBackward(t, cpu.New()) }

func checkBackward(t *testing.T, d device.Device) {
	t.Helper()
	for name, config := range map[string]string{"llama": llamaConfig, "gpt2": gptConfig, "t5": t5Config} {
		least := 0
		for _, how := range allRecomputes {
			p := newPass(t, d, config, how)
			recorded, run, strangers := 0, 0, 0
			p.trainer.engine.trace = func(backward bool) {
				switch {
				case !backward:
					recorded++
				case calledBy("github.com/nlpodyssey/spago/ag.(*Operator).executeBackward"):
					run++
				default:
					strangers++
				}
			}
			layers := p.arch.Layers + p.arch.EncoderLayers
			for step := range 2 {
				recorded, run = 0, 0
				p.gradients(t)
				norm := p.trainer.Step(step+1, 1e-4)()
				if err := d.Err(); err != nil {
					t.Fatal(err)
				}
				if recorded != run || strangers > 0 || run <= 10*layers || !(norm > 0) {
					t.Errorf("%s, recompute %d: %d operators, of which spago runs %d backward and others %d, in %d layers; the gradient norm is %v",
						name, how, recorded, run, strangers, layers, norm)
				}
			}
			if how == ops.RecomputeNone {
				least = run
			} else if run < least+layers {
				t.Errorf("%s, recompute %d: %d operators, want those of each layer's recomputation too, and %d without", name, how, run, least)
			}
		}
	}
}

// calledBy reports whether a function calls the method that calls the caller.
func calledBy(name string) bool {
	var callers [8]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, ".(*node).Backward") {
			f, _ = frames.Next()
			return f.Function == name
		}
		if !more {
			return false
		}
	}
}
