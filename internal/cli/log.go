package cli

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// setLogger makes slog write to w in the given format; quiet suppresses all but warnings.
func setLogger(w io.Writer, format string, quiet bool) {
	options := &slog.HandlerOptions{}
	if quiet {
		options.Level = slog.LevelWarn
	}
	if format == "json" {
		slog.SetDefault(slog.New(slog.NewJSONHandler(w, options)))
		return
	}
	if isTerminal(w) {
		w = overBar{w}
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(w, options)))
}

// overBar writes each log line over a progress bar that may occupy the current line.
type overBar struct{ w io.Writer }

const eraseLine = "\r\x1b[K"

func (o overBar) Write(p []byte) (int, error) {
	if _, err := io.WriteString(o.w, eraseLine); err != nil {
		return 0, err
	}
	return o.w.Write(p)
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
