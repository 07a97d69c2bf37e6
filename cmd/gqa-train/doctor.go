package main

import (
	"errors"

	"github.com/spf13/cobra"

	"gqa/internal/cli"
	"gqa/internal/doctor"
)

func newDoctor() *cobra.Command {
	var printJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether NVIDIA GPUs can be used",
		Long: `Check whether NVIDIA GPUs can be used: list the libraries that are found, the one that is used of each and its version, what is
missing and how to get it, and the GPUs. Then compute a matrix product, an attention and an all-reduce on the first GPU and compare
them with known results. Libraries are searched for in the folders in GQA_CUDA_PATH (separated by colons), where the system's
loader looks, in the usual folders of the driver and the CUDA toolkit, and in the packages of Python.
The exit status is 1 if something that is needed is missing, or if a check fails.`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := doctor.Examine()
			err := printReport(cmd, r, printJSON)
			if err == nil && !r.OK {
				err = errors.New("GPUs cannot be used: the report says why")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&printJSON, "json", false, "print the report as JSON")
	return cmd
}

func printReport(cmd *cobra.Command, r *doctor.Report, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), r)
	}
	return r.Write(cmd.OutOrStdout())
}
