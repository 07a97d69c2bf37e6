package bench

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// quoted is a fenced block of a document whose lines stand, in this order, in a file of the repository.
var quoted = regexp.MustCompile("(?s)<!-- quote: (\\S+) -->\n```[a-z]*\n(.*?)\n```")

// TestQuotes holds the examples of the documentation to the files that they are taken from, which tests run.
func TestQuotes(t *testing.T) {
	pages, err := filepath.Glob("../docs/extending/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		blocks := quoted.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 || len(blocks) != strings.Count(string(text), "<!-- quote:") {
			t.Errorf("%s: %d blocks are quotes of files, and %d should be", page, len(blocks), strings.Count(string(text), "<!-- quote:"))
		}
		for _, b := range blocks {
			file, err := os.ReadFile(filepath.Join("..", b[1]))
			if err != nil {
				t.Fatal(err)
			}
			if line := missing(b[2], string(file)); line != "" {
				t.Errorf("%s quotes %q, which %s does not have there", page, line, b[1])
			}
		}
	}
}

// missing returns the first line of a block that does not follow the one before it in a text; empty: there is none.
func missing(block, text string) string {
	for _, line := range strings.Split(block, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		_, rest, ok := strings.Cut("\n"+text, "\n"+line+"\n")
		if !ok {
			return line
		}
		text = rest
	}
	return ""
}
