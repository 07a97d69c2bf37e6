//go:build actions

package bench

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// compositeAction is the part of GitHub's action.yml that a composite action of shell steps needs.
type compositeAction struct {
	Inputs map[string]struct {
		Description string
		Required    bool
		Default     *string
	}
	Outputs map[string]struct{ Description, Value string }
	Runs    struct {
		Using string
		Steps []actionStep
	}
}

type actionStep struct {
	ID, Name, Uses, Shell, Run string
	With, Env                  map[string]string
}

// runAction runs the shell steps of action.yml in a folder as GitHub's runner does, with inputs in place of the defaults. It returns the
// outputs, the job's summary, what the steps wrote, and the error of the first step that failed. temp is the runner's folder for files
// of a job.
func runAction(t *testing.T, dir, temp string, inputs map[string]string) (outputs map[string]string, summary, log string, err error) {
	t.Helper()
	var a compositeAction
	read(t, "../action.yml", &a)
	values := map[string]string{"github.action_path": absolute(t, "..")}
	for name, in := range a.Inputs {
		value, given := inputs[name]
		if in.Default == nil != in.Required || in.Required && !given || in.Description == "" {
			t.Fatalf("input %s: %+v, given: %v", name, in, given)
		}
		if !given {
			value = *in.Default
		}
		values["inputs."+name] = value
	}
	if err := os.RemoveAll(filepath.Join(temp, "summary")); err != nil {
		t.Fatal(err)
	}
	for i, step := range a.Runs.Steps {
		if step.Uses != "" {
			if !strings.HasPrefix(step.Uses, "actions/setup-go@") { // Go is here
				t.Fatalf("step %d uses %s, which this test does not know", i, step.Uses)
			}
			continue
		}
		if err = runStep(t, step, dir, temp, values, &log); err != nil {
			break
		}
	}
	text, _ := os.ReadFile(filepath.Join(temp, "summary"))
	outputs = map[string]string{}
	for name, out := range a.Outputs {
		outputs[name] = expand(t, out.Value, values)
	}
	return outputs, string(text), log, err
}

// runStep runs one step. Inputs reach it by its environment alone: in the script they could be commands.
func runStep(t *testing.T, step actionStep, dir, temp string, values map[string]string, log *string) error {
	t.Helper()
	if step.Shell != "bash" || strings.Contains(step.Run, "${{") {
		t.Fatalf("step %q: shell %q, expressions in the script", step.Name, step.Shell)
	}
	script, output := filepath.Join(temp, "step.sh"), filepath.Join(temp, "output")
	for path, text := range map[string]string{script: step.Run, output: ""} {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CI=true", "GITHUB_WORKSPACE="+dir, "RUNNER_TEMP="+temp,
		"GITHUB_STEP_SUMMARY="+filepath.Join(temp, "summary"), "GITHUB_OUTPUT="+output)
	for name, value := range step.Env {
		cmd.Env = append(cmd.Env, name+"="+expand(t, value, values))
	}
	out, err := cmd.CombinedOutput()
	*log += string(out)
	text, _ := os.ReadFile(output)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values["steps."+step.ID+".outputs."+name] = value
	}
	return err
}

var expression = regexp.MustCompile(`\$\{\{ *([a-z0-9_.-]+) *\}\}`)

