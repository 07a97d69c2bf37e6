//go:build cuda && linux

package cuda

import (
	"slices"
	"testing"

	"gqa/internal/device"
)

func TestSplits(t *testing.T) {
	for _, c := range []struct{ blocks, atOnce, keys, cost, want int }{
		{512, 528, 8192, 66, 1},    // they fill the GPU
		{16, 264, 8192, 128, 16},   // so do 16 times as many
		{1, 528, 100, 66, 1},       // too short
		{1, 528, 1 << 20, 66, 256}, // the most
		{0, 528, 100, 66, 1},
	} {
		if got := splits(c.blocks, c.atOnce, c.keys, c.cost); got != c.want {
			t.Errorf("%d blocks of %d at once, %d keys: %d splits, want %d", c.blocks, c.atOnce, c.keys, got, c.want)
		}
	}
}

// Memory that recorded operations use is not handed out again, nor do they overwrite constants.
func TestPoolOfRecording(t *testing.T) {
	p := pool{free: map[uint64][]uintptr{512: {1, 2, 3}}, sizes: map[uintptr]uint64{1: 512, 2: 512, 3: 512}}
	kept := p.record(func() {
		a, _ := p.get(100)
		p.put(a)
		constant, _ := p.getConstant(100)
		p.put(constant)
		again, _ := p.get(100)
		p.put(again)
		if a != again || constant == a {
			t.Errorf("got %d, a constant at %d, and then %d", a, constant, again)
		}
	})
	if slices.Sort(kept); !slices.Equal(kept, []uintptr{2, 3}) || !slices.Equal(p.free[512], []uintptr{1}) {
		t.Errorf("kept %v, free %v", kept, p.free)
	}
}

// TestReplayIsRecorded wants a graph, not operations that are requested again.
func TestReplayIsRecorded(t *testing.T) {
	d := open(t)
	table, y := d.Put([]float32{1, 2, 3, 4}), d.New(device.F32, 2)
	r := &device.Replay{IDs: make([]int32, 2)}
	for i := range 4 {
		r.IDs[0], r.IDs[1] = int32(i), int32(3-i)
		d.Replay(r, func() {
			d.Gather(y, table, r.IDs, 1)
			d.Add(y, y, y)
		})
		if got, want := d.Host(y), []float32{2 * float32(i+1), 2 * float32(4-i)}; !slices.Equal(got, want) {
			t.Errorf("repetition %d: %v, want %v", i, got, want)
		}
	}
	if rec := r.State.(*recording); rec.graph == nil {
		t.Errorf("not recorded: %v", rec.err)
	}
	d.Forget(r)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestDecodeDeterministic repeats attention with several splits, and compares it with that without.
func TestDecodeDeterministic(t *testing.T) {
	open(t)
	defer func(before int) { decodePlan.splits = before }(decodePlan.splits)
	for _, kv := range []int{16, 4, 1} {
		s := device.Scores{Batch: 2, Queries: 1, Keys: 3000, Heads: 16, KVHeads: kv, HeadDim: 128, Scale: 0.09, Causal: true}
		d, err := Open(0, Options{Activations: device.BF16})
		if err != nil {
			t.Fatal(err)
		}
		x := newAttended(d, s, false, false)
		result := func(splits int) []float32 {
			decodePlan.splits = splits
			d.Attend(x.s, x.out, x.lse, x.q, x.k, x.v)
			return slices.Clone(d.Host(x.out.Buffer))
		}
		one := result(1)
		for _, splits := range []int{0, 7, 64} {
			first := result(splits)
			for range 4 {
				if !slices.Equal(result(splits), first) {
					t.Errorf("%d KV heads, %d splits: results differ", kv, splits)
				}
			}
			if worst, size := furthest(first, one); !(worst < 0.01*size) {
				t.Errorf("%d KV heads, %d splits: off by %g of %g", kv, splits, worst, size)
			}
		}
		if err := d.Err(); err != nil {
			t.Fatal(err)
		}
	}
}
