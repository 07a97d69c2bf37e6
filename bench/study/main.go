// Command study runs the grid of a study (docs/study.yaml): conversions of several kinds, each evaluated as it starts and
// after up-trainings of several lengths and losses, over seeds. It calls the three commands as a user would, several jobs
// beside each other, and keeps every result as a line of results.jsonl, so that a study goes on where it was interrupted.
//
//	go run ./bench/study -o DIR [-config docs/study.yaml] [-jobs 2 -threads 1] [-only REGEXP]    # runs what is missing
//	go run ./bench/study -o DIR -report docs/study                                              # the tables of docs/study.md, and plots, of what is there
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
)

func main() {
	log.SetFlags(log.Ltime)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	config := flag.String("config", "docs/study.yaml", "what to run")
	out := flag.String("o", "study", "folder of models, runs and results.jsonl")
	bin := flag.String("bin", "", "folder of the three commands (default: they are built)")
	jobs := flag.Int("jobs", 1, "runs beside each other")
	threads := flag.Int("threads", 0, "threads of each run (0: one per core)")
	only := flag.String("only", "", "cells whose name this matches")
	report := flag.String("report", "", "rewrite the tables of this path with .md, write plots beside it, and run nothing")
	flag.Parse()
	s, err := loadStudy(*config)
	if err != nil {
		return err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	results, err := readResults(filepath.Join(*out, resultsFile))
	if err != nil {
		return err
	}
	if *report != "" {
		return s.report(*report, results)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := os.MkdirAll(*out, 0o777); err != nil {
		return err
	}
	if *bin == "" {
		if *bin, err = build(ctx, *out); err != nil {
			return err
		}
	}
	r := &runner{study: s, dir: *out, bin: *bin, threads: *threads, done: results}
	return r.run(ctx, *jobs, pattern)
}

// build compiles the three commands into a folder of their own.
func build(ctx context.Context, out string) (bin string, err error) {
	if bin, err = filepath.Abs(filepath.Join(out, "bin")); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin+string(filepath.Separator), "./cmd/...")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	return bin, nil
}
