package spago

import (
	"cmp"
	"fmt"
	"slices"

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
	if v.unit != nil {
		return t.optimizer.gatheredResult(v)
	}
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
	case v.unit != nil:
		return o.hosted(o.gatheredSlot(i))
	case !s.mean.None():
		return o.device.Host(s.mean)
	case o.shards == nil || v.rest.None():
		return v.host()
	}
	return o.hosted(o.gathered(i))
}

// State implements engine.Trainer.
func (t *Trainer) State() (all []engine.State) {
	o := t.optimizer
	for i, p := range t.params.List {
		if v := valueOf(p); v.adapter != nil { // the result holds it with its change
			get := v.host
			if v.unit != nil {
				get = func() []float32 { return o.hosted(o.gathered(o.number(v))) }
			}
			all = append(all, engine.State{Name: "w." + t.params.Names[i], Shape: v.Shape(), Get: get, Set: v.set})
		}
	}
	for i := range o.slots {
		s := &o.slots[i]
		for _, part := range s.state(o.spec.Average > 0) {
			all = append(all, engine.State{
				Name: part.prefix + s.name, Shape: part.shape,
				Get: func() []float32 {
					if part.kind == "" || o.shards == nil {
						return part.values.host(o.device)
					}
					return o.hosted(o.whole(i, part.kind))
				},
				Set: func(values []float32) {
					if part.kind != "" {
						values = s.mine(values)
					}
					if len(values) > 0 {
						part.values.set(o.device, values)
						s.update(o.device)
					}
				},
			})
		}
	}
	return all
}

// statePart is a tensor that the next step needs besides the result, with the prefix of its name.
type statePart struct {
	prefix string
	values average
	shape  []int
	kind   string // of kinds, if each of several processes has its own part; otherwise empty
}

// state returns what the next step needs besides the result: averages of gradients and, if the result is an average,
// the weight itself; of a part of an adapter, which the result does not hold, everything.
func (s *slot) state(averaged bool) (parts []statePart) {
	for _, p := range []statePart{
		{"m.", s.m, s.shape, "m."},
		{"v.", s.v, s.shape, "v."},
		{"row.", s.row, s.shape[:1], "row."},
		{"col.", s.col, []int{s.cols()}, "col."},
	} {
		if slices.Contains(s.keeps, p.prefix) {
			parts = append(parts, p)
		}
	}
	meanKind, kind := "", ""
	if v := valueOf(s.param); v.unit != nil {
		meanKind, kind = "mean.", cmp.Or(v.bucket.members[v.bucket.index(v)].besides, "own")
	}
	if s.part && averaged {
		parts = append(parts, statePart{"mean.", average{values: s.mean}, s.shape, meanKind})
	}
	if s.part || averaged {
		parts = append(parts, statePart{"w.", average{values: s.numbers()}, s.shape, kind})
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

// What rank 0 announces: a number of a weight (see holder) times the number of kinds, plus a kind: an average, what weights in two parts
// lack, the average of a weight, its numbers in F32 beside a copy, or what products read.
var kinds = []string{"m.", "v.", "row.", "col.", "rest", "mean.", "data", "own"}

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

// agree reports whether something holds on all ranks. An error is kept by the group.
func (s *shards) agree(here bool) bool {
	missing := []float64{0}
	if !here {
		missing[0] = 1
	}
	return s.Group.Sum(missing) == nil && missing[0] == 0
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

// Final implements engine.Trainer.
func (t *Trainer) Final() {
	if s := t.optimizer.shards; s != nil {
		s.final = true
	}
}

// Idle implements engine.Trainer.
func (t *Trainer) Idle() error {
	switch s := t.optimizer.shards; {
	case s == nil:
	case s.units != nil: // it takes part in gathering weights, forward and backward, so it computes what counts for nothing
		_, err := t.Accumulate(t.batch, t.targets, nil, 0)
		return err
	default:
		s.idle()
	}
	return nil
}

// Divides implements engine.Trainer.
func (t *Trainer) Divides() bool {
	s := t.optimizer.shards
	return s != nil && s.units != nil
}

// Err implements engine.Trainer.
func (t *Trainer) Err() error {
	if s := t.optimizer.shards; s != nil && t.engine.device.Err() == nil {
		return s.Group.Err()
	}
	return t.engine.device.Err()
}
