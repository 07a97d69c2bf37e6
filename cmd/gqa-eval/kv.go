package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/eval"
	"gqa/internal/cli"
	"gqa/internal/hub"
	"gqa/internal/limits"
)

// kvFlags holds the values of gqa-eval kv's flags.
type kvFlags struct {
	shape     string
	o         eval.KVOptions
	memoryGiB float64
	asJSON    bool
}

func newKV() *cobra.Command {
	var k kvFlags
	cmd := &cobra.Command{
		Use:   "kv [MODEL|SHAPE]",
		Short: "Show the KV-cache size of a model, or of published model shapes",
		Long: `Show the KV-cache size at every group count, of MODEL (a folder or a file of weights, none of which are read) or of SHAPE (the name of
a published model, or a shape such as layers=32,heads=32,dim=4096,ffn=11008,vocab=32000,context=4096). Without an argument, show all
published models. All of it is arithmetic; no model is run. MLA is the cache of multi-head latent attention, beside what the same heads
would take with grouped-query attention. A MODEL that gqa-convert --target mla can convert has rows for 1/2, 1/4, 1/8 and 1/16 of its
cache, and for a latent of 512 with a rotary key of 64, if that is less.`,
		Args: cli.Args("[SHAPE]"),
		RunE: func(cmd *cobra.Command, args []string) error { return k.run(cmd, args) },
	}
	k.add(cmd.Flags())
	return cmd
}

func (k *kvFlags) add(f *pflag.FlagSet) {
	f.StringVar(&k.shape, "shape", "", "name of one shape (default: all)")
	cli.NumberVar(f, &k.o.Context, "context", 0, 0, limits.Tokens, "context length (0: the model's own)")
	cli.NumberVar(f, &k.o.Batch, "batch", 1, 1, limits.Count, "batch size")
	cli.NumberVar(f, &k.o.KVBytes, "kv-bytes", 2, 1, 16, "bytes per element of the cache")
	cli.EnumVar(f, &k.o.KVDType, "kv-dtype", "", "data type of the cache, instead of --kv-bytes; integers with their scales", eval.KVDTypes...)
	cli.NumberVar(f, &k.o.WeightBytes, "weight-bytes", 2, 1, 16, "bytes per weight")
	cli.NumberVar(f, &k.memoryGiB, "memory", 0, 0, 1<<30, "memory in GiB for weights and cache; adds the largest batch that fits")
	f.BoolVar(&k.asJSON, "json", false, "print the results as JSON")
}

func (k *kvFlags) run(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 1 && k.shape != "":
		return cli.Usagef("give SHAPE or --shape, not both")
	case k.o.KVDType != "" && cmd.Flags().Changed("kv-bytes"):
		return cli.Usagef("give --kv-bytes or --kv-dtype, not both")
	case len(args) == 1:
		k.shape = args[0]
	}
	k.o.Memory = int64(k.memoryGiB * (1 << 30))
	shapes, err := kvShapes(k.shape)
	if err != nil {
		return err
	}
	rows, err := kvRows(shapes, k.o)
	if err != nil {
		return cli.Usagef("%w", err)
	}
	if k.asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), rows)
	}
	return eval.WriteKVTable(cmd.OutOrStdout(), rows)
}

// kvShapes returns the shape of a model or with a name; all of them if it is empty.
func kvShapes(name string) ([]eval.Shape, error) {
	if name == "" {
		return eval.Shapes()
	}
	s, err := shapeNamed(name)
	return []eval.Shape{s}, err
}

// shapeNamed returns the shape of a model, or the published one of that name.
func shapeNamed(name string) (eval.Shape, error) {
	path, err := hub.Find(hub.Model, name)
	if err != nil {
		return eval.Shape{}, err
	}
	if _, err := os.Stat(path); err == nil {
		return eval.ShapeOfModel(path)
	}
	s, err := eval.ShapeByName(name)
	if err != nil {
		return s, cli.Usagef("there is no file or folder %s, and %w", name, err)
	}
	return s, nil
}

func kvRows(shapes []eval.Shape, o eval.KVOptions) (all []eval.KVRow, err error) {
	for _, s := range shapes {
		rows, err := eval.KVRows(s, o)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}
