package infer

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"gqa/configs"
	"gqa/internal/activation"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// replayer is a device that repeats steps by requesting them again. It records what a real one would not see again: which operands
// operations have, and which numbers.
type replayer struct {
	*cpu.Device
	t         *testing.T
	of        *device.Replay // nil if none
	log, last []string
	replays   int
	forgotten int
}

func (r *replayer) Replay(of *device.Replay, f func()) {
	r.of, r.log = of, nil
	f()
	if r.of = nil; of.State != nil && !slices.Equal(r.log, r.last) {
		r.t.Errorf("repeated operations differ:\n%v\n%v", r.log, r.last)
	}
	of.State, r.last = true, r.log
	r.replays++
}

func (r *replayer) Forget(of *device.Replay) { of.State = nil; r.forgotten++ }

func (r *replayer) requested(what string, numbers []int, bs ...device.Buffer) {
	if r.of == nil {
		return
	}
	line := fmt.Sprint(what, numbers)
	for _, b := range bs {
		line += fmt.Sprintf(" %p %p %p %d", b.F32(), b.U16(), b.Bytes(), b.Len())
	}
	r.log = append(r.log, line)
}

// input wants integers that change to be an input.
func (r *replayer) input(x []int32) {
	if r.of != nil && &x[0] != &r.of.IDs[0] && &x[0] != &r.of.Pos[0] && (len(r.of.Shift) == 0 || &x[0] != &r.of.Shift[0]) {
		r.t.Error("integers that are not an input")
	}
}

func (r *replayer) Multiply(rows, k int, x device.Buffer, ps []device.Product) {
	for _, p := range ps {
		r.requested("Multiply", []int{rows, k, p.N}, x, p.Y)
	}
	r.Device.Multiply(rows, k, x, ps)
}

func (r *replayer) RMSNorm(y, inv, x, w device.Buffer, rows, dim int, eps float32) {
	r.requested("RMSNorm", []int{rows, dim}, y, x, w)
	r.Device.RMSNorm(y, inv, x, w, rows, dim, eps)
}

func (r *replayer) AddRMSNorm(y, inv, sum, x, z, w device.Buffer, rows, dim int, eps float32) {
	r.requested("AddRMSNorm", []int{rows, dim}, y, sum, x, z, w)
	r.Device.AddRMSNorm(y, inv, sum, x, z, w, rows, dim, eps)
}

func (r *replayer) Gather(y, table device.Buffer, ids []int32, dim int) {
	r.input(ids)
	r.requested("Gather", []int{dim}, y, table)
	r.Device.Gather(y, table, ids, dim)
}

func (r *replayer) Rotate(p device.Rope, y, x device.Rows, pos []int32, heads, headDim int, inverse bool) {
	r.input(pos)
	r.requested("Rotate", []int{heads, headDim, p.Positions()}, y.Buffer, x.Buffer)
	r.Device.Rotate(p, y, x, pos, heads, headDim, inverse)
}

func (r *replayer) NextBias(of *device.Replay, y, table device.Buffer, bucket []int32, heads, keys int) {
	if of != r.of {
		r.t.Error("a bias of another replay")
	}
	r.requested("NextBias", []int{heads, keys}, y, table)
	for i := range heads * keys {
		y.F32()[i] = table.F32()[int(bucket[keys-1-max(of.First-i%keys, 0)])*heads+i/keys]
	}
}

func (r *replayer) Attend(s device.Scores, out device.Heads, lse device.Buffer, q, k, v device.Heads) {
	if r.of != nil && s.Causal && &s.KeyLens[0] != &r.of.Lens[0] {
		r.t.Error("lengths that are not an input")
	}
	r.requested("Attend", []int{s.Batch, s.Keys, s.Window}, out.Buffer, q.Buffer, k.Buffer, v.Buffer)
	r.Device.Attend(s, out, lse, q, k, v)
}

func (r *replayer) Store(keys, values device.Heads, first int, k, v device.Buffer, seqs, tokens, headDim int) {
	changes := -1
	if r.of != nil && first != r.of.First {
		changes = first
	}
	r.requested("Store", []int{seqs, tokens, changes}, keys.Buffer, values.Buffer, k, v)
	r.Device.Store(keys, values, first, k, v, seqs, tokens, headDim)
}

// fusing is a replayer that rotates and stores at once.
type fusing struct{ *replayer }

func (f fusing) RotateStore(p device.Rope, q, k, v device.Rows, pos []int32, heads, headDim int, keys, values device.Heads, first, tokens int) {
	if heads > 0 {
		f.Rotate(p, q, q, pos, heads, headDim, false)
	}
	turned := k
	turned.Buffer = f.New(device.F32, k.Len())
	f.Device.Rotate(p, turned, k, pos, keys.Seq/keys.Head, headDim, false)
	f.requested("RotateStore", []int{heads, headDim, p.Positions(), tokens}, k.Buffer, v.Buffer, keys.Buffer, values.Buffer)
	f.input(pos)
	f.Device.Store(keys, values, first, turned.Buffer, v.Buffer, len(pos)/tokens, tokens, headDim)
}

