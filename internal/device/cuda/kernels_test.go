//go:build cuda && linux

package cuda

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every kernel waits for those before it, which may still run when it is launched: it begins with begin, or is a single call of a
// function that calls awaitEarlier.
func TestKernelsAwaitEarlierOnes(t *testing.T) {
	kernel := regexp.MustCompile(`(?m)^extern "C" __global__ .*?(\w+)\([^{]*\) \{\s*(\w+)`)
	files, err := kernelFiles.ReadDir("kernels")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := kernelFiles.ReadFile(filepath.Join("kernels", file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found := kernel.FindAllStringSubmatch(string(text), -1)
		if len(found) != strings.Count(string(text), "__global__") {
			t.Errorf("%s: %d kernels found, want %d", file.Name(), len(found), strings.Count(string(text), "__global__"))
		}
		for _, k := range found {
			if name, first := k[1], k[2]; first != "begin" && !awaits(string(text), first) {
				t.Errorf("%s: %s does not begin with begin, and %s does not call awaitEarlier", file.Name(), name, first)
			}
		}
	}
}

// awaits reports whether a function calls awaitEarlier.
func awaits(text, function string) bool {
	_, body, _ := strings.Cut(text, " void "+function+"(")
	body, _, _ = strings.Cut(body, "\n}")
	return strings.Contains(body, "awaitEarlier();")
}
