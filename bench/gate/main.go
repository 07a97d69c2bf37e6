// Command gate measures how reliable gqa-eval gate is on the sample: whether models that are worse fail, and whether repeats of an
// up-training pass. docs/ci.md has the results.
//
//	go run ./bench/gate                    models made 1% worse by noise in their weights
//	go run ./bench/gate -repeats runs      the runs runs/NAME-1, runs/NAME-2, …, each against each
//	go run ./bench/gate -coverage MODEL    how well some windows stand for all
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/checkpoints/sample"
	"gqa/eval/tasks"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("gate", flag.ContinueOnError)
	w := windows{data: "sample:val", length: 512}
	f.IntVar(&w.count, "windows", 40, "number of windows of 512 tokens")
	models := f.Int("models", 20, "number of models with noise")
	share := f.Float64("worse", 0.01, "by which share their loss is higher")
	repeats := f.String("repeats", "", "`FOLDER` of runs, named NAME-NUMBER, in place of models with noise")
	model := f.String("coverage", "", "`MODEL` to compare with the sample on some windows and on all")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *repeats != "" {
		var err error
		if w.tasks, err = (tasks.Selection{Names: []string{"sample"}}).Load(); err != nil {
			return err
		}
		return w.compareRepeats(ctx, *repeats, out)
	}
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *model != "" {
		return w.coverage(ctx, dir, *model, out)
	}
	return w.compareNoise(ctx, dir, *models, *share, out)
}

// compareNoise counts the models with noise that fail the gate with the sample as the baseline.
func (w windows) compareNoise(ctx context.Context, dir string, models int, share float64, out io.Writer) error {
	model := filepath.Join(dir, "sample")
	if err := sample.Extract(model); err != nil {
		return err
	}
	base, err := w.measure(ctx, model)
	if err != nil {
		return err
	}
	failed := 0
	for seed := range models {
		m, err := w.worsened(ctx, model, filepath.Join(dir, "noise"), base.figures["loss"].Value, share, uint64(seed))
		if err != nil {
			return err
		}
		passed, err := passes(m, base, 0)
		if err != nil {
			return err
		}
		if !passed {
			failed++
		}
		d, _ := m.figures["loss"].Scores.Minus(base.figures["loss"].Scores)
		fmt.Fprintf(out, "%d: loss %.4f, +%.4f (%.4f to %.4f), passes: %v\n", seed, m.figures["loss"].Value, d.Mean, d.Low, d.High, passed)
	}
	_, err = fmt.Fprintf(out, "%d of %d models with a loss that is %.1f%% higher fail\n", failed, models, 100*share)
	return err
}

// compareRepeats counts the pairs of repeats that pass the gate, and prints how far their figures are apart.
func (w windows) compareRepeats(ctx context.Context, dir string, out io.Writer) error {
	folders, err := filepath.Glob(filepath.Join(dir, "*-*"))
	if err != nil {
		return err
	}
	repeats := map[string][]measured{}
	for _, folder := range folders {
		m, err := w.measure(ctx, folder)
		if err != nil {
			return err
		}
		name := filepath.Base(folder)
		name = name[:strings.LastIndex(name, "-")]
		repeats[name] = append(repeats[name], m)
	}
	for _, name := range slices.Sorted(maps.Keys(repeats)) {
		if err := printRepeats(name, repeats[name], out); err != nil {
			return err
		}
	}
	return nil
}

func printRepeats(name string, repeats []measured, out io.Writer) error {
	passed, pairs := 0, 0
	for i, a := range repeats {
		for j, b := range repeats {
			if i == j {
				continue
			}
			ok, err := passes(a, b, 1)
			if err != nil {
				return err
			}
			if pairs++; ok {
				passed++
			}
		}
	}
	fmt.Fprintf(out, "%s: %d repeats, %d of %d pairs pass\n", name, len(repeats), passed, pairs)
	for _, metric := range slices.Sorted(maps.Keys(repeats[0].figures)) {
		var x []float64
		for _, m := range repeats {
			x = append(x, m.figures[metric].Value)
		}
		mean, square := 0.0, 0.0
		for _, v := range x {
			mean += v / float64(len(x))
		}
		for _, v := range x {
			square += (v - mean) * (v - mean) / float64(len(x)-1)
		}
		fmt.Fprintf(out, "  %-16s mean %.4f, standard deviation %.4f, %.4f to %.4f\n", metric, mean, math.Sqrt(square), slices.Min(x), slices.Max(x))
	}
	return nil
}