func (fusing) MultiplyGate(activation.Func, device.Buffer, device.Buffer, device.Buffer, device.Buffer, int, int, int) bool {
	return false
}

// Steps that a device repeats give the logits of others, and request the same each time.
func TestReplay(t *testing.T) {
	for _, c := range casesOf(t, func(a *configs.Arch) bool { return a.Causal || a.EncoderLayers > 0 }) {
		t.Run(c.Name, func(t *testing.T) {
			src, all := golden.Load(t, c.Dir)
			dev := &replayer{Device: cpu.New(), t: t}
			d, plain := New(dev, src.Arch, all), New(cpu.New(), src.Arch, all)
			const seqs, prompt, steps = 2, 5, 12
			cache, want := d.NewCache(seqs, prompt+steps), plain.NewCache(seqs, prompt+steps)
			encode := func(seqs int) {
				if src.Arch.EncoderLayers > 0 {
					source := ops.Batch{IDs: randomIDs(40, seqs*7, src.Arch.Vocab), Seqs: seqs, Len: 7, Lens: []int{7, 4}[:seqs]}
					if err := cmp.Or(d.Encode(cache, source), plain.Encode(want, source)); err != nil {
						t.Fatal(err)
					}
				}
			}
			encode(seqs)
			both := func(ids []int32) {
				t.Helper()
				compare(t, fmt.Sprintf("after %d tokens", cache.Len), mustStep(t, d, cache, ids), mustStep(t, plain, want, ids))
			}
			both(randomIDs(1, seqs*prompt, src.Arch.Vocab))
			for i := range steps {
				both(randomIDs(uint64(2+i), seqs, src.Arch.Vocab))
			}
			if dev.replays != steps && src.Arch.Rope.LongInvFreq() == nil { // with it, a step may read all tokens again
				t.Errorf("%d steps were repeated, want %d", dev.replays, steps)
			}
			cache.Truncate(prompt)
			want.Truncate(prompt)
			both(randomIDs(30, seqs, src.Arch.Vocab))
			cache, want = d.NewCache(1, 4), plain.NewCache(1, 4)
			before := dev.forgotten
			encode(1)
			both([]int32{1})
			if dev.forgotten == before {
				t.Error("a step with another cache repeats operations on the old one")
			}
			d.Release()
			both([]int32{2})
		})
	}
}

// Steps with windows are repeated once all sinks are in the cache, with those before the first token is dropped recorded for themselves.
func TestReplayWindow(t *testing.T) {
	for _, f := range []Formats{{Window: 6}, {Window: 3, Sinks: 2}, {Window: 10, Sinks: 2, Cache: device.Int8}, {Window: 4, Sinks: 7}} {
		for _, c := range casesOf(t, func(a *configs.Arch) bool { return checkKept(cpu.New(), a, f.kept()) == nil }) {
			src, all := golden.Load(t, c.Dir)
			if src.Arch.Rope.LongInvFreq() != nil {
				continue
			}
			t.Run(fmt.Sprintf("%s/%+v", c.Name, f), func(t *testing.T) {
				dev, other := &replayer{Device: cpu.New(), t: t}, &replayer{Device: cpu.New(), t: t}
				const seqs, prompt, steps = 2, 3, 16
				var caches []*Cache
				decoders := []*Decoder{newIn(cpu.New(), f, src.Arch, all), newIn(dev, f, src.Arch, all), newIn(fusing{other}, f, src.Arch, all)}
				for _, d := range decoders {
					caches = append(caches, d.NewCache(seqs, prompt+steps))
				}
				for i, n := range slices.Concat([]int{prompt}, slices.Repeat([]int{1}, steps)) {
					ids := randomIDs(uint64(i), seqs*n, src.Arch.Vocab)
					want := mustStep(t, decoders[0], caches[0], ids)
					compare(t, fmt.Sprintf("after %d tokens", caches[0].Len), mustStep(t, decoders[1], caches[1], ids), want)
					compare(t, fmt.Sprintf("fused, after %d tokens", caches[0].Len), mustStep(t, decoders[2], caches[2], ids), want)
				}
				for _, d := range []*replayer{dev, other} {
					if once := max(f.Sinks-prompt, 0); d.replays != steps-once || d.forgotten > 4 {
						t.Errorf("%d steps were repeated, want %d; forgotten %d times", d.replays, steps-once, d.forgotten)
					}
				}
			})
		}
	}
}

func TestReachFor(t *testing.T) {
	for _, c := range []struct{ n, capacity, want int }{{1, 100, 100}, {1, 5000, 512}, {512, 5000, 512}, {513, 5000, 1024}, {4097, 5000, 5000}, {4096, 1 << 20, 4096}} {
		if got := reachFor(c.n, c.capacity); got != c.want {
			t.Errorf("reach for %d of %d: %d, want %d", c.n, c.capacity, got, c.want)
		}
	}
}
