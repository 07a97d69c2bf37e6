package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Grace is how long the processes of a job may go on after one of them has failed, before they are killed.
const Grace = 10 * time.Second

// RankError reports a process that has failed. It has said why unless a signal ended it.
type RankError struct {
	Rank, PID int
	Err       *exec.ExitError
}

// Error names the process.
func (e RankError) Error() string {
	return fmt.Sprintf("rank %d (process %d) ended with %v; the others were stopped", e.Rank, e.PID, e.Err)
}

// Unwrap returns the process's state.
func (e RankError) Unwrap() error { return e.Err }

// Told reports whether the process has said itself why it failed.
func (e RankError) Told() bool { return e.Err.Exited() }

// Local starts n processes of a program on this machine, with this one's environment and torchrun's variables, and waits for them. Once ctx
// is done they are interrupted. If one fails, the others are stopped and its error, a RankError, is returned.
func Local(ctx context.Context, n int, program string, args []string) error {
	runtime.LockOSThread() // the kernel ends the processes with the thread that started them
	defer runtime.UnlockOSThread()
	port, err := freePort()
	if err != nil {
		return err
	}
	type end struct {
		rank int
		err  error
	}
	ends := make(chan end, n)
	var all []*exec.Cmd
	for rank := range n {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(),
			"RANK="+strconv.Itoa(rank), "LOCAL_RANK="+strconv.Itoa(rank), "WORLD_SIZE="+strconv.Itoa(n), "LOCAL_WORLD_SIZE="+strconv.Itoa(n),
			"MASTER_ADDR=127.0.0.1", "MASTER_PORT="+strconv.Itoa(port), "TORCHELASTIC_USE_AGENT_STORE=")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		separate(cmd)
		if err := cmd.Start(); err != nil {
			signalAll(all, os.Kill)
			return fmt.Errorf("starting rank %d: %w", rank, err)
		}
		all = append(all, cmd)
		go func() { ends <- end{rank, cmd.Wait()} }()
	}
	var first error
	var kill <-chan time.Time
	stop := ctx.Done()
	for left := n; left > 0; {
		select {
		case <-stop:
			stop = nil
			signalAll(all, os.Interrupt)
		case <-kill:
			kill = nil
			signalAll(all, os.Kill)
		case e := <-ends:
			left--
			var exit *exec.ExitError
			if errors.As(e.err, &exit) {
				e.err = RankError{e.rank, all[e.rank].Process.Pid, exit}
			}
			switch {
			case e.err == nil:
			case first == nil:
				first, kill = e.err, time.After(Grace)
			case kill != nil && byItself(first) && !byItself(e.err): // what a signal has ended is the cause
				first = e.err
			}
		}
	}
	return first
}

// byItself reports whether a process has ended by itself, which has then said why.
func byItself(err error) bool {
	var failed RankError
	return errors.As(err, &failed) && failed.Told()
}

// signalAll signals processes, those that have ended too, which is no error.
func signalAll(all []*exec.Cmd, s os.Signal) {
	for _, cmd := range all {
		_ = cmd.Process.Signal(s)
	}
}

// freePort returns a port of the loopback interface that nobody uses yet.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Without returns arguments without a flag that has a value.
func Without(args []string, flag string) (rest []string) {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(rest, args[i:]...)
		case args[i] == flag:
			i++
		case !strings.HasPrefix(args[i], flag+"="):
			rest = append(rest, args[i])
		}
	}
	return rest
}
