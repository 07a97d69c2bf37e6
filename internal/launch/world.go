// Package launch finds out which processes train a model together: from the environment that launchers give them, and from each
// other. It also starts the processes of one machine.
package launch

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// World is this process's place among those that a launcher has started.
type World struct {
	Rank, Size int    // among all
	Local      int    // among those on this machine
	Launcher   string // torchrun, Open MPI or Slurm; empty: none has started this process
	Address    string // host and port at which the ranks meet; empty if the launcher does not say it
}

// Alone reports whether this process was started by itself.
func (w World) Alone() bool { return w.Launcher == "" }

// launchers are the variables of each launcher, in the order in which they are looked for: mpirun may run within a job of Slurm. Without
// a size a launcher has not started this process.
var launchers = []struct{ name, size, rank, local string }{
	{"torchrun", "WORLD_SIZE", "RANK", "LOCAL_RANK"},
	{"Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"},
	{"Slurm", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"}, // of a step: a batch script has SLURM_NTASKS too, but is one process
}

// FromEnvironment reads what a launcher has put into the environment.
func FromEnvironment(getenv func(string) string) (World, error) {
	for _, l := range launchers {
		if getenv(l.size) == "" || l.name == "torchrun" && getenv(l.rank) == "" {
			continue
		}
		w := World{Launcher: l.name}
		for _, v := range []struct {
			name     string
			to       *int
			lo       int
			optional bool
		}{{l.size, &w.Size, 1, false}, {l.rank, &w.Rank, 0, false}, {l.local, &w.Local, 0, true}} {
			text := getenv(v.name)
			if text == "" && v.optional {
				continue
			}
			n, err := strconv.Atoi(text)
			if err != nil || n < v.lo {
				return World{}, fmt.Errorf("the variable %s, which %s sets, is %q, want a number from %d on", v.name, l.name, text, v.lo)
			}
			*v.to = n
		}
		if w.Rank >= w.Size {
			return World{}, fmt.Errorf("the variable %s is %d, want less than %s, which is %d", l.rank, w.Rank, l.size, w.Size)
		}
		if w.Launcher == "Slurm" && w.Size == 1 { // srun of one task is no more than a way to start it
			return World{Size: 1}, nil
		}
		return w.meet(getenv)
	}
	return World{Size: 1}, nil
}

// defaultPort is where the ranks meet if nothing says otherwise. It is torchrun's.
const defaultPort = 29500

// meet finds out at which address the ranks meet.
func (w World) meet(getenv func(string) string) (World, error) {
	port := defaultPort
	if text := getenv("MASTER_PORT"); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return World{}, fmt.Errorf("the variable MASTER_PORT is %q, want a port", text)
		}
		port = int(n)
	}
	if getenv("TORCHELASTIC_USE_AGENT_STORE") == "True" { // torchrun itself uses the port
		port++
	}
	host := getenv("MASTER_ADDR")
	switch {
	case host != "":
	case w.Launcher == "Slurm":
		host = firstHost(getenv("SLURM_STEP_NODELIST"))
	case w.Launcher == "Open MPI" && getenv("OMPI_COMM_WORLD_LOCAL_SIZE") == getenv("OMPI_COMM_WORLD_SIZE"):
		host = "127.0.0.1"
	}
	if host != "" {
		w.Address = net.JoinHostPort(host, strconv.Itoa(port))
	}
	return w, nil
}

// firstHost returns the first name of a list as Slurm writes it: node7, node[01-03,7],other.
func firstHost(list string) string {
	name, rest, ranges := strings.Cut(list, "[")
	if before, _, more := strings.Cut(name, ","); more || !ranges {
		return before
	}
	inside, after, _ := strings.Cut(rest, "]")
	first, _, _ := strings.Cut(inside, ",")
	first, _, _ = strings.Cut(first, "-")
	after, _, _ = strings.Cut(after, ",")
	return name + first + after
}
