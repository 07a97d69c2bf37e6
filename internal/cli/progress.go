package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Progress shows how far a long piece of work has come, on one line of a terminal that it draws anew at least once a second,
// whether or not anything is done. The nil Progress is legal and shows nothing. Its methods may be called from several
// goroutines.
type Progress struct {
	w       io.Writer
	total   int64 // 0 or below: unknown
	bytes   bool
	began   time.Time
	bar     *progressbar.ProgressBar // draws into drawing, from where a part that fits is taken
	drawing *bytes.Buffer

	mu    sync.Mutex
	what  func() string
	done  int64
	start int64 // of done: what was there before
	drawn time.Time

	stop  chan struct{}
	ended sync.WaitGroup
}

const (
	redraw  = 500 * time.Millisecond // by its own clock
	between = 100 * time.Millisecond // at least, two drawings
)

// progressOn draws a line for total steps (or bytes) of what on w, if w is a
// terminal; otherwise nothing is ever written. A total of 0 or below is unknown.
func progressOn(w io.Writer, total int64, what string, ofBytes bool) *Progress {
	if !isTerminal(w) {
		return nil
	}
	return newBar(w, total, what, ofBytes)
}

// CommandProgress is progressOn cmd's standard error; it shows nothing
// under --quiet or --log-format json.
func CommandProgress(cmd *cobra.Command, total int64, what string, ofBytes bool) *Progress {
	quiet, _ := cmd.Flags().GetBool("quiet")
	if format := cmd.Flag("log-format"); quiet || format != nil && format.Value.String() == "json" {
		return nil
	}
	return progressOn(cmd.ErrOrStderr(), total, what, ofBytes)
}

func newBar(w io.Writer, total int64, what string, ofBytes bool) *Progress {
	p := newProgress(w, total, ofBytes)
	p.Describe(what)
	p.ended.Go(p.tick)
	return p
}

func newProgress(w io.Writer, total int64, ofBytes bool) *Progress {
	drawing := &bytes.Buffer{}
	bar := progressbar.NewOptions64(max(total, 1),
		progressbar.OptionSetWriter(drawing),
		progressbar.OptionSetWidth(20),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetPredictTime(false),
	)
	return &Progress{w: w, total: total, bytes: ofBytes, began: time.Now(), bar: bar, drawing: drawing, stop: make(chan struct{})}
}

// tick draws until the work is done.
func (p *Progress) tick() {
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.update(func() {})
		}
	}
}

// Add says that n more steps or bytes are done.
func (p *Progress) Add(n int64) {
	if p != nil {
		p.update(func() { p.done += n })
	}
}

// Skip says that n steps or bytes were done before: they do not count for how long the rest takes.
func (p *Progress) Skip(n int64) {
	if p != nil {
		p.update(func() { p.start, p.done = p.start+n, p.done+n })
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
		p.update(func() { p.what = func() string { return what } })
	}
}

// DescribeBy is Describe with words that change with time: what is asked whenever the line is drawn, at once for the first time.
func (p *Progress) DescribeBy(what func() string) {
	if p != nil {
		p.update(func() { p.what, p.drawn = what, time.Time{} })
	}
}

// Done removes the line, however far the work came.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	p.mu.Lock()
	select {
	case <-p.stop: // done before
	default:
		close(p.stop)
		fmt.Fprint(p.w, eraseLine)
	}
	p.mu.Unlock()
	p.ended.Wait()
}

// update changes p and draws it, unless that was done just before.
func (p *Progress) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	now := time.Now()
	select {
	case <-p.stop:
		return
	default:
	}
	if now.Sub(p.drawn) < between {
		return
	}
	p.drawn = now
	_, _ = io.WriteString(p.w, eraseLine+clip(p.line(now), lineWidth(p.w)-1)) // a bar that cannot be drawn must not stop the work
}

// line is what stands on the terminal: what is done, how much of it, for how long and how long to go.
func (p *Progress) line(now time.Time) string {
	elapsed := now.Sub(p.began)
	if p.total <= 0 {
		return fmt.Sprintf("%s [%v]", p.what(), elapsed.Truncate(time.Second))
	}
	text := fmt.Sprintf("%s %s [%v", p.draw(), p.amount(elapsed), elapsed.Truncate(time.Second))
	if p.done > p.start && p.done < p.total {
		left := float64(elapsed) * float64(p.total-p.done) / float64(p.done-p.start)
		text += fmt.Sprintf(", %v left", time.Duration(left).Round(time.Second))
	}
	return text + "]"
}

// draw is the words with the bar.
func (p *Progress) draw() string {
	_ = p.bar.Set64(min(p.done, p.total)) // a buffer takes everything
	p.drawing.Reset()
	p.bar.Describe(p.what())
	text := p.drawing.String()
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\r')+1:])
}

// amount is how much is done of how much; of bytes also how fast.
func (p *Progress) amount(elapsed time.Duration) string {
	if !p.bytes {
		return fmt.Sprintf("%d/%d", p.done, p.total)
	}
	unit, size := "MB", 1e6
	if p.total >= 1e9 {
		unit, size = "GB", 1e9
	}
	return fmt.Sprintf("%.1f/%.1f %s, %.0f MB/s", float64(p.done)/size, float64(p.total)/size, unit, float64(p.done)/1e6/max(elapsed.Seconds(), 0.1))
}

// clip cuts a line that would not fit, as what runs over cannot be erased.
func clip(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}

// lineWidth is how many columns w has.
func lineWidth(w io.Writer) int {
	if columns, ok := columnsOf(w); ok {
		return columns
	}
	return 80
}

// columnsOf is how many columns w has; ok is false unless it is a terminal.
func columnsOf(w io.Writer) (columns int, ok bool) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	columns, _, err := term.GetSize(int(file.Fd()))
	return columns, err == nil && columns > 0
}
