package pool

import "sync"

// Group is several jobs that run as one: threads wait for each other once, and a job too small to be divided does not leave
// others idle.
type Group struct {
	jobs   []groupJob
	blocks int
}

type groupJob struct {
	Pooled
	n, grain, first int // first is the number of its first block
}

// Pooled is a task that comes from a sync.Pool. Release puts it back.
type Pooled interface {
	Task
	Release()
}

var groups = sync.Pool{New: func() any { return new(Group) }}

// NewGroup returns a group without jobs.
func NewGroup() *Group { return groups.Get().(*Group) }

// Add adds a job: the blocks of [0,n).
func (g *Group) Add(t Pooled, n, grain int) {
	g.jobs = append(g.jobs, groupJob{t, n, grain, g.blocks})
	g.blocks += CeilDiv(n, grain)
}

// Block implements Task: its items are the blocks of all jobs.
func (g *Group) Block(lo, _ int) {
	i := len(g.jobs) - 1
	for g.jobs[i].first > lo {
		i--
	}
	j := &g.jobs[i]
	from := (lo - j.first) * j.grain
	j.Block(from, min(from+j.grain, j.n))
}

// Run runs all jobs, then releases them and the group itself.
func (g *Group) Run() {
	Run(g.blocks, 1, g)
	for _, j := range g.jobs {
		j.Release()
	}
	clear(g.jobs)
	g.jobs, g.blocks = g.jobs[:0], 0
	groups.Put(g)
}
