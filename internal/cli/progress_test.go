package cli

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgressIsSilentOffTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := progressOn(file, 10, "steps", false)
	p.Add(4)
	p.Describe("more")
	p.Done()
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes drawn into a file, %v", info.Size(), err)
	}
}

func TestProgressDrawsAndClears(t *testing.T) {
	var out bytes.Buffer
	p := newBar(&out, 8, "writing", true)
	if n, err := io.Copy(p, strings.NewReader("12345678")); n != 8 || err != nil {
		t.Fatalf("copied %d, %v", n, err)
	}
	p.Done()
	p.Done()
	p.Add(1)
	if got := out.String(); !strings.Contains(got, "writing") || strings.Contains(got, "\n") || !strings.HasSuffix(got, eraseLine) {
		t.Errorf("drawn: %q", got)
	}
}

// The line is drawn by its own clock while nothing is done, and what it says may change with time.
func TestProgressTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newBar(&out, 4, "", false)
		p.Add(1)
		began := time.Now()
		p.DescribeBy(func() string { return "since " + time.Since(began).String() })
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		p.Done()
		if n := strings.Count(out.String(), eraseLine); n < 20 {
			t.Errorf("drawn %d times in 10 s", n)
		}
		if want := "since 10s  25% |█████               | 1/4 [10s, 30s left]"; !strings.Contains(out.String(), want) {
			t.Errorf("drawn: %q, want %q", out.String(), want)
		}
	})
}

func TestProgressLine(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, test := range []struct {
		p     *Progress
		after time.Duration
		want  string
	}{
		{&Progress{total: 8}, 0, "x   0% |                    | 0/8 [0s]"},
		{&Progress{total: 8, done: 2}, 90 * time.Second, "x  25% |█████               | 2/8 [1m30s, 4m30s left]"},
		{&Progress{total: 8, done: 6, start: 4}, 10 * time.Second, "x  75% |███████████████     | 6/8 [10s, 10s left]"},
		{&Progress{total: 8, done: 8}, time.Second, "x 100% |████████████████████| 8/8 [1s]"},
		{&Progress{total: 8, done: 9}, time.Second, "x 100% |████████████████████| 9/8 [1s]"},
		{&Progress{done: 3}, time.Minute, "x [1m0s]"},
		{&Progress{total: 3e9, done: 1.5e9, bytes: true}, 10 * time.Second, "x  50% |██████████          | 1.5/3.0 GB, 150 MB/s [10s, 10s left]"},
	} {
		p := newProgress(io.Discard, test.p.total, test.p.bytes)
		p.done, p.start, p.what, p.began = test.p.done, test.p.start, func() string { return "x" }, now.Add(-test.after)
		if got := p.line(now); got != test.want {
			t.Errorf("got  %q\nwant %q", got, test.want)
		}
	}
	if got := clip("█████", 3); got != "███" {
		t.Errorf("clipped to %q", got)
	}
}
