package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gqa/checkpoints/sample"
	"gqa/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gqa-eval": func() { cli.Main(newRoot) }})
}

// TestScripts runs the scripts in testdata/script. $SAMPLE is the embedded model; $TINY is a Llama, $LEARNED a GPT-2 and
// $ALIBI a BLOOM of 128 ids, whose golden.safetensors hold input_ids [2, 24]; $REPORT is a report.
func TestScripts(t *testing.T) {
	env := map[string]string{"SAMPLE": filepath.Join(t.TempDir(), sample.Name)}
	if err := sample.Extract(env["SAMPLE"]); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"TINY": "../../internal/golden/testdata/llama", "BERT": "../../internal/golden/testdata/bert", "LEARNED": "../../internal/golden/testdata/gpt2", "ALIBI": "../../internal/golden/testdata/bloom", "REPORT": "../../eval/report/testdata/report",
	} {
		path, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		env[name] = path
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for name, path := range env {
				e.Setenv(name, path)
			}
			e.Setenv("CUDA_VISIBLE_DEVICES", "-1") // the scripts are for the processor, whatever else the machine has
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"usage":  func(ts *testscript.TestScript, neg bool, args []string) { oneLine(ts, neg, args, cli.ExitUsage) },
			"await":  await,
			"failed": func(ts *testscript.TestScript, neg bool, args []string) { oneLine(ts, neg, args, cli.ExitFailed) },
		},
	})
}

// await implements the script command await FILE PATTERN, which waits until a file contains a pattern.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE PATTERN")
	}
	pattern := regexp.MustCompile(args[1])
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && pattern.Match(text) {
			return
		}
	}
	ts.Fatalf("%s never held %s", args[0], args[1])
}

// oneLine checks that the standard error of the last command is one line of the form that goes with an exit status: usage
// PATTERN for 2, failed PATTERN for 1.
func oneLine(ts *testscript.TestScript, neg bool, args []string, status int) {
	if neg || len(args) != 1 {
		ts.Fatalf("want one pattern")
	}
	got := strings.TrimSuffix(ts.ReadFile("stderr"), "\n")
	line, isOurs := strings.CutPrefix(got, "gqa-eval: ")
	hint := regexp.MustCompile(` \(see gqa-eval( [a-z]+)? --help\)$`).FindString(line)
	line, isUsage := strings.TrimSuffix(line, hint), hint != ""
	if strings.Contains(got, "\n") || !isOurs || isUsage != (status == cli.ExitUsage) {
		ts.Fatalf("standard error is not one line of status %d:\n%s", status, got)
	}
	if !regexp.MustCompile(args[0]).MatchString(line) {
		ts.Fatalf("%q does not match %s", line, args[0])
	}
}
