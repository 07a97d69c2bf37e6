package trust

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// places are one tensor of each kind in the sample model, and an element far into it.
var places = []struct {
	name, tensor, index string
	element             int
}{
	{"embedding", "model.embed_tokens.weight", "[2047, 255]", 2048*256 - 1},
	{"norm", "model.layers.3.post_attention_layernorm.weight", "[17]", 17},
	{"q", "model.layers.2.self_attn.q_proj.weight", "[17, 3]", 17*256 + 3},
	{"k", "model.layers.3.self_attn.k_proj.weight", "[255, 0]", 255 * 256},
	{"v", "model.layers.0.self_attn.v_proj.weight", "[100, 200]", 100*256 + 200},
	{"o", "model.layers.3.self_attn.o_proj.weight", "[0, 0]", 0},
	{"mlp", "model.layers.1.mlp.down_proj.weight", "[0, 9]", 9},
	{"head", "lm_head.weight", "[33, 44]", 33*256 + 44},
}

var badValues = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}

// ways are the methods with every grouping that is possible with them. copies reports whether tensors that are not pooled
// are only copied.
var ways = []struct {
	args   string
	copies bool
}{
	{"--method mean", true},
	{"--method first", true},
	{"--method random", true},
	{"--method align", false},
	{"--method calibrated", false},
	{"--method calibrated --calibration sample:train", false},
	{"--method calibrated --calibration sample:train --refine 20", false},
	{"--method mean --calibration sample:train --refine 20", false},
	{"--method mean --grouping similar", false},
	{"--method first --grouping similar", false},
	{"--method align --grouping similar", false},
	{"--method align --grouping similar --calibration sample:train", false},
	{"--method calibrated --grouping similar", false},
	{"--method calibrated --grouping similar --calibration sample:train", false},
	{"--method calibrated --grouping similar --calibration sample:train --refine 20", false},
	{"--method mean --dtype f32", false},
}

// patience is the time within which a command must report an error.
const patience = 5 * time.Second

// TestNotFinite puts NaN and infinities into every kind of tensor, for every method and grouping: one line names the
// tensor and the element, and nothing is written. A command that only copies the tensor may warn and continue.
func TestNotFinite(t *testing.T) {
	model, good := untied(t), sampleModel(t)
	file := filepath.Join(model, "model.safetensors")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for n, place := range places {
		for v, x := range badValues {
			if (n+v)%len(badValues) >= pick(1, len(badValues)) {
				continue
			}
			if err := os.WriteFile(file, whole, 0o666); err != nil {
				t.Fatal(err)
			}
			golden.Poison(t, file, place.tensor, place.element, x)
			value := fmt.Sprint(x)
			line := fmt.Sprintf("tensor %q: %s at %s", place.tensor, value, place.index)
			for w, way := range ways {
				if (n+w)%len(ways) >= pick(2, len(ways)) {
					continue
				}
				t.Run(strings.Join([]string{place.name, value, way.args}, " "), func(t *testing.T) {
					copies := way.copies && place.name != "k" && place.name != "v"
					refuses(t, model, line, copies, "gqa-convert", append(strings.Fields(way.args), "--groups", "2", "-o", "out", model)...)
				})
			}
			if n < pick(1, len(places)) {
				others(t, model, good, place.name+" "+value, line)
			}
		}
	}
}

// others are the commands that read a model without converting it.
func others(t *testing.T, model, good, name, line string) {
	for command, args := range map[string]string{
		"train":          "gqa-train run --steps 2 --data sample:train --model BAD -o out",
		"train, teacher": "gqa-train run --steps 2 --data sample:train --model GOOD --teacher BAD -o out",
		"quality":        "gqa-eval quality --data sample:val --max-windows 2 BAD",
		"its teacher":    "gqa-eval quality --data sample:val --max-windows 2 --teacher BAD GOOD",
		"latency":        "gqa-eval latency BAD",
		"generate":       "gqa-eval generate --prompt func BAD",
		"sweep":          "gqa-eval sweep --model BAD --data sample:train --valid sample:val --groups 2 --steps 0 -o out",
	} {
		t.Run(name+" "+command, func(t *testing.T) {
			fields := strings.Fields(strings.NewReplacer("BAD", model, "GOOD", good).Replace(args))
			refuses(t, model, line, false, fields[0], fields[1:]...)
		})
	}
	t.Run(name+" inspect", func(t *testing.T) {
		r := run(t, t.TempDir(), "gqa-convert", "inspect", model)
		_, rest, _ := strings.Cut(line, `"`)
		if want := strings.Replace(rest, `"`, "", 1); r.status != 0 || !strings.Contains(r.out, "not finite  "+want) {
			t.Errorf("status %d, %s, want %q", r.status, r.out, want)
		}
	})
}

