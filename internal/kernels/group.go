package kernels

import "sync"

// joint is several jobs as one, whose items are their blocks.
type joint struct {
	parts  []part
	blocks int
}

type part struct {
	pooled
	n, grain, first int // first is the number of its first block
}

// pooled is a task that goes back to where it was taken from.
type pooled interface {
	task
	release()
}

var joints = sync.Pool{New: func() any { return new(joint) }}

func (j *joint) add(t pooled, n, grain int) {
	j.parts = append(j.parts, part{t, n, grain, j.blocks})
	j.blocks += ceilDiv(n, grain)
}

func (j *joint) block(lo, _ int) {
	i := len(j.parts) - 1
	for j.parts[i].first > lo {
		i--
	}
	p := &j.parts[i]
	from := (lo - p.first) * p.grain
	p.block(from, min(from+p.grain, p.n))
}

// run does all blocks and gives back what it took.
func (j *joint) run() {
	run(j.blocks, 1, j)
	for _, p := range j.parts {
		p.release()
	}
	clear(j.parts)
	j.parts, j.blocks = j.parts[:0], 0
	joints.Put(j)
}
