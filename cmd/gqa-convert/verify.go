package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"gqa/convert"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/file"
	"gqa/internal/units"
	"gqa/internal/weights"
	"gqa/train"
)

// verification is what verify found in one folder.
type verification struct {
	Path     string            `json:"path"`             // as given
	Record   string            `json:"record,omitempty"` // the file that lists the others
	OK       bool              `json:"ok"`
	Files    int               `json:"files"` // number listed
	Bytes    int64             `json:"bytes"` // their size
	Problems []weights.Finding `json:"problems"`
	Notes    []weights.Finding `json:"notes"`

	dir string // of the files
}

const verifyHelp = `Check that the files of a conversion, or of the result of an up-training run, are those that were written: every file must
have the size and the SHA-256 in conversion.json or in the run's result.json. DIR is the folder of a conversion, of a run, or of
its model/; a single file of one of these is checked by itself.

A line for every problem names the file, what is there and what is wanted; if there is any, the exit status is 1. Other
files in the folder are a problem if programs may read them as weights or config, otherwise they are noted. Edits of
generation_config.json and of the model card are noted too. With --strict every note is a problem.`

func newVerify() *cobra.Command {
	var strict, printJSON bool
	cmd := &cobra.Command{
		Use:   "verify DIR...",
		Short: "Check that the files of a conversion are those that were written",
		Long:  verifyHelp,
		Example: `  gqa-convert verify my-model-gqa8/
  gqa-convert verify --strict my-model-gqa8/ runs/uptrain`,
		Args: cli.Args("DIR..."),
		RunE: func(cmd *cobra.Command, args []string) error { return runVerify(cmd, args, strict, printJSON) },
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "fail for edited and additional files of any kind")
	cmd.Flags().BoolVar(&printJSON, "json", false, "print the results as JSON")
	return cmd
}

func runVerify(cmd *cobra.Command, paths []string, strict, printJSON bool) error {
	var all struct {
		OK      bool           `json:"ok"`
		Folders []verification `json:"folders"`
	}
	bad := 0
	for _, path := range paths {
		v, err := verify(cmd, path, strict)
		if err != nil {
			return err
		}
		if !v.OK {
			bad++
		}
		if !printJSON {
			v.print(cmd.OutOrStdout())
		}
		all.Folders = append(all.Folders, v)
	}
	all.OK = bad == 0
	if printJSON {
		if err := cli.PrintJSON(cmd.OutOrStdout(), all); err != nil {
			return err
		}
	}
	switch {
	case bad == 0:
		return nil
	case len(paths) == 1:
		return fmt.Errorf("%s: is not as it was written, or cannot be verified", paths[0])
	}
	return fmt.Errorf("%d of %d are not as they were written, or cannot be verified", bad, len(paths))
}

// verify checks the files of a conversion or of a run's result, or one of them. The error is that of the context.
func verify(cmd *cobra.Command, path string, strict bool) (verification, error) {
	v := verification{Path: path, dir: path, Problems: []weights.Finding{}, Notes: []weights.Finding{}}
	record, only, err := readRecord(path)
	if err != nil {
		v.Problems = append(v.Problems, weights.Finding{Kind: weights.NoRecord, Text: err.Error()})
		return v, nil
	}
	if only != "" {
		record = record.Only(only)
	}
	v.Record, v.dir, v.Files, v.Bytes = record.Path, record.Dir, len(record.Files), record.Bytes()
	findings, err := findDifferences(cmd, record, only)
	if err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	for _, f := range findings {
		if f.Note && !strict {
			v.Notes = append(v.Notes, f)
		} else {
			v.Problems = append(v.Problems, f)
		}
	}
	v.OK = len(v.Problems) == 0
	return v, nil
}

// readRecord returns the record of what lies at path. only is the name of the file if path is not a folder.
func readRecord(path string) (r *weights.Record, only string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, file.Reason(path, err))
	}
	dir := path
	if !info.IsDir() {
		if err := file.Check(path, info); err != nil {
			return nil, "", err
		}
		dir, only = filepath.Dir(path), filepath.Base(path)
	}
	run := train.RunOf(dir)
	if only == "" && train.IsRun(dir) {
		run = dir
	}
	if run == "" {
		r, err = convert.ReadRecord(dir)
	} else {
		r, err = train.ReadRecord(run)
	}
	var unfinished weights.UnfinishedError
	if errors.As(err, &unfinished) {
		err = advice.Add(err, "finish it with gqa-train resume "+run)
	}
	return r, only, err
}

// findDifferences compares the files with their record, or only one of them.
func findDifferences(cmd *cobra.Command, r *weights.Record, only string) ([]weights.Finding, error) {
	bar := cli.CommandProgress(cmd, r.Bytes(), "verifying "+filepath.Base(r.Dir), true)
	defer bar.Done()
	if only == "" {
		return r.VerifyFolder(cmd.Context(), bar.Add)
	}
	if _, listed := r.Files[only]; !listed {
		return []weights.Finding{{File: only, Kind: weights.Unlisted, Text: "is not listed in " + r.Path}}, nil
	}
	return r.VerifyFiles(cmd.Context(), bar.Add)
}

// print writes a line for every finding and, if there is no problem, one for the folder.
func (v verification) print(w io.Writer) {
	for _, f := range v.Problems {
		fmt.Fprintln(w, v.line(f))
	}
	for _, f := range v.Notes {
		fmt.Fprintln(w, "note: "+v.line(f))
	}
	if v.OK {
		files := "files"
		if v.Files == 1 {
			files = "file"
		}
		fmt.Fprintf(w, "%s: as written: %d %s, %s\n", v.Path, v.Files, files, units.Bytes(v.Bytes))
	}
}

func (v verification) line(f weights.Finding) string {
	if f.File == "" {
		return f.Text
	}
	path := filepath.Join(v.dir, filepath.FromSlash(f.File))
	if strings.ContainsFunc(path, unicode.IsControl) { // a line stays a line
		path = strconv.Quote(path)
	}
	return path + ": " + f.Text
}
