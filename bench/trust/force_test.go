package trust

import (
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tiny is a small Llama with 8 KV heads, and its data.
func tiny(t *testing.T) (model, data string) {
	t.Helper()
	model, err := filepath.Abs("../../internal/golden/testdata/llama")
	if err != nil {
		t.Fatal(err)
	}
	return model, filepath.Join(model, "golden.safetensors")
}

// writers are the commands that create a folder, with few steps.
func writers(t *testing.T) map[string][]string {
	model, data := tiny(t)
	return map[string][]string{
		"gqa-convert": {"gqa-convert", "--groups", "2", model},
		"gqa-train":   {"gqa-train", "run", "--model", model, "--data", data, "--steps", "2", "--seq-len", "12", "--batch", "1", "--set", "save_every=1"},
		"gqa-eval": {
			"gqa-eval", "sweep", "--model", model, "--data", data, "--valid", data, "--set", "seq_len=12", "--groups", "2",
			"--methods", "mean", "--steps", "1", "--context", "8", "--batch", "1", "--eval-windows", "1", "--original-tokens", "1000",
		},
	}
}

// plant creates files below dir; a text that begins with -> is a link.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, link := strings.CutPrefix(text, "-> "); link {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot returns everything below dir: modes, contents and link targets.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			text, err = os.Readlink(path)
		case info.Mode().IsRegular():
			var data []byte
			data, err = os.ReadFile(path)
			text = string(data)
		}
		all[path] = info.Mode().String() + " " + text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lost lists what has changed.
func lost(before, after map[string]string) (names []string) {
	for name, was := range before {
		if after[name] != was {
			names = append(names, name)
		}
	}
	return names
}

var home = map[string]string{
	"Documents/thesis.tex": "years of work", "Documents/figures/1.svg": "<svg/>", ".bashrc": "alias l=ls", "Pictures/cat.jpg": "cat", "LICENSE": "mine",
}

