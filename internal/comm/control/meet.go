package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// hello is what a rank says first, and rank 0 answers.
type hello struct {
	Program string `json:"program"`
	Rank    int    `json:"rank"`
	Size    int    `json:"size"`
	Host    string `json:"host"`
	Refused string `json:"refused,omitempty"` // why rank 0 does not accept it
}

const program = "gqa-train/1"

func (g *Group) hello() hello {
	host, _ := os.Hostname() // for messages
	return hello{Program: program, Rank: g.rank, Size: g.size, Host: host}
}

// check returns why a rank that has said h does not belong to the group; "" if it does.
func (g *Group) check(h hello, rank int) string {
	switch {
	case h.Program != program:
		return fmt.Sprintf("it is %q, not %s", h.Program, program)
	case h.Size != g.size:
		return fmt.Sprintf("it belongs to a job of %d ranks, not %d", h.Size, g.size)
	case h.Rank != rank || rank < 0 || rank >= g.size:
		return fmt.Sprintf("there is another rank %d", h.Rank)
	}
	return ""
}

// listen makes rank 0 wait for the others. Whoever else connects is sent away.
func (g *Group) listen(address string, patience time.Duration) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the ranks' address: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		host = "" // a name of this host, or of a service in front of it
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("rank 0 cannot listen for the others: %w; set MASTER_PORT to a free port", err)
	}
	defer l.Close()
	deadline := time.Now().Add(patience)
	if err := l.(*net.TCPListener).SetDeadline(deadline); err != nil {
		return err
	}
	g.links = make([]*link, g.size-1)
	for missing := g.size - 1; missing > 0; {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("%d of %d ranks have not come to %s within %v: %w", missing, g.size, address, patience, err)
		}
		if other, ok := g.welcome(conn); ok {
			g.links[other.rank-1] = other
			missing--
		} else {
			conn.Close()
		}
	}
	for _, other := range g.links { // all are there
		if err := other.say(g.hello()); err != nil {
			return g.lost(other, err)
		}
	}
	return nil
}

// welcome listens to what a new connection says, and reports whether it is a rank that is missing.
func (g *Group) welcome(conn net.Conn) (*link, bool) {
	other := newLink(conn, 0, conn.RemoteAddr().String())
	h, err := other.hear(silence)
	if err != nil {
		return nil, false
	}
	rank := h.Rank
	if rank < 1 || rank >= g.size || g.links[rank-1] != nil {
		rank = -1
	}
	if why := g.check(h, rank); why != "" {
		mine := g.hello()
		mine.Refused = why
		_ = other.say(mine) // it is sent away in any case
		return nil, false
	}
	other.rank, other.name = h.Rank, h.Host
	return other, true
}

// connect connects to rank 0, which may not be there yet.
func (g *Group) connect(address string, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := g.tryConnect(address, time.Until(deadline))
		if err == nil || errors.Is(err, errRefused) {
			return err
		}
		if time.Until(deadline) < time.Second {
			return fmt.Errorf("rank 0 cannot be reached at %s within %v: %w", address, patience, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

var errRefused = errors.New("rank 0 does not accept this rank")

func (g *Group) tryConnect(address string, left time.Duration) error {
	conn, err := net.DialTimeout("tcp", address, min(left, silence))
	if err != nil {
		return err
	}
	first := newLink(conn, 0, address)
	if err = first.say(g.hello()); err == nil {
		var h hello
		if h, err = first.hear(left); err == nil { // once all are there
			switch why := g.check(h, 0); {
			case h.Refused != "":
				err = fmt.Errorf("%w: %s", errRefused, h.Refused)
			case why != "":
				err = fmt.Errorf("%w: %s", errRefused, why)
			default:
				first.name = h.Host
				g.links = []*link{first}
				return nil
			}
		}
	}
	conn.Close()
	return err
}

func newLink(conn net.Conn, rank int, name string) *link {
	return &link{rank: rank, name: name, conn: conn, in: make(chan []byte, 16), bye: make(chan struct{})}
}

func (l *link) say(h hello) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return l.send(kindData, data)
}

func (l *link) hear(within time.Duration) (h hello, err error) {
	kind, data, err := l.receiveWithin(within)
	if err == nil && (kind != kindData || json.Unmarshal(data, &h) != nil) {
		err = errors.New("it is not a rank of " + program)
	}
	return h, err
}

func (l *link) send(kind byte, data []byte) error {
	message := append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data))), data...)
	l.writes.Lock()
	defer l.writes.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return err
	}
	_, err := l.conn.Write(message)
	return err
}

func (l *link) receive() (kind byte, data []byte, err error) { return l.receiveWithin(silence) }

func (l *link) receiveWithin(d time.Duration) (kind byte, data []byte, err error) {
	if err := l.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return 0, nil, err
	}
	var head [5]byte
	if _, err := io.ReadFull(l.conn, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxMessage {
		return 0, nil, errors.New("it is not a rank of " + program)
	}
	data = make([]byte, n)
	_, err = io.ReadFull(l.conn, data)
	return head[0], data, err
}
