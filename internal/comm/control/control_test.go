package control

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// free returns an address that nobody uses.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ends records why a rank ended its process.
type ends struct {
	mu  sync.Mutex
	all []string
}

func (e *ends) add(rank int) func(error, bool) {
	return func(reason error, tell bool) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, fmt.Sprintf("%d %v: %v", rank, tell, reason))
	}
}

func (e *ends) await(t *testing.T, want string) {
	t.Helper()
	for range 500 { // 5 s
		e.mu.Lock()
		all := strings.Join(e.all, "\n")
		e.mu.Unlock()
		if strings.Contains(all, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%q, want %s", e.all, want)
}

// meet joins n ranks.
func meet(t *testing.T, n int) ([]*Group, *ends) {
	t.Helper()
	address, groups, why := free(t), make([]*Group, n), new(ends)
	each(n, func(rank int) {
		var err error
		if groups[rank], err = join(rank, n, address, 10*time.Second, why.add(rank)); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return groups, why
}

func each(n int, f func(rank int)) {
	var all sync.WaitGroup
	for rank := range n {
		all.Go(func() { f(rank) })
	}
	all.Wait()
}

func TestGroup(t *testing.T) {
	for n := 1; n <= 4; n++ {
		groups, why := meet(t, n)
		each(n, func(rank int) {
			g := groups[rank]
			for round := range 20 {
				x := []float64{float64(rank + round), 1e-3}
				if err := g.Sum(x); err != nil || x[0] != float64(n*(n-1)/2+n*round) {
					t.Errorf("rank %d of %d: %v %v", rank, n, x, err)
				}
			}
			got, err := g.Share([]byte(fmt.Sprint("rank ", rank)))
			if err != nil || string(got) != "rank 0" {
				t.Errorf("%q %v", got, err)
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
		if why.all != nil {
			t.Errorf("ended: %q", why.all)
		}
	}
}

// If a process ends, rank 0 says which, and ends the others.
func TestLost(t *testing.T) {
	groups, why := meet(t, 3)
	groups[2].links[0].conn.Close() // as when it is killed
	why.await(t, "0 true: rank 2 on ")
	why.await(t, "is gone: its process has ended")
	why.await(t, "1 false: rank 2 on ")
	groups, why = meet(t, 2)
	groups[0].links[0].conn.Close()
	why.await(t, "1 true: rank 0 on ")
}

// An error of one rank is told by rank 0 and ends all.
func TestAbort(t *testing.T) {
	groups, why := meet(t, 3)
	groups[1].Abort(errors.New("rank 1: the disk is full"))
	why.await(t, "0 true: rank 1: the disk is full")
	why.await(t, "1 false: rank 1: the disk is full")
	why.await(t, "2 false: rank 1: the disk is full")
}

// Rank 0 sends away what is not a rank, or not of this job, and goes on waiting.
func TestStrangers(t *testing.T) {
	address, why := free(t), new(ends)
	started := make(chan *Group)
	go func() {
		g, err := join(0, 2, address, 10*time.Second, why.add(0))
		if err != nil {
			t.Error(err)
		}
		started <- g
	}()
	for {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\n\r\n")
		conn.Close()
		break
	}
	for _, c := range []struct {
		rank, size int
		want       string
	}{{1, 3, "it belongs to a job of 3 ranks, not 2"}, {5, 2, "there is another rank 5"}} {
		if _, err := join(c.rank, c.size, address, 5*time.Second, why.add(9)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	g, err := join(1, 2, address, 10*time.Second, why.add(1))
	if err != nil {
		t.Fatal(err)
	}
	first := <-started
	each(2, func(rank int) {
		if err := []*Group{first, g}[rank].Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := join(1, 2, free(t), 1200*time.Millisecond, why.add(1)); err == nil || !strings.Contains(err.Error(), "rank 0 cannot be reached at") {
		t.Errorf("error %v", err)
	}
	if _, err := join(0, 2, free(t), 100*time.Millisecond, why.add(0)); err == nil || !strings.Contains(err.Error(), "1 of 2 ranks have not come to") {
		t.Errorf("error %v", err)
	}
}
