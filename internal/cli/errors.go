package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"
)

// UsageError reports that a command was called incorrectly: exit status 2.
type UsageError struct{ Err error }

// Usagef formats a UsageError; %w wraps as in fmt.Errorf.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// IsUsage reports whether err is, or wraps, a UsageError.
func IsUsage(err error) bool {
	var usage UsageError
	return errors.As(err, &usage)
}

// Error returns the message of the wrapped error.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e UsageError) Unwrap() error { return e.Err }

// flagError says what a flag's value should be, where pflag returns the message of a number parser.
func flagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	flag, want := invalid.GetFlag(), ""
	switch kind := flag.Value.Type(); {
	case IsUsage(invalid): // our own flag values already say it
		want = ", " + errors.Unwrap(invalid).Error()
	case errors.Is(err, strconv.ErrRange):
		want = ", which is out of range"
	case kind == "stringSlice":
		want = ", want names separated by commas"
	case kind == "list", strings.HasSuffix(kind, "Slice"): // the parser of a list of names returns a usage error
		want = ", want numbers separated by commas, such as 8,4,2"
	case strings.HasPrefix(kind, "float"):
		want = ", want a number"
	case strings.HasPrefix(kind, "uint"):
		want = ", want a whole number, 0 or more"
	case strings.HasPrefix(kind, "int"):
		want = ", want a whole number"
	case kind == "bool":
		want = ", want true or false"
	default:
		return err
	}
	value := Shorten(invalid.GetValue())
	if _, err := strconv.ParseFloat(value, 64); err != nil || !IsUsage(invalid) {
		value = strconv.Quote(value)
	}
	return fmt.Errorf("--%s is %s%s", flag.Name, value, want)
}

// Shorten shortens user input for quoting in an error.
func Shorten(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// oneLine joins the lines of a message into one, dropping blank lines.
func oneLine(message string) string {
	var out strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(message, "\r", "\n")) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		out.WriteString(separator(out.String()))
		out.WriteString(line)
	}
	return out.String()
}

// separator returns what separates another line from the text before it.
func separator(before string) string {
	switch {
	case before == "":
		return ""
	case strings.ContainsAny(before[len(before)-1:], ":;,.?!"):
		return " "
	}
	return "; "
}

// orList formats names as a choice: "a", "a or b", "a, b or c".
func orList(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Silent is an error that has been reported elsewhere: the command fails without a message.
type Silent struct{ Err error }

// Error returns the message of the wrapped error.
func (e Silent) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e Silent) Unwrap() error { return e.Err }
