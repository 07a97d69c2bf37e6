package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/eval/report"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
)

// gateFlags holds the values of gqa-eval gate's flags.
type gateFlags struct {
	baseline, format, output string
	tolerances               []string
	maxLoss                  float64
	given                    func(flag string) bool
	limits                   report.Limits
}

const (
	gateHelp = `Compare the report in DIR, of a sweep or a comparison, with an accepted one. Print a line for every figure that is worse; if any
is, exit with status 1. Every point of the baseline must be in the report, and be up-trained if the baseline's point is.

A figure fails if it is worse by more than its tolerance and the interval of the difference excludes zero. The intervals pair the
windows or items, from the scores.json beside both reports; together they hold in 95 of 100 comparisons. If a scores.json is
missing, the tolerance alone decides for losses and token accuracy.

Default tolerances, and those for up-trained points, which another order of the data changes:
  losses, in nats/token or bits/byte   0.5% of the baseline's value   5%
  accuracy, as a share of tokens       0.005                          0.03
  accuracy, as a share of items        0.01                           0.1
  bytes                                0                              0
  times                                --max-latency-increase         the same
  anything else                        1% of the baseline's value     5%

Times are compared only with a baseline from the same machine.`
	gateExample = `  gqa-eval gate sweep --baseline accepted
  gqa-eval gate out --baseline accepted/report.json --tolerance loss=0.02,hellaswag_acc=0.03 --max-latency-increase 0
  gqa-eval gate out --baseline accepted --format junit -o gate.xml`
)

func newGate() *cobra.Command {
	var f gateFlags
	cmd := &cobra.Command{
		Use:     "gate DIR --baseline FILE|DIR",
		Short:   "Fail if a report is worse than a baseline",
		Long:    gateHelp,
		Example: gateExample,
		Args:    cli.Args("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.given = cmd.Flags().Changed
			return f.run(cmd, args[0])
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func (f *gateFlags) add(fl *pflag.FlagSet) {
	f.limits = report.DefaultLimits
	fl.StringVar(&f.baseline, "baseline", "", "accepted report: its folder, or its report.json")
	fl.StringSliceVar(&f.tolerances, "tolerance", nil, "allowances by metric, such as loss=0.02,token_accuracy=0.01, in the units of the report")
	cli.NumberVar(fl, &f.maxLoss, "max-loss-increase", 0, 0, 1000, "the same as --tolerance loss=X, in nats per token")
	cli.NumberVar(fl, &f.limits.MaxLatencyIncrease, "max-latency-increase", f.limits.MaxLatencyIncrease, 0, 1000, "allowed increase of a time, as a fraction (0: do not compare times)")
	fl.BoolVar(&f.limits.AllowOtherModel, "allow-other-model", false, "compare with a baseline of another model")
	fl.BoolVar(&f.limits.AllowOtherCorpus, "allow-other-corpus", false, "compare with a baseline on other data, by wider intervals")
	cli.EnumVar(fl, &f.format, "format", "text", "format of the result", report.VerdictFormats()...)
	fl.StringVarP(&f.output, "output", "o", "", "file to write (default: standard output)")
}

func (f *gateFlags) run(cmd *cobra.Command, dir string) error {
	if f.baseline == "" {
		return cli.Usagef("--baseline is missing: the report.json to compare with")
	}
	if err := f.parse(); err != nil {
		return err
	}
	r, err := readScored(dir)
	if err != nil {
		return err
	}
	base, err := readScored(f.baseline)
	if err != nil {
		return err
	}
	verdict, err := report.Gate(r, base, f.limits)
	if err != nil {
		return f.advise(err)
	}
	if err := writeOutput(cmd, f.output, func(w io.Writer) error { return verdict.Render(w, f.format) }); err != nil {
		return err
	}
	return verdict.Err()
}

// parse sets the tolerances that are given.
func (f *gateFlags) parse() error {
	f.limits.Tolerances = map[string]float64{}
	if f.given("max-loss-increase") {
		f.limits.Tolerances["loss"] = f.maxLoss
	}
	for _, t := range f.tolerances {
		name, text, _ := strings.Cut(t, "=")
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || !(x >= 0) || math.IsInf(x, 1) {
			return cli.Usagef("--tolerance is %q, want METRIC=NUMBER, such as loss=0.02, with a number of at least 0", t)
		}
		if _, twice := f.limits.Tolerances[name]; twice {
			return cli.Usagef("the tolerance for %s is given twice", name)
		}
		f.limits.Tolerances[name] = x
	}
	return nil
}

func readScored(path string) (report.Scored, error) {
	r, err := report.ReadScored(path)
	if errors.Is(err, report.ErrNotFound) {
		err = advice.Add(err, writesReport)
	}
	return r, err
}

// advise adds the flag that makes the gate compare what it refuses to.
func (f *gateFlags) advise(err error) error {
	var other report.OtherError
	if errors.As(err, &other) {
		return advice.Add(err, fmt.Sprintf("to compare them nevertheless, use --allow-other-%s", other.What))
	}
	return err
}
