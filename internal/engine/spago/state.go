package spago

import (
	"fmt"
	"slices"

	"gqa/internal/device"
	"gqa/internal/engine"
)

// Result implements engine.Trainer.
func (t *Trainer) Result(name string) []float32 {
	for i := range t.optimizer.slots {
		if s := &t.optimizer.slots[i]; s.name == name {
			return t.optimizer.result(i)
		}
	}
	i := slices.Index(t.params.Names, name)
	if i < 0 {
		panic(fmt.Sprintf("the model has no weight %q", name)) // name is one of arch.Params
	}
	v := valueOf(t.params.List[i])
	if l := v.adapter; l != nil {
		return l.merged(v, t.optimizer.resultOf(l.a), t.optimizer.resultOf(l.b))
	}
	return v.host()
}

// result returns the weight of the run's result if it ended now, on the host: the average, if there is one.
func (o *optimizer) result(i int) []float32 {
	s := &o.slots[i]
	v := valueOf(s.param)
	switch {
	case !s.mean.None():
		return o.device.Host(s.mean)
	case o.shards == nil || v.rest.None():
		return v.host()
	}
	rest := o.whole(i, "rest")
	defer o.device.Free(rest)
	whole := o.device.New(device.F32, v.Size())
	defer o.device.Free(whole)
	o.device.Join(whole, v.compute, rest)
	return o.device.Host(whole)
}

// State implements engine.Trainer.
func (t *Trainer) State() (all []engine.State) {
	o := t.optimizer
	for i, p := range t.params.List {
		if v := valueOf(p); v.adapter != nil { // the result holds it with its change
			all = append(all, engine.State{Name: "w." + t.params.Names[i], Shape: v.Shape(), Get: v.host, Set: v.set})
		}
	}
	for i := range o.slots {
		s := &o.slots[i]
		for _, part := range s.state() {
			all = append(all, engine.State{
				Name: part.prefix + s.name, Shape: part.shape,
				Get: func() []float32 {
					if !part.divided || o.shards == nil {
						return part.values.host(o.device)
					}
					whole := o.whole(i, part.prefix)
					defer o.device.Free(whole)
					return o.device.Host(whole)
				},
				Set: func(values []float32) {
					if part.divided {
						values = s.mine(values)
					}
					if len(values) > 0 {
						part.values.set(o.device, values)
					}
					valueOf(s.param).updateCompute()
				},
			})
		}
	}
	return all
}

// statePart is a tensor that the next step needs besides the result, with the prefix of its name.
type statePart struct {
	prefix  string
	values  average
	shape   []int
	divided bool // among several processes, each has its own part
}

// state returns what the next step needs besides the result: averages of gradients and, if the result is an average,
// the weight itself; of a part of an adapter, which the result does not hold, everything.
func (s *slot) state() (parts []statePart) {
	for _, p := range []statePart{
		{"m.", s.m, s.shape, true},
		{"v.", s.v, s.shape, true},
		{"row.", s.row, s.shape[:1], true},
		{"col.", s.col, []int{s.cols()}, true},
	} {
		if slices.Contains(s.keeps, p.prefix) {
			parts = append(parts, p)
		}
	}
	if s.part && !s.mean.None() {
		parts = append(parts, statePart{"mean.", average{values: s.mean}, s.shape, false})
	}
	if s.part || !s.mean.None() {
		parts = append(parts, statePart{"w.", average{values: Data(s.param)}, s.shape, false})
	}
	return parts
}

// cols returns the number of columns of a weight, seen as a matrix.
func (s *slot) cols() int { return s.param.Size() / s.shape[0] }

// mine returns what this process keeps of an average.
func (s *slot) mine(values []float32) []float32 {
	switch {
	case s.lo == s.hi:
		return nil
	case s.whole:
		return values
	}
	return values[s.lo:s.hi]
}

// Lead implements engine.Trainer. Rank 0 tells the others what it needs next, so that it may read tensors in any order, and stop.
func (t *Trainer) Lead(f func() error) error {
	s := t.optimizer.shards
	if s == nil {
		return f()
	}
	s.arrive()
	if s.Group.Rank() > 0 {
		return t.optimizer.follow()
	}
	err := f()
	s.announce(nothing)
	return err
}

// What rank 0 announces: a number of a slot times the number of kinds, plus a kind.
var kinds = []string{"m.", "v.", "row.", "col.", "rest"}

const nothing = -1

// announce passes a number from rank 0 to the others. An error is kept by the group.
func (s *shards) announce(n int) int {
	x := []float64{float64(n)}
	if s.Group.Rank() > 0 {
		x[0] = 0
	}
	if s.Group.Sum(x) != nil {
		return nothing
	}
	return int(x[0])
}

// follow gives rank 0 this process's parts of what it asks for.
func (o *optimizer) follow() error {
	for {
		n := o.shards.announce(0)
		if n == nothing {
			return o.shards.Group.Err()
		}
		o.device.Free(o.part(n/len(kinds), kinds[n%len(kinds)]))
	}
}

// whole returns all numbers of a slot's that are divided among the ranks, on rank 0 within Lead. The caller must free them.
func (o *optimizer) whole(i int, kind string) device.Buffer {
	for k, known := range kinds {
		if known == kind {
			o.shards.announce(i*len(kinds) + k)
		}
	}
	return o.part(i, kind)
}

// part collects what whole returns.
func (o *optimizer) part(i int, kind string) device.Buffer {
	s := &o.slots[i]
	switch kind {
	case "m.":
		return o.shards.average(s, s.m)
	case "v.":
		return o.shards.average(s, s.v)
	case "row.":
		return o.shards.fromOwner(s, s.row.values, s.shape[0])
	case "col.":
		return o.shards.fromOwner(s, s.col.values, s.cols())
	}
	return o.shards.collect(s, valueOf(s.param).rest, device.Rest)
}

// Final implements engine.Trainer.
func (t *Trainer) Final() {
	if s := t.optimizer.shards; s != nil {
		s.final = true
	}
}

// Idle implements engine.Trainer.
func (t *Trainer) Idle() {
	if s := t.optimizer.shards; s != nil {
		s.idle()
	}
}

// Err implements engine.Trainer.
func (t *Trainer) Err() error {
	if s := t.optimizer.shards; s != nil && t.engine.device.Err() == nil {
		return s.Group.Err()
	}
	return t.engine.device.Err()
}