// expand replaces the expressions in a text. All are plain names.
func expand(t *testing.T, text string, values map[string]string) string {
	t.Helper()
	return expression.ReplaceAllStringFunc(text, func(e string) string {
		name := expression.FindStringSubmatch(e)[1]
		value, ok := values[name]
		if !ok && !strings.HasPrefix(name, "steps.") {
			t.Fatalf("%s is not one of %q", name, slices.Sorted(maps.Keys(values)))
		}
		return value
	})
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// reports writes a project's folder with a report, an accepted one, and a better one that the report does not reach.
func reports(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("../eval/report/testdata/report/report.json")
	if err != nil {
		t.Fatal(err)
	}
	loss := regexp.MustCompile(`"loss": [0-9.]+`)
	better := loss.ReplaceAll(text, []byte(`"loss": 1.25`))
	for name, content := range map[string][]byte{"my report": text, "accepted": text, "better": better} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "report.json"), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The action passes and fails as the gate does, and leaves a summary and JUnit's file either way.
func TestAction(t *testing.T) {
	dir, temp := reports(t), t.TempDir()
	for baseline, want := range map[string]string{"accepted": "passed", "better/report.json": "failed"} {
		outputs, summary, log, err := runAction(t, dir, temp, map[string]string{"report": "my report", "baseline": baseline, "junit": want + ".xml"})
		if (err == nil) != (want == "passed") || outputs["result"] != want || !strings.Contains(summary, "## Gate: "+want+"\n") {
			t.Errorf("%s: %v, outputs %v, summary %q\n%s", baseline, err, outputs, summary, log)
		}
		junit, err := os.ReadFile(filepath.Join(dir, want+".xml"))
		if err != nil || bytes.Contains(junit, []byte("<failure")) != (want == "failed") {
			t.Errorf("%s: %v, JUnit %s", baseline, err, junit)
		}
	}
	flags := map[string]string{"report": "my report", "baseline": "better", "tolerance": "loss=9", "gate-flags": "--allow-other-model --allow-other-corpus"}
	if outputs, _, log, err := runAction(t, dir, temp, flags); err != nil || outputs["result"] != "passed" {
		t.Errorf("with a tolerance: %v, %v\n%s", err, outputs, log)
	}
	if _, _, log, err := runAction(t, dir, temp, map[string]string{"report": "nowhere", "baseline": "accepted"}); err == nil || !strings.Contains(log, "nowhere") {
		t.Errorf("no report: %v\n%s", err, log)
	}
	testMeasuring(t, dir, temp)
}

// testMeasuring lets the action measure models and compare them with what it measured before, window by window.
func testMeasuring(t *testing.T, dir, temp string) {
	t.Helper()
	tiny := absolute(t, "../internal/golden/testdata/llama")
	inputs := map[string]string{
		"models": tiny + " " + tiny + "/gqa-g2", "data": tiny + "/golden.safetensors", "report": "first", "baseline": "first",
		"measure-flags": "--seq-len 16 --batch 1 --context 8", "max-latency-increase": "0", "tolerance": "loss=0",
	}
	for range 2 { // with itself, then with an accepted copy
		outputs, summary, log, err := runAction(t, dir, temp, inputs)
		if err != nil || outputs["result"] != "passed" || strings.Contains(summary, "Note:") {
			t.Fatalf("%v, %v, %s\n%s", err, outputs, summary, log)
		}
		inputs["report"] = "second"
	}
}

// The snippet for GitLab does the same. Its lines run in one shell, and the first that fails ends the job.
func TestGitLab(t *testing.T) {
	var file map[string]struct {
		Variables    map[string]string
		BeforeScript []string `yaml:"before_script"`
		Script       []string
		Artifacts    struct{ Reports map[string]string }
	}
	read(t, "../docs/ci/gitlab.yml", &file)
	job, dir := file[".gqa-gate"], reports(t)
	for baseline, want := range map[string]bool{"accepted": true, "better": false} {
		script := "set -eo pipefail\n" + strings.Join(append(slices.Clone(job.BeforeScript), job.Script...), "\n")
		cmd := exec.Command("bash", "-c", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CI_PROJECT_DIR="+dir)
		given := map[string]string{"GQA_SOURCE": absolute(t, ".."), "GQA_REPORT": "my report", "GQA_BASELINE": baseline}
		for name, value := range job.Variables {
			if v, ok := given[name]; ok {
				value = v
			}
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s", name, value))
		}
		out, err := cmd.CombinedOutput()
		junit, junitErr := os.ReadFile(filepath.Join(dir, job.Artifacts.Reports["junit"]))
		if (err == nil) != want || junitErr != nil || bytes.Contains(junit, []byte("<failure")) == want {
			t.Errorf("%s: %v, JUnit %s (%v)\n%s", baseline, err, junit, junitErr, out)
		}
	}
}
