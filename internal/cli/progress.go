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

// Progress shows the progress of a long operation on one line of a terminal. It redraws the line at least once a
// second, even without progress. A nil Progress is valid and shows nothing. Its methods may be called concurrently.
type Progress struct {
	w       io.Writer
	total   int64 // 0 or less: unknown
	bytes   bool
	began   time.Time
	bar     *progressbar.ProgressBar // draws into drawing, from which the part that fits is taken
	drawing *bytes.Buffer

	mu    sync.Mutex
	what  func() string
	done  int64
	start int64 // part of done that was done before
	drawn time.Time

	stop  chan struct{}
	ended sync.WaitGroup
}

const (
	redraw  = 500 * time.Millisecond // interval of its own clock
	between = 100 * time.Millisecond // minimum interval between two drawings
)

// progressOn returns a progress line on w for total steps (or bytes) of what. If w is not a terminal, nothing is ever
// written. A total of 0 or less means unknown.
func progressOn(w io.Writer, total int64, what string, ofBytes bool) *Progress {
	if !isTerminal(w) {
		return nil
	}
	return newBar(w, total, what, ofBytes)
}

// CommandProgress returns a progress line on cmd's standard error; it shows nothing
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

// tick redraws until the work is done.
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

// Add reports that n more steps or bytes are done.
func (p *Progress) Add(n int64) {
	if p != nil {
		p.update(func() { p.done += n })
	}
}

// Skip reports that n steps or bytes were already done before: they are not used to estimate the remaining time.
func (p *Progress) Skip(n int64) {
	if p != nil {
		p.update(func() { p.start, p.done = p.start+n, p.done+n })
	}
}

// Write counts len(b) bytes, so that a Progress can be used in an io.MultiWriter.
func (p *Progress) Write(b []byte) (int, error) {
	p.Add(int64(len(b)))
	return len(b), nil
}

// Describe replaces the description beside the bar.
func (p *Progress) Describe(what string) {
	if p != nil {
		p.update(func() { p.what = func() string { return what } })
	}
}

// DescribeBy is like Describe with a description that changes over time: what is called whenever the line is drawn, the
// first time immediately.
func (p *Progress) DescribeBy(what func() string) {
	if p != nil {
		p.update(func() { p.what, p.drawn = what, time.Time{} })
	}
}

// Done removes the line, even if the work is not complete.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	p.mu.Lock()
	select {
	case <-p.stop: // already done
	default:
		close(p.stop)
		fmt.Fprint(p.w, eraseLine)
	}
	p.mu.Unlock()
	p.ended.Wait()
}

// update changes p and redraws it, unless it has just been drawn.
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
	_, _ = io.WriteString(p.w, eraseLine+clip(p.line(now), lineWidth(p.w)-1)) // failure to draw a bar must not stop the work
}

// line returns the text on the terminal: the description, the amount done, the elapsed and the remaining time.
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

// draw returns the description with the bar.
func (p *Progress) draw() string {
	_ = p.bar.Set64(min(p.done, p.total)) // writing to a buffer cannot fail
	p.drawing.Reset()
	p.bar.Describe(p.what())
	text := p.drawing.String()
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\r')+1:])
}

// amount returns the amount done and the total, and for bytes the rate.
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

// clip truncates a line to the terminal's width: text that wraps cannot be erased.
func clip(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}

// lineWidth returns the width of w in columns.
func lineWidth(w io.Writer) int {
	if columns, ok := columnsOf(w); ok {
		return columns
	}
	return 80
}

// columnsOf returns the width of w in columns; ok is false if it is not a terminal.
func columnsOf(w io.Writer) (columns int, ok bool) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	columns, _, err := term.GetSize(int(file.Fd()))
	return columns, err == nil && columns > 0
}
