// Command study runs the grid of a study (docs/study.yaml): several kinds of conversions, each evaluated before and after
// up-trainings of several lengths and losses, over seeds. It stores every result as a line of results.jsonl, so that an
// interrupted study can be resumed.
//
//	go run ./bench/study -o DIR [-config docs/study.yaml] [-jobs 2 -threads 1] [-only REGEXP]    # runs what is missing
//	go run ./bench/study -o DIR -decode                                                         # and times decode steps
//	go run ./bench/study -o DIR -report docs/study                                              # the tables of docs/study.md, and plots, of what is there
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"

	"gqa/internal/device/cpu"
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
	jobs := flag.Int("jobs", 1, "runs beside each other; 1 on a GPU, where several processes may run beside each other")
	threads := flag.Int("threads", 0, "threads of each run (0: one per core); a small model makes more of several runs of one thread")
	only := flag.String("only", "", "cells whose name this matches")
	decode := flag.Bool("decode", false, "then time the decode steps of the conversions that have no time; let nothing else run meanwhile")
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
	cpu.SetThreads(*threads)
	slog.SetLogLoggerLevel(slog.LevelWarn)
	r := &runner{study: s, dir: *out, done: results}
	if err := r.run(ctx, *jobs, pattern); err != nil || !*decode {
		return err
	}
	return r.timeDecodes(ctx)
}
