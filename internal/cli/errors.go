package cli

import (
	"errors"
	"fmt"
	"strings"
)

// UsageError says that a command was called wrongly: exit status 2.
type UsageError struct{ Err error }

// Usagef formats a UsageError; %w wraps as in fmt.Errorf.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// IsUsage tells whether err is, or wraps, a UsageError.
func IsUsage(err error) bool {
	var usage UsageError
	return errors.As(err, &usage)
}

// Error is the message of the wrapped error.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e UsageError) Unwrap() error { return e.Err }

// oneLine folds the lines of a message into one, blank lines dropped.
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

// separator is what joins another line to the text before it.
func separator(before string) string {
	switch {
	case before == "":
		return ""
	case strings.ContainsAny(before[len(before)-1:], ":;,.?!"):
		return " "
	}
	return "; "
}

// orList writes names as a choice: "a", "a or b", "a, b or c".
func orList(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
