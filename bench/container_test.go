package bench

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestContainerfile checks what can be known without building the image: that what is copied exists and is sent to the
// builder, that the commands are ours, and that the versions are those of go.mod and of docs/gpu.md.
func TestContainerfile(t *testing.T) {
	file := readText(t, "../Containerfile")
	sent := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(readText(t, "../.dockerignore"), ""))
	isSent := func(name string) bool {
		top, _, _ := strings.Cut(name, "/")
		for _, pattern := range sent {
			if pattern == "!"+top {
				return true
			}
		}
		return false
	}
	for _, pattern := range sent[1:] {
		if _, err := os.Stat(filepath.Join("..", strings.TrimPrefix(pattern, "!"))); err != nil {
			t.Errorf(".dockerignore: %v", err)
		}
	}
	if sent[0] != "*" || isSent(".git") || isSent("docs") {
		t.Errorf(".dockerignore sends more than it names: %q", sent)
	}
	stages, copied := 0, map[string]bool{}
	for i, line := range strings.Split(file, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		switch words[0] {
		case "FROM":
			stages++
			if strings.Count(words[1], "/") > 1 || !strings.Contains(words[1], ":") || strings.HasSuffix(words[1], ":latest") {
				t.Errorf("line %d: %s is not an image's short name with a tag", i+1, words[1])
			}
		case "COPY":
			sources := words[1 : len(words)-1]
			if strings.HasPrefix(sources[0], "--from=build") {
				for _, name := range sources[1:] {
					copied[path.Base(name)] = true
				}
				continue
			}
			for _, name := range sources {
				if _, err := os.Stat(filepath.Join("..", name)); err != nil || name != "." && !isSent(name) {
					t.Errorf("line %d: %s is not there, or .dockerignore leaves it out (%v)", i+1, name, err)
				}
			}
		case "CMD":
			if !strings.Contains(line, `["gqa-train", "doctor"]`) {
				t.Errorf("line %d: %s", i+1, line)
			}
		case "ARG", "ENV", "RUN", "WORKDIR":
		default:
			t.Errorf("line %d: unknown instruction %s", i+1, words[0])
		}
	}
	commands, err := os.ReadDir("../cmd")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if !copied[c.Name()] {
			t.Errorf("%s is not copied into the image", c.Name())
		}
	}
	if stages != 2 || len(copied) != len(commands) {
		t.Errorf("%d stages, copied commands %v", stages, copied)
	}
	golang := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(readText(t, "../go.mod"))
	for _, want := range []string{"FROM golang:" + golang[1] + " AS build\n", "CGO_ENABLED=0 go build", "-tags cuda"} {
		if !strings.Contains(file, want) {
			t.Errorf("Containerfile lacks %q", want)
		}
	}
	image := regexp.MustCompile(`FROM (nvidia/cuda:\S+-cudnn-runtime-\S+)\n`).FindStringSubmatch(file)
	if image == nil || !strings.Contains(readText(t, "../docs/gpu.md"), image[1]) {
		t.Errorf("docs/gpu.md does not name the image %q", image)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
