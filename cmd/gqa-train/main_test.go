package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gqa/internal/cli"
	"gqa/internal/devices"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gqa-train": func() { cli.Main(newRoot) }})
}

// TestScripts runs the scripts in testdata/script. $TINY is a Llama of 128 ids with two KV heads for eight heads; its
// golden.safetensors holds input_ids [2, 24]. $SAMPLE is the embedded model. [gpus] is true if the build uses GPUs.
func TestScripts(t *testing.T) {
	tiny, err := filepath.Abs("../../train/testdata/llama-g2")
	if err != nil {
		t.Fatal(err)
	}
	sample, err := filepath.Abs("../../checkpoints/sample/gopher-4m")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TINY", tiny)
			env.Setenv("SAMPLE", sample)
			env.Setenv("CUDA_VISIBLE_DEVICES", "-1") // the scripts are for the processor, whatever else the machine has
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "gpus" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return devices.GPUs, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await},
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

func TestQuantity(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 12.4: "12", 999: "999", 999.9: "1k", 4096: "4.1k", 999_600: "1M", 2.5e6: "2.5M", 7e12: "7e+03G", 1e9: "1G",
	} {
		if got := quantity(x); got != want {
			t.Errorf("%v: %q, want %q", x, got, want)
		}
	}
}
