// Package control connects ranks by TCP, for what GPUs' collective operations do not do: ranks meet at an address, agree on a few numbers,
// and notice within seconds that one of them has ended.
//
// Rank 0 listens and the others connect to it. The connections are not authenticated: they belong in a cluster's own network.
package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"gqa/internal/comm"
)

// How long a rank waits. The others are asked for a sign of life often enough that a job ends well within 30 seconds of a host's end.
const (
	patience = 5 * time.Minute  // for the others to start
	silence  = 15 * time.Second // of a rank that is there
	beat     = 4 * time.Second  // between two signs of life
)

// Group is the ranks of a job.
type Group struct {
	rank, size int
	links      []*link // of rank 0: to rank i+1; of others: to rank 0
	stop       chan struct{}
	once       sync.Once
	end        func(reason error, tell bool) // ends this process
}

// link is a connection to another rank.
type link struct {
	rank   int
	name   string // of the other's host
	conn   net.Conn
	writes sync.Mutex
	in     chan []byte // messages but for signs of life; closed after the last
	bye    chan struct{}
}

// Kinds of messages: one byte, and then the length of what follows in four.
const (
	kindData  = 'd'
	kindBeat  = 'b'
	kindAbort = 'a'
	kindBye   = 'e'
)

const maxMessage = 1 << 24

// Join returns the group of size ranks that meet at an address, host:port, where rank 0 listens. It waits for all of them. If one of them
// ends before it calls Close, the processes of all are ended.
func Join(rank, size int, address string) (*Group, error) {
	return join(rank, size, address, patience, func(reason error, tell bool) {
		if tell {
			comm.Tell(reason)
		}
		comm.Exit()
	})
}

func join(rank, size int, address string, patience time.Duration, end func(error, bool)) (*Group, error) {
	g := &Group{rank: rank, size: size, stop: make(chan struct{}), end: end}
	var err error
	if rank == 0 {
		err = g.listen(address, patience)
	} else {
		err = g.connect(address, patience)
	}
	if err != nil {
		for _, l := range g.links {
			if l != nil {
				l.conn.Close()
			}
		}
		return nil, err
	}
	for _, l := range g.links {
		go g.read(l)
	}
	go g.live()
	return g, nil
}

// Rank returns the number of this process.
func (g *Group) Rank() int { return g.rank }

// Size returns the number of processes.
func (g *Group) Size() int { return g.size }

// Sum replaces numbers by their sums over the ranks. Rank 0 adds them in the order of the ranks.
func (g *Group) Sum(x []float64) error {
	if g.rank > 0 {
		if err := g.links[0].send(kindData, encode(x)); err != nil {
			return g.lost(g.links[0], err)
		}
		return g.receive(g.links[0], x)
	}
	y := make([]float64, len(x))
	for _, l := range g.links {
		if err := g.receive(l, y); err != nil {
			return err
		}
		for i, v := range y {
			x[i] += v
		}
	}
	return g.toAll(kindData, encode(x))
}

// Share gives all ranks what rank 0 has.
func (g *Group) Share(data []byte) ([]byte, error) {
	if g.rank == 0 {
		return data, g.toAll(kindData, data)
	}
	got, ok := <-g.links[0].in
	if !ok {
		return nil, g.lost(g.links[0], io.EOF)
	}
	return got, nil
}

// Abort ends the processes of all ranks. It does not return.
func (g *Group) Abort(reason error) {
	err := g.toAll(kindAbort, []byte(reason.Error()))
	g.end(reason, g.rank == 0 || err != nil) // rank 0 tells what others have told it
}

// Close leaves the group, once all ranks have called it.
func (g *Group) Close() error {
	defer g.once.Do(func() { close(g.stop) })
	err := g.toAll(kindBye, nil)
	for _, l := range g.links {
		if err == nil {
			<-l.bye
		}
		l.conn.Close()
	}
	return err
}

func (g *Group) toAll(kind byte, data []byte) error {
	var errs []error
	for _, l := range g.links {
		if err := l.send(kind, data); err != nil {
			errs = append(errs, g.lost(l, err))
		}
	}
	return errors.Join(errs...)
}

func (g *Group) receive(l *link, x []float64) error {
	data, ok := <-l.in
	switch {
	case !ok:
		return g.lost(l, io.EOF)
	case len(data) != 8*len(x):
		return fmt.Errorf("rank %d has sent %d bytes where %d were expected: the ranks do not run the same program", l.rank, len(data), 8*len(x))
	}
	for i := range x {
		x[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
	}
	return nil
}

func encode(x []float64) []byte {
	var data []byte
	for _, v := range x {
		data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
	}
	return data
}

func (g *Group) lost(l *link, err error) error {
	return fmt.Errorf("rank %d on %s is gone: %w", l.rank, l.name, err)
}

// live tells the others now and then that this rank is there.
func (g *Group) live() {
	ticks := time.NewTicker(beat)
	defer ticks.Stop()
	for {
		select {
		case <-g.stop:
			return
		case <-ticks.C:
			_ = g.toAll(kindBeat, nil) // who reads from a broken connection says so
		}
	}
}

// read receives messages until the other rank leaves, and ends this process if it does so without a word.
func (g *Group) read(l *link) {
	defer close(l.in)
	for {
		kind, data, err := l.receive()
		switch {
		case err != nil:
			g.gone(l, err)
			return
		case kind == kindAbort:
			reason := errors.New(string(data))
			if g.rank == 0 {
				_ = g.toAll(kindAbort, data) // the others may be gone already
			}
			g.end(reason, g.rank == 0)
			return
		case kind == kindBye:
			close(l.bye)
			return
		case kind == kindData:
			l.in <- data
		}
	}
}

// gone ends the processes of all ranks because one has ended.
func (g *Group) gone(l *link, err error) {
	select {
	case <-g.stop:
		return // this rank has left too
	default:
	}
	var late net.Error
	switch {
	case errors.As(err, &late) && late.Timeout():
		err = fmt.Errorf("no sign of life for %v", silence)
	case errors.Is(err, io.EOF):
		err = errors.New("its process has ended; its own messages may say why")
	}
	reason := g.lost(l, err)
	if g.rank == 0 {
		_ = g.toAll(kindAbort, []byte(reason.Error())) // as above
	}
	g.end(reason, true)
}
