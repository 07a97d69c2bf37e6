package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// number is the type of a flag with a range.
type number interface{ int | int64 | float64 }

// NumberVar defines a flag whose value is a number from lo to hi. Any other value is a UsageError that states the
// range. So does the help, unless the range is too wide to be informative.
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

// widest is the upper end of the widest range stated in a help text.
const widest = 1 << 16

// ranged is a flag value: a number within a range.
type ranged[T number] struct {
	value  *T
	lo, hi T
}

// span returns the range in words.
func (r *ranged[T]) span() string { return plain(r.lo) + " to " + plain(r.hi) }

// plain formats a number without an exponent.
func plain[T number](x T) string {
	if f, ok := any(x).(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(x)
}

func (r *ranged[T]) String() string {
	if r.value == nil { // pflag calls this on a zero value to decide whether to show a default
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
	case err != nil || !(x >= r.lo && x <= r.hi): // also catches NaN
		return Usagef("want %s", r.span())
	}
	*r.value = x
	return nil
}

// parse parses a number as strconv does.
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

// NumbersVar is like NumberVar for a list of numbers, separated by commas, without duplicates.
func NumbersVar[T number](flags *pflag.FlagSet, p *[]T, name string, value []T, lo, hi T, usage string) {
	var one ranged[T]
	*p, one.lo, one.hi = value, lo, hi
	if float64(hi) <= widest {
		usage += " [" + one.span() + "]"
	}
	flags.Var(&list[T]{value: p, parse: func(s string) (x T, err error) {
		r := ranged[T]{value: &x, lo: lo, hi: hi}
		return x, r.Set(s)
	}}, name, usage+", separated by commas")
}

// EnumsVar is like EnumVar for a list of values, separated by commas, without duplicates.
func EnumsVar(flags *pflag.FlagSet, p *[]string, name string, value []string, usage string, allowed ...string) {
	*p = value
	flags.Var(&list[string]{value: p, parse: func(s string) (string, error) {
		if !slices.Contains(allowed, s) {
			return "", Usagef("want %s", orList(allowed))
		}
		return s, nil
	}}, name, usage+", separated by commas: "+orList(allowed))
}

// list is the value of a flag with several values, the last of which replaces the former.
type list[T comparable] struct {
	value *[]T
	parse func(string) (T, error)
}

func (l *list[T]) String() string {
	if l.value == nil { // pflag calls this on a zero value to decide whether to show a default
		return ""
	}
	var all []string
	for _, x := range *l.value {
		all = append(all, fmt.Sprint(x))
	}
	return strings.Join(all, ",")
}

func (l *list[T]) Type() string { return "list" }

func (l *list[T]) Set(s string) error {
	var all []T
	for field := range strings.SplitSeq(s, ",") {
		x, err := l.parse(field)
		if err != nil {
			return err
		}
		if slices.Contains(all, x) {
			return Usagef("%v is there twice", x)
		}
		all = append(all, x)
	}
	*l.value = all
	return nil
}
