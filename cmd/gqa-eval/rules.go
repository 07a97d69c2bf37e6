package main

import (
	"github.com/spf13/pflag"

	"gqa/eval/report"
	"gqa/internal/cli"
)

// addRules adds the flags for the rules by which a report recommends a point.
func addRules(fl *pflag.FlagSet, r *report.Rules) {
	*r = report.DefaultRules
	cli.NumberVar(fl, &r.MaxLoss, "max-loss", r.MaxLoss, 0, 1000, "recommend a point only if its loss is at most this much above the baseline's, in nats per token")
	cli.NumberVar(fl, &r.MaxKV, "max-kv", r.MaxKV, 0.0001, 1, "recommend a point only if its KV cache is at most this fraction of the baseline's; it must always be smaller")
	cli.NumberVar(fl, &r.MinSpeedup, "min-speedup", r.MinSpeedup, 0, 1000, "recommend a point only if it decodes at least this many times as fast as the baseline (0: any speed)")
}

// givenRules returns the report's own rules, changed by the flags that were given.
func givenRules(fl *pflag.FlagSet, flags report.Rules, own *report.Rules) *report.Rules {
	rules := report.DefaultRules
	if own != nil {
		rules = *own
	}
	for name, set := range map[string]func(){
		"max-loss":    func() { rules.MaxLoss = flags.MaxLoss },
		"max-kv":      func() { rules.MaxKV = flags.MaxKV },
		"min-speedup": func() { rules.MinSpeedup = flags.MinSpeedup },
	} {
		if fl.Changed(name) {
			set()
			own = &rules
		}
	}
	return own
}
