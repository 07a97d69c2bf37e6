package data

import (
	"math/rand/v2"
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
		for _, w := range s.Batch(e, s.corpora[0].windows) {
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

// A batch does not depend on what was drawn before it, and differs for another seed.
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

// The shares of all ranks are the batch, in order.
func TestShares(t *testing.T) {
	s, err := NewSampler(count(1000), 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	for step := range 30 {
		for _, world := range []int{1, 2, 3, 8} {
			var all [][]int32
			for rank := range world {
				share := s.Share(step, 8, rank, world)
				if len(share) != 8/world && len(share) != 8/world+1 {
					t.Fatalf("rank %d of %d has %d of 8 windows", rank, world, len(share))
				}
				all = append(all, share...)
			}
			if !slices.EqualFunc(all, s.Batch(step, 8), slices.Equal) {
				t.Fatalf("step %d: %d ranks read %v", step, world, all)
			}
		}
	}
}

// A mixture draws from each corpus in the order of that corpus, and by weight at any time.
func TestMixture(t *testing.T) {
	corpora := []Component{{&Tokens{Name: "a", IDs: count(100)}, 3}, {&Tokens{Name: "b", IDs: count(5000)[1000:]}, 1}, {&Tokens{Name: "c", IDs: count(9000)[5000:]}, 0.5}}
	s, err := NewMixture(corpora, 10, 7)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewMixture(corpora, 10, 7)
	if err != nil {
		t.Fatal(err)
	}
	n, seen := [3]int{}, [3][][]int32{}
	for i := range 2*period + 50 {
		w := s.draw(i)
		if !slices.Equal(w, again.Batch(i, 1)[0]) {
			t.Fatalf("window %d differs", i)
		}
		of := 0
		for of < 2 && w[0] >= []int32{1000, 5000}[of] {
			of++
		}
		n[of]++
		seen[of] = append(seen[of], w)
		for j, c := range corpora {
			if off := float64(n[j]) - c.Weight/4.5*float64(i+1); off < -3 || off > 3 {
				t.Fatalf("after %d windows %v are drawn, by weights 3, 1 and 0.5", i+1, n)
			}
		}
	}
	for j, c := range corpora {
		alone := s.corpora[j]
		for i, w := range seen[j] {
			if !slices.Equal(w, alone.draw(i)) {
				t.Fatalf("%s: window %d is not its own", c.Name, i)
			}
		}
	}
	for _, c := range []struct {
		with Component
		want string
	}{
		{Component{&Tokens{Name: "d", IDs: count(5)}, 1}, "d: corpus has 5 tokens"},
		{Component{&Tokens{Name: "d", IDs: count(100)}, 1e-5}, "d: weight 1e-05 of 4.5"},
	} {
		if _, err := NewMixture(append(slices.Clip(corpora), c.with), 10, 7); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// Many windows are in a random order without a list of it.
func TestShuffled(t *testing.T) {
	before := mostListed
	mostListed = 0
	defer func() { mostListed = before }()
	for _, n := range []int{1, 2, 3, 17, 256, 1000, 4097} {
		order := shuffled(rand.New(rand.NewPCG(1, 2)), n)
		seen, kept := make([]bool, n), 0
		for i := range n {
			at := order(i)
			if at < 0 || at >= n || seen[at] {
				t.Fatalf("of %d windows, number %d is %d", n, i, at)
			}
			seen[at] = true
			if i > 0 && at == order(i-1)+1 {
				kept++
			}
		}
		if n > 100 && kept > 8 {
			t.Errorf("%d of %d windows follow the one before them", kept, n)
		}
	}
}
