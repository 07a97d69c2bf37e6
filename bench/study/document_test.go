package main

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the tables of docs/study.md")

const document, held = "../../docs/study.md", "../../docs/study.jsonl"

// TestDocument checks that the tables of docs/study.md match the results.
func TestDocument(t *testing.T) {
	s, err := loadStudy("../../docs/study.yaml")
	if err != nil {
		t.Fatal(err)
	}
	results, err := readResults(held)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := s.writeTables(document, results); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	filled, err := s.fill(text, results)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, filled) {
		t.Error("the tables of docs/study.md are not those of docs/study.jsonl: go test ./bench/study -run TestDocument -update")
	}
}

var (
	figure = regexp.MustCompile(`\d+\.\d{3,}`)
	link   = regexp.MustCompile(`\]\([^)]*\)`)
)

// TestProse checks that every loss quoted in a section of docs/study.md is in a table of that section.
func TestProse(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for section := range strings.SplitSeq(link.ReplaceAllString(string(text), ""), "\n## ") {
		tables := strings.Join(region.FindAllString(section, -1), "\n")
		for _, f := range figure.FindAllString(region.ReplaceAllString(section, ""), -1) {
			checked++
			if !strings.Contains(tables, f) {
				t.Errorf("%s is in no table of the section %q", f, strings.SplitN(section, "\n", 2)[0])
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d figures were found", checked)
	}
}
