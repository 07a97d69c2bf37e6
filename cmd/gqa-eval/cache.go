package main

import (
	"errors"

	"github.com/spf13/pflag"

	"gqa/eval"
	"gqa/internal/cli"
	"gqa/internal/limits"
)

// cacheFlags hold what a model's KV cache keeps.
type cacheFlags struct{ kv eval.KVCache }

// add adds the flags.
func (c *cacheFlags) add(f *pflag.FlagSet) {
	cli.EnumVar(f, &c.kv.DType, "kv-dtype", "f32", "data type of the KV cache", eval.KVDTypes...)
	cli.NumberVar(f, &c.kv.Window, "window", 0, 0, limits.Tokens, "number of last tokens that the KV cache keeps (0: all)")
	addSinks(f, &c.kv.Sinks)
}

func addSinks(f *pflag.FlagSet, sinks *int) {
	cli.NumberVar(f, sinks, "sinks", 0, 0, limits.Tokens, "number of first tokens that a KV cache with --window keeps, too")
}

// check returns an error about flags that are wrong for every model.
func (c *cacheFlags) check() error {
	if c.kv.Sinks > 0 && c.kv.Window == 0 {
		return errSinks
	}
	return nil
}

var errSinks = cli.UsageError{Err: errors.New("--sinks requires --window: how many of the last tokens the cache keeps beside them")}
