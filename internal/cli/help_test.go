package cli

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFill(t *testing.T) {
	for _, test := range []struct {
		text, want string
		width      int
	}{
		{"one two\nthree four five", "one two three\nfour five", 14},
		{"one two\nthree\n\nfour", "one two three\n\nfour", 80},
		{"a:\n\n  name  what it is\n        for\n  next  other", "a:\n\n  name  what it is for\n  next  other", 80},
		{"a:\n\n  name  what it is\n        for", "a:\n\n  name  what it\n        is for", 16},
		{"\n  run it --now\n", "  run it --now", 80},
		{"unbreakable/word and more", "unbreakable/word\nand more", 10},
		{"  a  b  c d e f", "  a  b  c\n      d e\n      f", 10},
		{"  name  what it is", "  name  what it\n        is", 16},
	} {
		if got := fill(test.text, test.width); got != test.want {
			t.Errorf("%q in %d columns:\n%s\nwant:\n%s", test.text, test.width, got, test.want)
		}
	}
}

func TestHelpIsNoWiderThanTheTerminal(t *testing.T) {
	for columns, most := range map[string]int{"": 80, "60": 60, "120": 100, "none": 80} {
		t.Setenv("COLUMNS", columns)
		for _, args := range [][]string{{"--help"}, {"work", "--help"}, {"help", "work"}} {
			status, stdout, stderr := run(t, args...)
			if status != ExitDone || stderr != "" {
				t.Fatalf("%v: status %d, %q", args, status, stderr)
			}
			for line := range strings.Lines(stdout) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > most {
					t.Errorf("COLUMNS=%s, %v: %d columns: %s", columns, args, n, line)
				}
			}
		}
	}
}
