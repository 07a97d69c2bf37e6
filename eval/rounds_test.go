package eval

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestRoundsInterval holds the numbers left out to tables of the sign test, and the intervals to their probability.
func TestRoundsInterval(t *testing.T) {
	for n, out := range map[int]int{1: 0, 5: 0, 6: 0, 8: 0, 9: 1, 11: 1, 12: 2, 15: 3, 20: 5, 25: 7, 100: 39} {
		if got := outside(n); got != out {
			t.Errorf("of %d rounds %d are left out on each side, want %d", n, got, out)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{6, 9, 30} {
		const times = 4000
		inside := 0
		for range times {
			x := make(Rounds, n)
			for i := range x {
				x[i] = math.Exp(r.NormFloat64()) // median 1, far from symmetric
			}
			if low, high := x.Interval(); low <= 1 && 1 <= high {
				inside++
			}
		}
		if share := float64(inside) / times; share < 0.945 {
			t.Errorf("%d rounds: the median is in %.1f%% of the intervals, want 95%%", n, 100*share)
		}
	}
}

// Load that slows down whole rounds leaves the ratios as they are.
func TestFaster(t *testing.T) {
	base, half, same := Rounds{}, Rounds{}, Rounds{}
	r := rand.New(rand.NewPCG(1, 2))
	for range 9 {
		load := 1 + 10*r.Float64()
		noise := func() float64 { return load * (1 + 0.02*r.NormFloat64()) }
		base, half, same = append(base, 4*noise()), append(half, 2*noise()), append(same, 4*noise())
	}
	if x := half.Faster(base); !x.Resolved || !near(x.Value, 2, 0.1) || x.Low > x.Value || x.High < x.Value || x.Low < 1.8 {
		t.Errorf("half the time is %+v", x)
	}
	if x := base.Faster(half); !x.Resolved || !near(x.Value, 0.5, 0.05) {
		t.Errorf("twice the time is %+v", x)
	}
	if x := same.Faster(base); x.Resolved || x.String() != "within noise" {
		t.Errorf("the same time is %+v", x)
	}
}

// TestTimeInTurn counts runs: everything is run in each round, in turn, and the first runs of a round do not count.
func TestTimeInTurn(t *testing.T) { synctest.Test(t, timeInTurnTest) } // by a clock that only sleeping moves

func timeInTurnTest(t *testing.T) {
	var order []int
	var rounds [2]Rounds
	var all []*timed
	for i := range 2 {
		runs := 0
		all = append(all, &timed{warm: 1 + i, share: 1, rounds: &rounds[i], run: func() error {
			order = append(order, i)
			if runs++; (runs-1)%(2+i) < 1+i {
				time.Sleep(5 * time.Millisecond)
			}
			return nil
		}})
	}
	if err := timeInTurn(t.Context(), all, Timing{Rounds: 3, Seconds: 1e-12}); err != nil {
		t.Fatal(err)
	}
	if want := slices.Repeat([]int{0, 0, 1, 1, 1}, 3); !slices.Equal(order, want) {
		t.Errorf("runs of %v, want %v", order, want)
	}
	for i, r := range rounds {
		if len(r) != 3 || !(r.Median() > 0 && r.Median() < 0.001) {
			t.Errorf("rounds of %d: %v ms, want three without the runs before", i, r)
		}
	}
	failed := errors.New("failed")
	all[1].run = func() error { return failed }
	if err := timeInTurn(t.Context(), all, Timing{Rounds: 3, Seconds: 1}); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
}

func TestLoadNotes(t *testing.T) {
	stat := func(user, idle, steal string) string {
		return "cpu  " + user + " 0 0 " + idle + " 0 0 0 " + steal + " 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	}
	self := func(user string) string {
		return "17 (a name) R 1 1 1 0 -1 4194304 100 0 0 0 " + user + " 0 0 0 20 0 1 0 51240\n"
	}
	before := parseCPUTimes(stat("1000", "500", "7"), self("300"))
	for _, c := range []struct {
		after cpuTimes
		want  []string
		load  float64
	}{
		{parseCPUTimes(stat("1100", "600", "7"), self("395")), nil, 0.025},
		{parseCPUTimes(stat("1100", "600", "7"), self("340")), []string{"other processes used 30% of the processors' time"}, 0.3},
		{parseCPUTimes(stat("1100", "580", "27"), self("400")), []string{"other virtual machines took 10% of the processors' time (steal)"}, 0.1},
		{before, nil, 0},
		{parseCPUTimes("", self("400")), nil, 0},
		{parseCPUTimes("intr 1 2", self("400")), nil, 0},
		{parseCPUTimes(stat("1100", "600", "7"), "17 (a"), nil, 0},
	} {
		if got := loadNotes(before, c.after); !slices.Equal(got, c.want) {
			t.Errorf("%+v: notes %q, want %q", c.after, got, c.want)
		}
		if got := load(before, c.after); got != c.load {
			t.Errorf("%+v: load %v, want %v", c.after, got, c.load)
		}
	}
	calm, wide := Rounds{1, 1, 1, 1, 1, 1}, Rounds{1, 2, 1, 2, 1, 2}
	if got := spreadNotes([]*timed{{rounds: &calm}}); got != nil {
		t.Errorf("notes %q on equal times", got)
	}
	if got := spreadNotes([]*timed{{rounds: &calm}, {rounds: &wide}}); len(got) != 1 {
		t.Errorf("notes %q on times that vary", got)
	}
}
