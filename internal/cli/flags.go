package cli

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/internal/limits"
)

// common holds the values of the shared flags.
type common struct {
	logFormat  string
	quiet      bool
	threads    int
	cpuProfile string
}

func addCommon(flags *pflag.FlagSet) *common {
	c := &common{}
	EnumVar(flags, &c.logFormat, "log-format", "text", "log format on stderr", "text", "json")
	flags.BoolVar(&c.quiet, "quiet", false, "log only warnings and show no progress")
	NumberVar(flags, &c.threads, "threads", 0, 0, limits.Threads, "number of threads (0: one per core)")
	flags.StringVar(&c.cpuProfile, "cpuprofile", "", "write a CPU profile to `FILE`")
	cobra.CheckErr(flags.MarkHidden("cpuprofile"))
	return c
}

// apply applies the flags; end undoes what must be undone.
func (c *common) apply(stderr io.Writer) (end func() error, err error) {
	setLogger(stderr, c.logFormat, c.quiet)
	threads := runtime.GOMAXPROCS(0)
	if c.threads > 0 {
		runtime.GOMAXPROCS(c.threads)
	}
	stopProfile, err := c.startProfile()
	return func() error {
		runtime.GOMAXPROCS(threads)
		return stopProfile()
	}, err
}

// startProfile writes a CPU profile until stop is called.
func (c *common) startProfile() (stop func() error, err error) {
	if c.cpuProfile == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(c.cpuProfile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		file.Close()
		return nil, err
	}
	return func() error { pprof.StopCPUProfile(); return file.Close() }, nil
}

// Args checks positional arguments by name, as in Use: Args("INPUT") requires exactly one, Args("[RUN]") at most one,
// Args("MODEL...") one or more. A missing or extra argument is a UsageError that names it.
func Args(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		for i, name := range names {
			if i >= len(args) && !strings.HasPrefix(name, "[") {
				return Usagef("%s is missing", strings.TrimSuffix(name, "..."))
			}
		}
		open := len(names) > 0 && strings.HasSuffix(strings.TrimSuffix(names[len(names)-1], "]"), "...")
		if len(args) > len(names) && !open {
			return Usagef("unexpected argument %q", Shorten(args[len(names)]))
		}
		return nil
	}
}

// EnumVar defines a flag whose value is one of allowed. Any other value is a
// UsageError that lists them.
func EnumVar(flags *pflag.FlagSet, p *string, name, value, usage string, allowed ...string) {
	CheckedVar(flags, p, name, value, usage+": "+orList(allowed), func(s string) error {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("want %s", orList(allowed))
		}
		return nil
	})
}

// CheckedVar defines a flag whose value must pass a check, whose error becomes a UsageError.
func CheckedVar(flags *pflag.FlagSet, p *string, name, value, usage string, check func(string) error) {
	*p = value
	flags.Var(&checked{p, check}, name, usage)
}

type checked struct {
	value *string
	check func(string) error
}

func (c *checked) String() string {
	if c.value == nil { // pflag calls this on a zero value to decide whether to show a default
		return ""
	}
	return *c.value
}

func (c *checked) Type() string { return "string" }

func (c *checked) Set(s string) error {
	if err := c.check(s); err != nil {
		return UsageError{Err: err}
	}
	*c.value = s
	return nil
}
