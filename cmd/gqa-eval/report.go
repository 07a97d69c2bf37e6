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

// writesReport is the advice for a report that is not there.
const writesReport = "gqa-eval sweep and gqa-eval compare write one"

func readReport(path string) (report.Report, error) {
	r, err := report.Read(path)
	if errors.Is(err, report.ErrNotFound) {
		err = advice.Add(err, writesReport)
	}
	return r, err
}

// writeOutput renders to standard output or to a file, which appears complete or not at all.
func writeOutput(cmd *cobra.Command, path string, render func(w io.Writer) error) error {
	if path == "" {
		return render(cmd.OutOrStdout())
	}
	if err := checkFolder(path); err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := render(&buf); err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(path, buf.Bytes(), os.FileMode(0o666))
}

// checkFolder returns an error if there is no folder to write a file into.
func checkFolder(path string) error {
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || !dir.IsDir() {
		return fmt.Errorf("there is no folder %s to write %s into", filepath.Dir(path), filepath.Base(path))
	}
	return nil
}
