package main

import (
	"github.com/spf13/cobra"

	"gqa/eval"
	"gqa/internal/cli"
)

func newLogits() *cobra.Command {
	var input, output, device string
	var stepwise bool
	cmd := &cobra.Command{
		Use:   "logits MODEL --input ids.safetensors --out logits.safetensors",
		Short: "Write a model's logits, to compare them with another implementation",
		Args:  cli.Args("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return logits(cmd, args[0], input, output, device, stepwise)
		},
	}
	f := cmd.Flags()
	f.StringVar(&input, "input", "", ".safetensors file with input_ids [sequences, tokens]")
	f.StringVarP(&output, "out", "o", "", ".safetensors file for the logits [sequences, tokens, vocabulary], in f32")
	addDevice(f, &device)
	f.BoolVar(&stepwise, "stepwise", false, "process the tokens one at a time, with the KV cache")
	return cmd
}

func logits(cmd *cobra.Command, path, input, output, device string, stepwise bool) error {
	if input == "" || output == "" {
		return cli.Usagef("--input (a .safetensors file with input_ids [sequences, tokens]) and --out must be given")
	}
	m, err := eval.LoadModel(cmd.Context(), path, eval.ModelOptions{Device: device})
	if err != nil {
		return err
	}
	return eval.WriteLogits(cmd.Context(), m, input, output, stepwise)
}
