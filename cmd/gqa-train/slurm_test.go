//go:build mpi && linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gqa/internal/launch"
	"gqa/train"
)

// slurm is a cluster of this machine alone.
type slurm struct{ dir string }

// newSlurm starts the daemons, with files and ports of their own.
func newSlurm(t *testing.T) *slurm {
	t.Helper()
	for _, name := range []string{"munged", "slurmctld", "slurmd", "sbatch"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("there is no %s (Debian: apt-get install slurm-wlm)", name)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("slurmd needs root")
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "gqa-slurm-") // not t.TempDir, whose path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	key := bytes.Repeat([]byte("gqa-test"), 16)
	conf := fmt.Sprintf(`ClusterName=gqa
SlurmctldHost=%[1]s(127.0.0.1)
SlurmUser=root
SlurmctldPort=%[3]d
SlurmdPort=%[4]d
AuthType=auth/munge
AuthInfo=socket=%[2]s/munge.socket
CryptoType=crypto/munge
StateSaveLocation=%[2]s/state
SlurmdSpoolDir=%[2]s/spool
SlurmctldPidFile=%[2]s/slurmctld.pid
SlurmdPidFile=%[2]s/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=%[1]s NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP
`, host, dir, freePort(t), freePort(t))
	for _, f := range []struct {
		name string
		text []byte
	}{{"munge.key", key}, {"slurm.conf", []byte(conf)}} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"state", "spool"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SLURM_CONF", filepath.Join(dir, "slurm.conf"))
	s := &slurm{dir}
	in := func(name string) string { return filepath.Join(dir, name) }
	s.daemon(t, "munged", "--foreground", "--force", "--socket="+in("munge.socket"), "--key-file="+in("munge.key"), "--log-file="+in("munge.log"),
		"--pid-file="+in("munge.pid"), "--seed-file="+in("munge.seed"))
	s.await(t, "munge's socket", func() bool { _, err := os.Stat(in("munge.socket")); return err == nil })
	s.daemon(t, "slurmctld", "-D", "-i")
	s.daemon(t, "slurmd", "-D", "-N", host)
	s.await(t, "the node", func() bool {
		out, _ := exec.Command("sinfo", "-h", "-o", "%t").Output()
		return strings.TrimSpace(string(out)) == "idle"
	})
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// daemon runs a daemon until the test ends.
func (s *slurm) daemon(t *testing.T, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(s.dir, name+".out"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		stop := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		stop.Stop()
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", name, text)
		}
	})
}

func (s *slurm) await(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for range 600 {
		if ready() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s is not there after a minute", what)
}

// TestSlurm runs the script that gqa-train manifest prints, by sbatch.
func TestSlurm(t *testing.T) {
	r := newMPIRun(t)
	s := newSlurm(t)
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	args := append([]string{"manifest", "--kind", "slurm", "--workers", "1", "--per-worker", "2"}, r.begin(run)[1:]...)
	script := strings.Replace(r.must(0, args...), "gqa-train run", r.binary+" run", 1)
	submit := exec.Command("sbatch", "--chdir", dir)
	submit.Stdin = strings.NewReader(script)
	out, err := submit.CombinedOutput()
	id := regexp.MustCompile(`\d+$`).FindString(strings.TrimSpace(string(out)))
	if err != nil || id == "" {
		t.Fatalf("%v: %s", err, out)
	}
	log := func() string {
		found, _ := filepath.Glob(filepath.Join(dir, "*-"+id+".log"))
		if len(found) == 0 {
			return ""
		}
		text, _ := os.ReadFile(found[0])
		return string(text)
	}
	s.await(t, "the job's end", func() bool {
		out, err := exec.Command("squeue", "-h", "-j", id, "-o", "%t").CombinedOutput()
		return err != nil || len(bytes.TrimSpace(out)) == 0 || strings.Contains(string(out), "CG")
	})
	s.await(t, "the end of the job's log", func() bool { return strings.Contains(log(), "finished") || strings.Contains(log(), "gqa-train: ") })
	one := filepath.Join(dir, "one")
	r.must(0, r.begin(one)...)
	if status, err := train.ReadStatus(run); err != nil || status.State != train.Finished || !strings.Contains(log(), "ranks=2 ") {
		t.Fatalf("%+v, %v\n%s", status, err, log())
	}
	r.agree("a job of Slurm", run, one, 1e-5)
	s.worlds(t)
}

// worlds checks what Slurm says to processes: each that srun starts is a rank, and a batch script is none.
func (s *slurm) worlds(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"srun", "-n", "2", "sh", "-c", "env > " + s.dir + "/env-$SLURM_PROCID"},
		{"sbatch", "--wait", "-n", "2", "-o", "/dev/null", "--wrap", "env > " + s.dir + "/env-batch"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]launch.World{
		"0":     {Rank: 0, Size: 2, Local: 0, Launcher: "Slurm", Address: host + ":29500"},
		"1":     {Rank: 1, Size: 2, Local: 1, Launcher: "Slurm", Address: host + ":29500"},
		"batch": {Size: 1},
	} {
		text, err := os.ReadFile(filepath.Join(s.dir, "env-"+name))
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			all[key] = value
		}
		if got, err := launch.FromEnvironment(func(name string) string { return all[name] }); err != nil || got != want {
			t.Errorf("%s: %+v %v, want %+v", name, got, err, want)
		}
	}
}