// with adds files.
func with(files map[string]string, more ...string) map[string]string {
	all := maps.Clone(files)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// foreign are folders of other programs that contain files with the names of ours.
func foreign(t *testing.T) map[string]map[string]string {
	model, _ := tiny(t)
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(model, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	metrics := `{"step": 1, "loss": 2.5, "lr": 0.1}` + "\n"
	return map[string]map[string]string{
		"a home folder with a report":        with(home, "report.json", `{"model": "mine", "points": []}`),
		"a home folder with a conversion":    with(home, "conversion.json", `{"from": "usd", "to": "eur", "files": {"Documents/thesis.tex": {"bytes": 13}}}`),
		"a home folder with metrics":         with(home, "metrics.jsonl", ""),
		"a home folder with a recipe":        with(home, "recipe.yaml", "steps: 10\n", "metrics.jsonl", ""),
		"a home folder with a sweep":         with(home, "sweep.json", `{"method": "bayes"}`, "models/best.pt", "weights", "runs/1/log", "log"),
		"a home folder with an empty sweep":  with(home, "sweep.json", `{}`, "models/best.pt", "weights"),
		"a stranger's metrics":               {"metrics.jsonl": metrics, "notes.md": "lr 0.1 is best"},
		"a stranger's run":                   {"metrics.jsonl": metrics, "recipe.yaml": "model:\n  _component_: torchtune.models.llama3\n", "checkpoints/step-1/model.safetensors": "weights"},
		"a run of W&B":                       {"wandb/run-1/files/config.yaml": "lr: 1", "metrics.jsonl": metrics, "report.json": "{}", "model/model.pt": "weights"},
		"a git repository":                   {".git/HEAD": "ref: refs/heads/main", ".git/objects/ab/cd": "blob", "conversion.json": "{}", "metrics.jsonl": "", "main.go": "package main"},
		"another program's checkpoint":       {"config.json": read("config.json"), "model.safetensors": read("model.safetensors"), "README.md": "two weeks on 8 GPUs"},
		"another program's conversion":       {"config.json": read("config.json"), "model.safetensors": read("model.safetensors"), "conversion.json": `{"source": "m", "method": "mean"}`},
		"an npm project":                     {"package.json": "{}", "report.json": `{"numFailedTests": 0}`, "junit.xml": "<testsuites/>", "src/index.js": "1"},
		"marks that are links":               with(home, "recipe.yaml", "-> .bashrc", "metrics.jsonl", "-> .bashrc", "conversion.json", "-> .bashrc", "sweep.json", "-> .bashrc"),
		"marks that are folders":             {"recipe.yaml/a": "", "metrics.jsonl/a": "", "conversion.json/a": "", "sweep.json/a": "", "report.json/a": ""},
		"a folder of models":                 {"llama/config.json": read("config.json"), "llama/model.safetensors": read("model.safetensors")},
		"weights alone":                      {"model.safetensors": read("model.safetensors")},
		"a tree of empty folders and a file": {"a/b/c/d": ""},
	}
}

// TestForceForeign runs each command with --force on other programs' folders: it fails with one line, and nothing
// changes.
func TestForceForeign(t *testing.T) {
	for command, args := range writers(t) {
		folders := foreign(t)
		names := slices.Collect(maps.Keys(folders))
		if command != "gqa-convert" {
			names = names[:pick(6, len(names))]
		}
		for _, name := range names {
			files := folders[name]
			t.Run(command+"/"+name, func(t *testing.T) {
				root := t.TempDir()
				plant(t, filepath.Join(root, "target"), files)
				untouched(t, root, root, append(args, "--force", "-o", "target"))
			})
		}
		for name, target := range map[string]string{
			"a link to a home folder": "link", "a link that leads nowhere": "dangling", "a file": "home/LICENSE", "the current folder": ".",
			"the current folder by link": "../here", "a parent": "..", "the parent by name": "ROOT", "below a file": "home/LICENSE/x",
		} {
			t.Run(command+"/"+name, func(t *testing.T) {
				root := t.TempDir()
				plant(t, root, map[string]string{
					"work/link": "-> ../home", "work/dangling": "-> nowhere", "work/notes": "mine", "work/conversion.json": "{}", "here": "-> work",
				})
				plant(t, filepath.Join(root, "home"), home)
				plant(t, filepath.Join(root, "work", "home"), home)
				untouched(t, root, filepath.Join(root, "work"), append(args, "--force", "-o", strings.Replace(target, "ROOT", root, 1)))
			})
		}
	}
}

// untouched runs a command in dir that must fail and leave everything below root unchanged.
func untouched(t *testing.T, root, dir string, args []string) {
	t.Helper()
	before := snapshot(t, root)
	r := run(t, dir, args[0], args[1:]...)
	r.clean(t)
	if r.status == 0 || strings.Count(r.errOut, args[0]+": ") != 1 {
		t.Errorf("status %d, want a refusal in one line: %s", r.status, r.errOut)
	}
	if after := snapshot(t, root); !maps.Equal(before, after) {
		t.Errorf("lost: %q", lost(before, after))
	}
}

// TestForceOwn runs each command with --force on its own output, to which a user has added files.
func TestForceOwn(t *testing.T) {
	for command, args := range writers(t) {
		t.Run(command, func(t *testing.T) {
			root := t.TempDir()
			target := filepath.Join(root, "target")
			plant(t, filepath.Join(root, "home"), home)
			made := run(t, root, args[0], append(args[1:], "-o", "target")...)
			if made.status != 0 {
				t.Fatal(made.errOut)
			}
			first := snapshot(t, target)
			users := map[string]string{
				"notes.txt": "lr 0.1 is best", "Documents/thesis.tex": "years of work", ".git/HEAD": "ref", "home": "-> ../home", "nowhere": "-> gone",
				"plots/a/b.svg": "<svg/>",
			}
			plant(t, target, users)
			before := snapshot(t, root)
			r := run(t, root, args[0], append(args[1:], "--force", "-o", "target")...)
			if r.status != 0 || !strings.Contains(r.errOut, "replacing an output") || !strings.Contains(r.errOut, "notes.txt") {
				t.Errorf("status %d: %s", r.status, r.errOut)
			}
			after := snapshot(t, root)
			for _, name := range lost(before, after) {
				if _, own := first[name]; !own {
					t.Errorf("%s is lost", name)
				}
			}
			for name := range after {
				if strings.Contains(filepath.Base(name), ".target.") {
					t.Errorf("%s is left", name)
				}
			}
		})
	}
}

// TestForceOwnRefuses has user files in the places where a new output would mix with them.
func TestForceOwnRefuses(t *testing.T) {
	places := map[string][]string{
		"gqa-convert": {"other.safetensors", "adapter.bin"},
		"gqa-train":   {"checkpoints/step-1/notes.txt", "checkpoints/notes.txt", "model/notes.txt", "checkpoints/step-9/notes.txt"},
		"gqa-eval":    {"models/notes.txt", "models/2-mean/notes.txt", "runs/notes.txt", "runs/2-mean/checkpoints/notes.txt", "runs/2-mean/notes.txt", "teacher/notes.txt"},
	}
	for command, args := range writers(t) {
		root := t.TempDir()
		if made := run(t, root, args[0], append(args[1:], "-o", "target")...); made.status != 0 {
			t.Fatal(made.errOut)
		}
		for _, place := range places[command] {
			t.Run(command+"/"+place, func(t *testing.T) {
				path := filepath.Join(root, "target", place)
				plant(t, filepath.Dir(path), map[string]string{filepath.Base(path): "mine"})
				untouched(t, root, root, append(args, "--force", "-o", "target"))
				os.Remove(path)
				os.Remove(filepath.Dir(path)) // if it was made for it
			})
		}
		if command != "gqa-convert" {
			continue
		}
		plant(t, root, map[string]string{"home/model.safetensors": "mine"})
		weights := filepath.Join(root, "target", "model.safetensors")
		if err := os.Remove(weights); err != nil {
			t.Fatal(err)
		}
		plant(t, filepath.Dir(weights), map[string]string{"model.safetensors": "-> ../home/model.safetensors"})
		untouched(t, root, root, append(args, "--force", "-o", "target"))
	}
}

// whole checks that a folder is one conversion: all files listed in its conversion.json, and its number of KV heads.
func whole(t *testing.T, dir string, users ...string) (groups int) {
	t.Helper()
	var c struct {
		Groups int
		Files  map[string]struct{ Bytes int64 }
	}
	var config struct {
		Heads int `json:"num_key_value_heads"`
	}
	for name, value := range map[string]any{"conversion.json": &c, "config.json": &config} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, value); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range c.Files {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() != f.Bytes {
			t.Errorf("%s: %v, want %d bytes", name, err, f.Bytes)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(c.Files)+1+len(users) || c.Groups != config.Heads {
		t.Errorf("%s: %d entries (%v), want %d; %d groups, config.json says %d", dir, len(entries), err, len(c.Files)+1+len(users), c.Groups, config.Heads)
	}
	return c.Groups
}

// TestTwoWriters runs two conversions with the same output at once. Without --force one of them fails, with --force
// neither does, and the result is entirely one of the two.
func TestTwoWriters(t *testing.T) {
	model, _ := tiny(t)
	for i := range pick(6, 200) {
		for _, force := range []bool{false, true} {
			root := t.TempDir()
			args := []string{"-o", "out", model, "--quiet"}
			var users []string
			if force {
				if r := run(t, root, "gqa-convert", append(args, "--groups", "1")...); r.status != 0 {
					t.Fatal(r.errOut)
				}
				plant(t, root, map[string]string{"out/notes.txt": "mine"})
				args, users = append(args, "--force"), []string{"notes.txt"}
			}
			results := make(chan result)
			for _, groups := range []string{"2", "4"} {
				go func() { results <- end(t, command(t, root, "gqa-convert", append(args, "--groups", groups)...)) }()
			}
			a, b := <-results, <-results
			if done := (a.status == 0) != (b.status == 0); !force && !done || force && a.status+b.status != 0 {
				t.Errorf("attempt %d, force %v: status %d and %d: %s%s", i, force, a.status, b.status, a.errOut, b.errOut)
			}
			if got := whole(t, filepath.Join(root, "out"), users...); got != 2 && got != 4 {
				t.Errorf("attempt %d, force %v: %d groups", i, force, got)
			}
			wantOnly(t, root, "out")
			if data, err := os.ReadFile(filepath.Join(root, "out", "notes.txt")); force && (err != nil || string(data) != "mine") {
				t.Errorf("attempt %d: notes.txt: %q, %v", i, data, err)
			}
		}
	}
}

// wantOnly checks that dir contains only these names.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(names) {
		t.Errorf("%s holds %v (%v), want %q", dir, entries, err, names)
	}
	for i := range min(len(entries), len(names)) {
		if entries[i].Name() != names[i] {
			t.Errorf("%s holds %v, want %q", dir, entries, names)
		}
	}
}

// hiddenIn lists hidden names in dir.
func hiddenIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestKilledConversion kills a conversion midway. The next one removes what it left behind, but not the files of a third
// one that is still running.
func TestKilledConversion(t *testing.T) {
	model, root := sampleModel(t), t.TempDir()
	slow := []string{"--groups", "4", "--method", "calibrated", "--refine", "100000", "-o", "out", model}
	start := func() (kill func()) {
		before := hiddenIn(t, root)
		begun := func() bool {
			return slices.ContainsFunc(hiddenIn(t, root), func(name string) bool { return !slices.Contains(before, name) })
		}
		ctx, cancel := context.WithCancel(t.Context())
		cmd := command(t, root, "gqa-convert", slow...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { <-ctx.Done(); cmd.Process.Kill() }()
		for deadline := time.Now().Add(time.Minute); !begun() && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		return func() { cancel(); cmd.Wait() }
	}
	start()()
	if len(hiddenIn(t, root)) != 1 {
		t.Fatalf("a killed conversion left %q, want one folder", hiddenIn(t, root))
	}
	kill := start()
	if left := hiddenIn(t, root); len(left) != 1 {
		t.Errorf("a conversion after a killed one works beside %q", left)
	}
	if r := run(t, root, "gqa-convert", "--groups", "4", "-o", "out", model); r.status != 0 {
		t.Error(r.errOut)
	}
	if left := hiddenIn(t, root); len(left) != 1 {
		t.Errorf("there is %q, want what the conversion that lives is making", left)
	}
	kill()
	if r := run(t, root, "gqa-convert", "--groups", "4", "-o", "out", "--force", model); r.status != 0 || !strings.Contains(r.errOut, "removing files left by an interrupted command") {
		t.Error(r.errOut)
	}
	wantOnly(t, root, "out")
}

// TestKilledReplacement kills a conversion that replaces another, at any moment: a user's files are always on the disk,
// and back in their place after the next conversion.
func TestKilledReplacement(t *testing.T) {
	model, _ := tiny(t)
	root := t.TempDir()
	convert := []string{"--groups", "2", "-o", "out", model}
	if r := run(t, root, "gqa-convert", convert...); r.status != 0 {
		t.Fatal(r.errOut)
	}
	plant(t, root, map[string]string{"out/notes.txt": "mine", "out/Documents/thesis.tex": "years of work"})
	convert = append(convert, "--force")
	began := time.Now()
	run(t, root, "gqa-convert", convert...)
	took, amid, swapping := time.Since(began), 0, 0
	for i := range pick(15, 500) {
		cmd := command(t, root, "gqa-convert", convert...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Float64() * float64(took)))
		cmd.Process.Kill()
		cmd.Wait()
		hidden := strings.Join(hiddenIn(t, root), " ")
		amid, swapping = amid+strings.Count(hidden, ".tmp-"), swapping+strings.Count(hidden, ".old-")
		thesis, _ := filepath.Glob(filepath.Join(root, "*out*", "Documents", "thesis.tex"))
		if len(thesis) != 1 {
			t.Fatalf("kill %d: the thesis is in %q", i, thesis)
		}
	}
	if r := run(t, root, "gqa-convert", convert...); r.status != 0 {
		t.Error(r.errOut)
	}
	wantOnly(t, root, "out")
	whole(t, filepath.Join(root, "out"), "notes.txt", "Documents")
	for name, want := range map[string]string{"notes.txt": "mine", "Documents/thesis.tex": "years of work"} {
		if got, err := os.ReadFile(filepath.Join(root, "out", name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	t.Logf("the kills left %d new folders, and %d old ones put aside", amid, swapping)
}
