package cli

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// Progress shows how far a long piece of work has come. The nil Progress is
// legal and shows nothing. Its methods may be called from several goroutines.
type Progress struct{ bar *progressbar.ProgressBar }

// NewProgress draws a bar for total steps (or bytes) of what on w, if w is a
// terminal; otherwise nothing is ever written. A total below 0 is unknown.
func NewProgress(w io.Writer, total int64, what string, bytes bool) *Progress {
	if !IsTerminal(w) {
		return nil
	}
	return newBar(w, total, what, bytes)
}

// CommandProgress is NewProgress on cmd's standard error; it shows nothing
// under --quiet or --log-format json.
func CommandProgress(cmd *cobra.Command, total int64, what string, bytes bool) *Progress {
	quiet, _ := cmd.Flags().GetBool("quiet")
	if format := cmd.Flag("log-format"); quiet || format != nil && format.Value.String() == "json" {
		return nil
	}
	return NewProgress(cmd.ErrOrStderr(), total, what, bytes)
}

func newBar(w io.Writer, total int64, what string, bytes bool) *Progress {
	return &Progress{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(bytes),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(24),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)}
}

// Add says that n more steps or bytes are done.
func (p *Progress) Add(n int64) {
	if p != nil {
		_ = p.bar.Add64(n) // a bar that cannot be drawn must not stop the work
	}
}

// Write counts len(b) bytes, so that a Progress can stand in an io.MultiWriter.
func (p *Progress) Write(b []byte) (int, error) {
	p.Add(int64(len(b)))
	return len(b), nil
}

// Describe replaces the words beside the bar.
func (p *Progress) Describe(what string) {
	if p != nil {
		p.bar.Describe(what)
	}
}

// Done removes the bar, however far it came.
func (p *Progress) Done() {
	if p != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
}
