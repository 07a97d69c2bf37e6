package commtest

import (
	"sync"

	"gqa/internal/comm"
	"gqa/internal/device"
)

// Local returns a group of n ranks within this process, whose devices are the CPU. Each rank must be used by a goroutine of its own.
// Operations are done when they return.
func Local(n int) []comm.Comm {
	m := &meeting{given: make([]any, n)}
	m.all.L = &m.mu
	var ranks []comm.Comm
	for rank := range n {
		ranks = append(ranks, &local{m, rank})
	}
	return ranks
}

// meeting is where ranks exchange what they give.
type meeting struct {
	mu      sync.Mutex
	all     sync.Cond
	given   []any
	taken   []any // a copy of given, once all have given
	arrived int
	round   int
}

// exchange gives x, waits for the other ranks, and returns what all have given.
func (m *meeting) exchange(rank int, x any) []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.given[rank] = x
	round := m.round
	if m.arrived++; m.arrived == len(m.given) {
		m.taken = append([]any(nil), m.given...)
		m.arrived, m.round = 0, m.round+1
		m.all.Broadcast()
	}
	for round == m.round {
		m.all.Wait()
	}
	return m.taken
}

type local struct {
	meeting *meeting
	rank    int
}

type done struct{}

func (done) Wait() {}

func (l *local) Rank() int { return l.rank }
func (l *local) Size() int { return len(l.meeting.given) }

// all returns copies of what the ranks give.
func (l *local) all(x []float32) [][]float32 {
	var copies [][]float32
	for _, y := range l.meeting.exchange(l.rank, append([]float32(nil), x...)) {
		copies = append(copies, y.([]float32))
	}
	return copies
}

func (l *local) AllReduce(x device.Buffer) comm.Op {
	all := l.all(x.F32())
	clear(x.F32())
	for _, y := range all {
		for i, v := range y {
			x.F32()[i] += v
		}
	}
	return done{}
}

func (l *local) ReduceScatter(dst, x device.Buffer) comm.Op {
	n := dst.Len()
	clear(dst.F32())
	for _, y := range l.all(x.F32()) {
		for i, v := range y[l.rank*n : (l.rank+1)*n] {
			dst.F32()[i] += v
		}
	}
	return done{}
}

func (l *local) AllGather(x device.Buffer) comm.Op {
	n := x.Len() / l.Size()
	for rank := range l.Size() {
		l.Broadcast(x.Slice(rank*n, (rank+1)*n), rank)
	}
	return done{}
}

// Broadcast copies numbers of any format but bytes.
func (l *local) Broadcast(x device.Buffer, root int) comm.Op {
	if halves := x.U16(); halves != nil {
		copy(halves, l.meeting.exchange(l.rank, append([]uint16(nil), halves...))[root].([]uint16))
	} else {
		copy(x.F32(), l.all(x.F32())[root])
	}
	return done{}
}

func (l *local) Sum(x []float64) error {
	all := l.meeting.exchange(l.rank, append([]float64(nil), x...))
	clear(x)
	for _, y := range all {
		for i, v := range y.([]float64) {
			x[i] += v
		}
	}
	return nil
}

func (l *local) Barrier() error     { return l.Sum(nil) }
func (l *local) Err() error         { return nil }
func (l *local) Abort(reason error) { panic(reason) }
func (l *local) Close() error       { return nil }
