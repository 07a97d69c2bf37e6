package convert

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestPool(t *testing.T) {
	third := float32(5) / 3
	for name, c := range map[string]struct {
		method        Method
		heads         []float32
		count, groups int
		bias          bool
		want          []float32
	}{
		"mean of pairs":        {Mean, []float32{1, 2, 3, 4, 5, 6, 7, 9}, 4, 2, false, []float32{2, 3, 6, 7.5}},
		"mean of all":          {Mean, []float32{1, 2, 3, 4, 5, 6, 7, 9}, 4, 1, false, []float32{4, 5.25}},
		"mean of three":        {Mean, []float32{1, 2, 3, 10, 20, 30, -2, -8, 0, 1, 0, 0, 2, 0, 0, 2, 9, 6}, 6, 2, false, []float32{3, 14. / 3, 11, third, 3, 2}},
		"mean of a bias":       {Mean, []float32{1, 2, 3, 6, 5, 4}, 6, 3, true, []float32{1.5, 4.5, 4.5}},
		"mean, odd head size":  {Mean, []float32{1, 2, 3, 4, 5, 3, 4, 5, 6, 7}, 2, 1, false, []float32{2, 3, 4, 5, 6}},
		"nothing to pool":      {Mean, []float32{1, 2, 3}, 3, 3, false, []float32{1, 2, 3}},
		"first":                {First, []float32{1, 2, 3, 4, 5, 6, 7, 9}, 4, 2, false, []float32{1, 2, 5, 6}},
		"first of three":       {First, []float32{1, 2, 3, 4, 5, 6}, 6, 2, true, []float32{1, 4}},
		"random bias":          {Random, []float32{1, 2, 3, 4}, 4, 2, true, []float32{0, 0}},
		"random, all alike":    {Random, []float32{3, 3, 3, 3}, 4, 2, false, []float32{0, 0}},
		"summed in order":      {Mean, []float32{1e8, -1e8, 1, 1, 1e8, -1e8}, 6, 2, false, []float32{float32(1) / 3, 0}},
		"infinity stays":       {Mean, []float32{float32(math.Inf(1)), 1, 2, 3}, 2, 1, false, []float32{float32(math.Inf(1)), 2}},
		"no overflow in order": {Mean, []float32{3e38, -3e38, 3e38, 3e38}, 4, 2, false, []float32{0, float32(math.Inf(1))}},
	} {
		t.Run(name, func(t *testing.T) {
			given := slices.Clone(c.heads)
			if got := pool(c.method, c.heads, c.count, c.groups, c.bias, name, 7); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if !slices.Equal(c.heads, given) {
				t.Errorf("the heads turned to %v", c.heads)
			}
		})
	}
}

// TestPoolRandom checks the deviation and mean of the random numbers, and what determines them.
func TestPoolRandom(t *testing.T) {
	heads := make([]float32, 40000)
	for i := range heads {
		heads[i] = 3 * float32(i%2*2-1) // deviation 3
	}
	draw := func(name string, seed uint64) []float32 { return pool(Random, heads, 8, 4, false, name, seed) }
	a := draw("layers.0.k.weight", 1)
	if d := deviation(a); len(a) != 20000 || math.Abs(d-3) > 0.06 {
		t.Errorf("%d values with deviation %v, want 20000 with 3", len(a), d)
	}
	var sum float64
	for _, x := range a {
		sum += float64(x)
	}
	if mean := sum / 20000; math.Abs(mean) > 0.09 {
		t.Errorf("mean %v, want 0", mean)
	}
	if !slices.Equal(a, draw("layers.0.k.weight", 1)) {
		t.Error("the same seed and name draw other values")
	}
	if slices.Equal(a, draw("layers.0.k.weight", 2)) || slices.Equal(a, draw("layers.0.v.weight", 1)) {
		t.Error("another seed or name draws the same values")
	}
}

// TestPoolWith converts with a function that takes the second member, and checks that conflicting options are an error.
func TestPoolWith(t *testing.T) {
	second := func(dst []float32, members [][]float32) { copy(dst, members[1]) }
	heads := []float32{1, 2, 3, 4, 5, 6, 7, 8}
	if got := poolWith(second, heads, 4, 2); !slices.Equal(got, []float32{3, 4, 7, 8}) {
		t.Errorf("second members are %v", got)
	}
	if got := poolWith(second, heads, 4, 4); !slices.Equal(got, heads) {
		t.Errorf("heads that stay are %v", got)
	}
	for name, o := range map[string]Options{
		"the name of another":     {Method: Mean, Pool: second},
		"no name":                 {Pool: second},
		"cannot be combined":      {Method: "second", Pool: second, Grouping: Similar},
		`method "second" is unkn`: {Method: "second"},
	} {
		err := o.withDefaults().checkChoices()
		if err == nil {
			err = o.withDefaults().checkMerge()
		}
		if want := strings.TrimPrefix(name, "no "); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
