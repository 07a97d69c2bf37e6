package bench

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/cli.md")

// TestCLI wants docs/cli.md to be what the commands say with --help.
func TestCLI(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-w", "-o", bin+"/", "../cmd/...").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var doc bytes.Buffer
	doc.WriteString("# Command line\n\nWhat each command says with `--help`. `go test ./bench -run TestCLI -update` writes this file.\n")
	for _, name := range []string{"gqa-convert", "gqa-train", "gqa-eval"} {
		describe(t, &doc, bin, "##", name)
	}
	const path = "../docs/cli.md"
	if *update {
		if err := os.WriteFile(path, doc.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	held, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(held, doc.Bytes()) {
		t.Error("docs/cli.md is not what the commands say: go test ./bench -run TestCLI -update")
	}
}

var subcommand = regexp.MustCompile(`(?m)^  ([a-z]+) +\S`)

// describe adds the help of a command and of those below it.
func describe(t *testing.T, doc *bytes.Buffer, bin, heading string, command ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, command[0]), append(command[1:], "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
	help := string(out)
	doc.WriteString("\n" + heading + " " + strings.Join(command, " ") + "\n\n```\n" + strings.TrimRight(help, "\n") + "\n```\n")
	_, below, _ := strings.Cut(help, "Available Commands:\n")
	below, _, _ = strings.Cut(below, "\n\n")
	for _, m := range subcommand.FindAllStringSubmatch(below, -1) {
		if m[1] != "help" && m[1] != "completion" { // which every command of this kind has
			describe(t, doc, bin, "###", append(command, m[1])...)
		}
	}
}
