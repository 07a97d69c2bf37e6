package data

import (
	"slices"
	"strings"
	"testing"
)

func count(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i)
	}
	return ids
}

func TestWindows(t *testing.T) {
	for _, c := range []struct{ ids, window, want int }{{10, 3, 3}, {9, 3, 3}, {3, 3, 1}, {5, 1, 5}} {
		if got, err := Windows(count(c.ids), c.window); got != c.want || err != nil {
			t.Errorf("Windows(%d ids, %d) = %d, %v, want %d", c.ids, c.window, got, err, c.want)
		}
	}
	if _, err := Windows(count(2), 3); err == nil || !strings.Contains(err.Error(), "2 tokens") {
		t.Errorf("2 ids in windows of 3: error %v, want one that counts them", err)
	}
	if _, err := NewSampler(count(2), 0, 1); err == nil {
		t.Error("a window of 0 tokens: no error")
	}
}

// In an epoch each window comes once: whole, apart from the others, and not at
// the same place or in the same order as in the epoch before.
func TestSamplerEpochs(t *testing.T) {
	s, err := NewSampler(count(107), 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	phases, orders := map[int32]bool{}, map[int32]bool{}
	for e := range 20 {
		var starts []int32
		for _, w := range s.Batch(e, s.windows) {
			if len(w) != 10 || w[9] != w[0]+9 {
				t.Fatalf("epoch %d: window %v", e, w)
			}
			starts = append(starts, w[0])
		}
		orders[starts[0]/10] = true
		slices.Sort(starts)
		for i, start := range starts {
			if start != starts[0]+int32(10*i) {
				t.Fatalf("epoch %d: windows at %v", e, starts)
			}
		}
		phases[starts[0]] = true
	}
	if len(phases) < 4 || len(orders) < 4 {
		t.Errorf("20 epochs start at %d tokens and with %d windows: too few", len(phases), len(orders))
	}
}

// A batch is the same whatever was drawn before it, and another with another seed.
func TestSamplerResumes(t *testing.T) {
	draw := func(seed uint64, from int) (all []int32) {
		s, err := NewSampler(count(1000), 7, seed)
		if err != nil {
			t.Fatal(err)
		}
		for step := from; step < 100; step++ {
			for _, w := range s.Batch(step, 6) { // 142 windows: batches cross epochs
				all = append(all, w...)
			}
		}
		return all
	}
	whole := draw(3, 0)
	for _, from := range []int{1, 23, 24, 99} {
		if got := draw(3, from); !slices.Equal(got, whole[from*42:]) {
			t.Errorf("resumed at step %d: other batches", from)
		}
	}
	if slices.Equal(draw(4, 0), whole) {
		t.Error("seeds 3 and 4 draw the same batches")
	}
}

// The order must not change between releases: a run may be resumed by another.
func TestSamplerOrderIsFixed(t *testing.T) {
	s, err := NewSampler(count(11), 2, 42)
	if err != nil {
		t.Fatal(err)
	}
	var got []int32
	for _, w := range s.Batch(0, 10) {
		got = append(got, w[0])
	}
	if want := []int32{5, 3, 1, 7, 9, 9, 7, 3, 1, 5}; !slices.Equal(got, want) {
		t.Errorf("windows start at %v, want %v", got, want)
	}
}
