package sweep

import (
	"testing"
	"time"
)

func TestForecast(t *testing.T) {
	mean, other := Point{Curve: Curve{Method: "mean"}}, Point{Curve: Curve{Method: "align"}}
	trained, otherTrained := mean, other
	trained.Recipe.Steps, otherTrained.Recipe.Steps = 4, 4
	f := newForecast([]Point{mean, mean, trained, other, otherTrained})
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	want := func(seconds, left int) {
		t.Helper()
		got, ok := f.left(at(seconds))
		if ok != (left >= 0) || ok && got != time.Duration(left)*time.Second {
			t.Errorf("after %d s: %v, %v; want %d s", seconds, got, ok, left)
		}
	}
	f.next(at(0), true)
	want(1, -1)
	f.next(at(10), false)
	want(12, -1) // the time of an up-training is not known
	f.next(at(20), false)
	want(25, -1)
	f.step(4)
	want(40, 60+10+80) // a quarter is done in 20 s; the other conversion takes as long as these did
	f.next(at(100), false)
	want(100, 10+80)
	f.next(at(140), false)
	want(150, 70)
	want(300, 0) // longer than estimated
	f.next(at(301), false)
	want(301, 0)
}
