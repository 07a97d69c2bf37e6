package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty opens a terminal: what is written to tty is read from master.
func pty(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60})
	}
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { tty.Close() })
	return master, tty
}

// On a terminal the line comes again and again, no wider than that, while nothing is done.
func TestProgressOnTerminal(t *testing.T) {
	master, tty := pty(t)
	p := progressOn(tty, 10, strings.Repeat("long words ", 9), false)
	time.Sleep(2200 * time.Millisecond)
	p.Done()
	got := make([]byte, 1<<16)
	n, err := master.Read(got)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(got[:n]), eraseLine)
	if len(lines) < 4 {
		t.Errorf("drawn %d times in 2.2 s: %q", len(lines), got[:n])
	}
	for _, line := range lines {
		if len(line) > 59 {
			t.Errorf("%d columns of 60: %q", len(line), line)
		}
	}
	if width := lineWidth(tty); width != 60 {
		t.Errorf("%d columns", width)
	}
}

// The help on a terminal is as wide as that, flags and commands too, though cobra renders it into a buffer.
func TestHelpOnTerminal(t *testing.T) {
	t.Setenv("COLUMNS", "120")
	for _, args := range [][]string{{"--help"}, {"work", "--help"}} {
		master, tty := pty(t)
		if status := Run(t.Context(), args, tty, tty, tree()); status != ExitDone {
			t.Fatalf("%v: status %d", args, status)
		}
		got := make([]byte, 1<<16)
		n, err := master.Read(got)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(got[:n])) {
			if line = strings.TrimRight(line, "\r\n"); len(line) > 60 {
				t.Errorf("%v: %d columns of 60: %q", args, len(line), line)
			}
		}
	}
}
