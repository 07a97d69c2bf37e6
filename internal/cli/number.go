package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// number is what a flag with a range may hold.
type number interface{ int | int64 | float64 }

// NumberVar defines a flag whose value is a number from lo to hi. Any other value is a UsageError that gives the range; the help
// gives it too unless it is so wide that it says nothing.
func NumberVar[T number](flags *pflag.FlagSet, p *T, name string, value, lo, hi T, usage string) {
	NumberVarP(flags, p, name, "", value, lo, hi, usage)
}

// NumberVarP is NumberVar for a flag with a shorthand.
func NumberVarP[T number](flags *pflag.FlagSet, p *T, name, shorthand string, value, lo, hi T, usage string) {
	*p = value
	r := &ranged[T]{value: p, lo: lo, hi: hi}
	if float64(hi) <= widest {
		usage += " [" + r.span() + "]"
	}
	flags.VarP(r, name, shorthand, usage)
}

// widest is the end of the widest range that a help text gives.
const widest = 1 << 16

// ranged is the value of a flag that holds a number within a range.
type ranged[T number] struct {
	value  *T
	lo, hi T
}

// span is the range in words.
func (r *ranged[T]) span() string { return plain(r.lo) + " to " + plain(r.hi) }

// plain writes a number without an exponent.
func plain[T number](x T) string {
	if f, ok := any(x).(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(x)
}

func (r *ranged[T]) String() string {
	if r.value == nil { // pflag asks a zero value whether a default is worth showing
		return ""
	}
	return fmt.Sprint(*r.value)
}

func (r *ranged[T]) Type() string { return strings.TrimRight(fmt.Sprintf("%T", r.lo), "0123456789") }

func (r *ranged[T]) Set(s string) error {
	x, err := parse[T](s)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return err
	case err != nil || !(x >= r.lo && x <= r.hi): // NaN too
		return Usagef("want %s", r.span())
	}
	*r.value = x
	return nil
}

// parse reads a number as strconv does.
func parse[T number](s string) (x T, err error) {
	switch p := any(&x).(type) {
	case *int:
		*p, err = strconv.Atoi(s)
	case *int64:
		*p, err = strconv.ParseInt(s, 10, 64)
	case *float64:
		*p, err = strconv.ParseFloat(s, 64)
	}
	return x, err
}
