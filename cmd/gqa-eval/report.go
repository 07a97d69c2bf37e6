package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gqa/checkpoints"
	"gqa/eval/report"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
)

const reportHelp = `Write the report in DIR, which a sweep or a comparison wrote, in one format, and recommend a point to ship: the one with the
smallest KV cache that meets the rules of --max-loss, --max-kv and --min-speedup. Where none does, the report says so, and names the nearest.`

func newReport() *cobra.Command {
	var format, output string
	var rules report.Rules
	cmd := &cobra.Command{
		Use:   "report DIR",
		Short: "Write a report in one format, and recommend a point",
		Long:  reportHelp,
		Example: `  gqa-eval report sweep --max-loss 0.02
  gqa-eval report sweep --min-speedup 1.5 --format html -o report.html`,
		Args: cli.Args("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := readReport(args[0])
			if err != nil {
				return err
			}
			r.Rules = givenRules(cmd.Flags(), rules, r.Rules)
			return writeOutput(cmd, output, func(w io.Writer) error { return r.Render(w, format) })
		},
	}
	cli.EnumVar(cmd.Flags(), &format, "format", "md", "format of the report", report.Formats()...)
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	addRules(cmd.Flags(), &rules)
	return cmd
}

func readReport(path string) (report.Report, error) {
	r, err := report.Read(path)
	if errors.Is(err, report.ErrNotFound) {
		err = advice.Add(err, "gqa-eval sweep writes one")
	}
	return r, err
}

// writeOutput renders to standard output or to a file, which appears complete or not at all.
func writeOutput(cmd *cobra.Command, path string, render func(w io.Writer) error) error {
	if path == "" {
		return render(cmd.OutOrStdout())
	}
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || !dir.IsDir() {
		return fmt.Errorf("there is no folder %s to write %s into", filepath.Dir(path), filepath.Base(path))
	}
	var buf bytes.Buffer
	if err := render(&buf); err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(path, buf.Bytes(), os.FileMode(0o666))
}

const gateHelp = `Compare the report of a sweep in DIR with a baseline. Print a line for every figure that is worse; if any is,
exit with status 1. Every point of the baseline must be in the report, and be up-trained if the baseline's point is. A loss may rise
by at most --max-loss-increase or, if the two reports use different corpora, by three joint standard errors, if that is more.
KV bytes must not rise. A decode time may rise by at most --max-latency-increase.`

func newGate() *cobra.Command {
	var baseline string
	limits := report.DefaultLimits
	cmd := &cobra.Command{
		Use:   "gate DIR --baseline FILE",
		Short: "Fail if a report is worse than a baseline",
		Long:  gateHelp,
		Args:  cli.Args("DIR"),
		RunE:  func(cmd *cobra.Command, args []string) error { return gate(cmd, args[0], baseline, limits) },
	}
	f := cmd.Flags()
	f.StringVar(&baseline, "baseline", "", "report.json with the accepted figures, or its folder")
	cli.NumberVar(f, &limits.MaxLossIncrease, "max-loss-increase", limits.MaxLossIncrease, 0, 1000, "allowed increase of a loss on the same corpus, in nats per token")
	cli.NumberVar(f, &limits.MaxLatencyIncrease, "max-latency-increase", limits.MaxLatencyIncrease, 0, 1000, "allowed increase of a decode time, as a fraction (0: do not check)")
	return cmd
}

func gate(cmd *cobra.Command, dir, baseline string, limits report.Limits) error {
	if baseline == "" {
		return cli.Usagef("--baseline is missing: the report.json to compare with")
	}
	r, err := readReport(dir)
	if err != nil {
		return err
	}
	base, err := readReport(baseline)
	if err != nil {
		return err
	}
	err = report.Gate(r, base, limits)
	var failed *report.GateError
	if errors.As(err, &failed) {
		for _, line := range failed.Failures {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
	}
	if err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "passed: all %d points of the baseline\n", len(base.Points))
	}
	return err
}