// refuses checks that a command ends soon, with one line that contains want and nothing written; with copies it may also
// warn and succeed.
func refuses(t *testing.T, model, want string, copies bool, name string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	began := time.Now()
	r := run(t, dir, name, args...)
	took := time.Since(began)
	r.clean(t)
	if took > patience {
		t.Errorf("it took %v", took)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if copies && r.status == 0 {
		tensor, element, _ := strings.Cut(strings.TrimPrefix(want, "tensor "), ": ")
		for _, part := range []string{"level=WARN", "first=" + strings.Trim(tensor, `"`), `value="` + element + `"`} {
			if !strings.Contains(r.errOut, part) {
				t.Errorf("the warning is %q, want %q in it", r.errOut, part)
			}
		}
		return
	}
	last := r.errOut[strings.LastIndex(strings.TrimSpace(r.errOut), "\n")+1:]
	if r.status != 1 || !strings.HasPrefix(last, name+": ") || !strings.Contains(last, want) || !strings.Contains(last, model) {
		t.Errorf("status %d, %q, want 1 and one line with %q", r.status, r.errOut, want)
	}
	if len(entries) > 0 {
		t.Errorf("there is %v afterwards", entries)
	}
}

// untied returns the sample model with an untied head.
func untied(t *testing.T) (dir string) {
	t.Helper()
	dir = sampleModel(t)
	src, all := golden.Load(t, dir)
	config, err := weights.RewriteConfig(src.Config, func(keys map[string]any) { keys["tie_word_embeddings"] = false })
	if err != nil {
		t.Fatal(err)
	}
	arch, err := configs.Resolve(config, "")
	if err != nil {
		t.Fatal(err)
	}
	all["head.weight"] = all["embed.weight"]
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if err := weights.Write(dir, arch, checkpoints.BF16, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestInterrupt interrupts commands during work that would take minutes: they end soon (in less than a second on an idle
// machine), report it in one line, and leave no files.
func TestInterrupt(t *testing.T) {
	model := sampleModel(t)
	for name, args := range map[string]string{
		"calibration": "gqa-convert --groups 2 --method calibrated --calibration-tokens 100000000 -o out MODEL",
		"refine":      "gqa-convert --groups 2 --method calibrated --grouping similar --calibration-tokens 4096 --refine 100000 -o out MODEL",
		"by layer":    "gqa-convert --groups 2 --method mean --calibration-tokens 4096 --refine 100000 --refine-by layer -o out MODEL",
		"quality":     "gqa-eval quality --data sample:train MODEL",
		"generate":    "gqa-eval generate --prompt func --max-tokens 100000 MODEL",
		"sweep":       "gqa-eval sweep --steps 0 --groups 4,2,1 -o out",
	} {
		t.Run(name, func(t *testing.T) {
			fields := strings.Fields(strings.ReplaceAll(args, "MODEL", model))
			dir := t.TempDir()
			cmd := command(t, dir, fields[0], fields[1:]...)
			var interrupted time.Time
			timer := time.AfterFunc(700*time.Millisecond, func() {
				interrupted = time.Now()
				_ = cmd.Process.Signal(os.Interrupt) // if it has already ended, the test fails below
			})
			defer timer.Stop()
			r := end(t, cmd)
			r.clean(t)
			if interrupted.IsZero() {
				t.Fatalf("it ended before: status %d, %s", r.status, r.errOut)
			}
			if took := time.Since(interrupted); took > 2*patience || r.status != 1 || !strings.Contains(r.errOut, "interrupt") {
				t.Errorf("status %d after %v, %q", r.status, took, r.errOut)
			}
			if entries, err := os.ReadDir(dir); name != "sweep" && (err != nil || len(entries) > 0) {
				t.Errorf("there is %v afterwards (%v)", entries, err)
			}
		})
	}
}
