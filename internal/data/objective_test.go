package data

import (
	"slices"
	"testing"
)

func TestLabelled(t *testing.T) {
	windows := [][]int32{{5, 6, 7, 9, 2, -1}, {8, -1, -1, 4, -1, 3}}
	b, targets := Labelled{Labels: 3, ShiftRight: true, Start: 1, Pad: 0}.Batch(windows)
	if !slices.Equal(b.IDs, []int32{1, 9, 2, 1, 4, 0}) || !slices.Equal(targets, []int32{9, 2, -1, 4, -1, 3}) {
		t.Errorf("the decoder reads %v for %v", b.IDs, targets)
	}
	if s := b.Source; !slices.Equal(s.IDs, []int32{5, 6, 7, 8, 0, 0}) || !slices.Equal(s.Lens, []int{3, 1}) {
		t.Errorf("the encoder reads %v, of lengths %v", s.IDs, s.Lens)
	}
	b, targets = Labelled{Labels: 3, Pad: 0}.Batch(windows)
	if b.Source != nil || !slices.Equal(b.IDs, []int32{5, 6, 7, 8, 0, 0}) || !slices.Equal(b.Lens, []int{3, 1}) || targets[0] != 9 {
		t.Errorf("an encoder alone reads %v, of lengths %v", b.IDs, b.Lens)
	}
}

func TestMasked(t *testing.T) {
	window := counting(40)
	b, targets := Masked{Mask: 99, Seed: 1}.Batch([][]int32{window, window})
	masked := 0
	for i, id := range b.IDs {
		switch {
		case id == 99 && targets[i] == window[i%40]:
			masked++
		case id != window[i%40] || targets[i] != -1:
			t.Fatalf("token %d is read as %d with the target %d", i, id, targets[i])
		}
	}
	if masked != 2*6 {
		t.Errorf("%d of 80 tokens are masked, want 12", masked)
	}
	again, _ := Masked{Mask: 99, Seed: 1}.Batch([][]int32{window})
	other, _ := Masked{Mask: 99, Seed: 2}.Batch([][]int32{window})
	if !slices.Equal(again.IDs, b.IDs[:40]) || slices.Equal(other.IDs, again.IDs) {
		t.Error("the masked tokens do not depend on the seed")
	}
}

// Source and targets of a window can be recombined into the window.
func TestSpans(t *testing.T) {
	o := Spans{Sentinels: []int32{200, 201, 202, 203, 204, 205, 206, 207}, End: 1, Start: 0, Seed: 3}
	for _, n := range []int{2, 3, 10, 47, 100} {
		window := counting(n)
		source, target := o.corrupt(window)
		if len(target) != o.Rows(n) || source[len(source)-1] != 1 || target[len(target)-1] != 1 {
			t.Fatalf("%d tokens: %v and %v, want %d targets", n, source, target, o.Rows(n))
		}
		var whole []int32
		for _, id := range source[:len(source)-1] {
			if at := slices.Index(target, id); id >= 200 {
				for at++; target[at] < 200 && target[at] != 1; at++ {
					whole = append(whole, target[at])
				}
				continue
			}
			whole = append(whole, id)
		}
		if !slices.Equal(whole, window) {
			t.Errorf("%d tokens: %v and %v make %v", n, source, target, whole)
		}
	}
	b, targets := o.Batch([][]int32{counting(20), counting(20)})
	if b.Seqs != 2 || b.Len != o.Rows(20) || len(targets) != 2*b.Len || b.IDs[0] != 0 || b.IDs[1] != targets[0] {
		t.Errorf("batch %+v, targets %v", b, targets)
	}
}

// counting returns the n IDs 10, 11, ….
func counting(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(10 + i)
	}
	return ids
}
