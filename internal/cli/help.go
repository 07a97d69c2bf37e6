package cli

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wrapHelp wraps the help of root and of the commands below it at width columns.
func wrapHelp(root *cobra.Command, width int) {
	cobra.AddTemplateFunc("fill", func(text string) string { return fill(text, width) })
	cobra.AddTemplateFunc("line", func(line string) string { return breakLine(line, width) })
	cobra.AddTemplateFunc("flags", func(f *pflag.FlagSet) string { return f.FlagUsagesWrapped(width) })
	root.SetHelpTemplate(strings.Replace(root.HelpTemplate(), "{{. | trimTrailingWhitespaces}}", "{{fill .}}", 1))
	root.SetUsageTemplate(strings.NewReplacer(
		".LocalFlags.FlagUsages", "flags .LocalFlags",
		".InheritedFlags.FlagUsages", "flags .InheritedFlags",
		"  {{rpad .Name .NamePadding }} {{.Short}}", `{{line (printf "  %s  %s" (rpad .Name .NamePadding) .Short)}}`,
		`Use "{{.CommandPath}} [command] --help" for more information about a command.`,
		`{{line (printf "Use \"%s [command] --help\" for more information about a command." .CommandPath)}}`,
	).Replace(root.UsageTemplate()))
}

// helpWidth returns the width of a help text in columns: that of the first output that is a terminal, else $COLUMNS,
// else 80; but at most 100, since longer lines are hard to read. Cobra renders into a buffer, so the outputs of a command do not tell.
func helpWidth(outputs ...io.Writer) int {
	const usual, least, most = 80, 40, 100
	for _, w := range outputs {
		if columns, ok := columnsOf(w); ok {
			return min(max(columns, least), most)
		}
	}
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		return min(max(columns, least), most)
	}
	return usual
}

// fill rewraps a text so that no line is longer than width. Indented lines are not joined, except those that continue
// the second column of the line before.
func fill(text string, width int) string {
	var lines []string
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		line = strings.TrimRight(line, " \n")
		if last := len(lines) - 1; last >= 0 && continues(lines[last], line) {
			lines[last] += " " + strings.TrimLeft(line, " ")
			continue
		}
		lines = append(lines, line)
	}
	for i, line := range lines {
		lines[i] = breakLine(line, width)
	}
	return strings.Join(lines, "\n")
}

// continues reports whether line continues the paragraph or column at the end of the line before.
func continues(before, line string) bool {
	if before == "" || line == "" {
		return false
	}
	return indentation(line) == column(before)
}

// breakLine breaks a line at spaces so that no part is longer than width. Continuation lines are indented to the line's
// last column.
func breakLine(line string, width int) string {
	hang := column(line)
	if hang > width/2 {
		hang = indentation(line) + 4
	}
	var out strings.Builder
	at := 0 // columns of the current line
	for i, word := range strings.Split(line, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width && at > hang:
			if word == "" {
				continue
			}
			out.WriteString("\n" + strings.Repeat(" ", hang))
			at = hang
		default:
			out.WriteString(" ")
			at++
		}
		out.WriteString(word)
		at += n
	}
	return out.String()
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// column returns the start of the last column of a line: after two or more spaces, or else after its indentation.
func column(line string) int {
	start := indentation(line)
	if i := strings.LastIndex(line[start:], "  "); i >= 0 {
		return utf8.RuneCountInString(line[:start+i+2])
	}
	return start
}
