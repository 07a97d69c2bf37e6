package cli

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// setLogger makes slog write to w in the given format; quiet keeps warnings only.
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

// overBar writes each log line over a progress bar that may stand on the line.
type overBar struct{ w io.Writer }

const eraseLine = "\r\x1b[K"

func (o overBar) Write(p []byte) (int, error) {
	if _, err := io.WriteString(o.w, eraseLine); err != nil {
		return 0, err
	}
	return o.w.Write(p)
}

// isTerminal tells whether w is a file that a person looks at.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
