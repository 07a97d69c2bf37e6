//go:build mpi && linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gqa/checkpoints"
	"gqa/internal/golden"
	"gqa/train"
)

// mpiRun is a run of a tiny model by the processes of mpirun.
type mpiRun struct {
	t           *testing.T
	binary, ids string
}

func newMPIRun(t *testing.T) *mpiRun {
	t.Helper()
	for _, name := range []string{"mpirun", "go"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("there is no %s (Debian: apt-get install openmpi-bin)", name)
		}
	}
	t.Setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
	t.Setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
	r := &mpiRun{t, filepath.Join(t.TempDir(), "gqa-train"), t.TempDir()}
	build := exec.Command("go", "build", "-tags", "mpi", "-o", r.binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	windows := golden.Windows(1, 64, 32, 128)
	spec := checkpoints.Spec{Name: "input_ids", DType: checkpoints.I32, Shape: []int{len(windows), len(windows[0])}}
	err := checkpoints.Write(r.ids, []checkpoints.Spec{spec}, checkpoints.WriteOptions{}, func(_ checkpoints.Spec, w io.Writer) error {
		for _, ids := range windows {
			if err := binary.Write(w, binary.LittleEndian, ids); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// begin returns the arguments that begin a run in a folder.
func (r *mpiRun) begin(dir string, sets ...string) []string {
	tiny, err := filepath.Abs("../../train/testdata/llama-g2")
	if err != nil {
		r.t.Fatal(err)
	}
	data := filepath.Join(r.ids, "model.safetensors")
	args := []string{"run", "-o", dir, "--model", tiny, "--data", data, "--valid", data, "--device", "cpu", "--log-format", "json"}
	for _, set := range append([]string{"batch=4", "accumulate=1", "seq_len=32", "steps=50", "save_every=20", "keep=0", "schedule.warmup=5", "valid_windows=4", "threads=1"}, sets...) {
		args = append(args, "--set", set)
	}
	return args
}

// command returns the command that runs n processes; 0 stands for one without mpirun.
func (r *mpiRun) command(n int, args ...string) *exec.Cmd {
	if n == 0 {
		return exec.Command(r.binary, args...)
	}
	return exec.Command("mpirun", append([]string{"--oversubscribe", "-n", strconv.Itoa(n), r.binary}, args...)...)
}

func (r *mpiRun) must(n int, args ...string) string {
	r.t.Helper()
	out, err := r.command(n, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%d processes: %v\n%s", n, err, out)
	}
	return string(out)
}

// agree compares the figures of two runs of 50 steps: to the bit, or within a tolerance.
func (r *mpiRun) agree(what, dir, want string, tolerance float64) {
	r.t.Helper()
	a, err := train.ReadMetrics(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := train.ReadMetrics(want)
	if err != nil || len(a) != 50 || len(b) != 50 {
		r.t.Fatalf("%s: %d steps and %d, want 50: %v", what, len(a), len(b), err)
	}
	most := 0.0
	for i := range a {
		most = max(most, math.Abs(float64(a[i].Loss-b[i].Loss)), math.Abs(float64(a[i].GradNorm-b[i].GradNorm))/10)
	}
	most = max(most, math.Abs(*a[49].ValidLoss-*b[49].ValidLoss))
	if r.t.Logf("%s: losses differ by %.2g at most", what, most); !(most <= tolerance) {
		r.t.Errorf("%s: losses differ by %v, want at most %v", what, most, tolerance)
	}
	model := func(dir string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, "model", "model.safetensors"))
		if err != nil {
			r.t.Fatal(err)
		}
		return text
	}
	if tolerance == 0 && !bytes.Equal(model(dir), model(want)) {
		r.t.Errorf("%s: the model has other bits", what)
	}
}

// Several processes give the losses of one. Only the first writes. If one is killed the job ends and says so, and the run goes on: with as
// many processes to the bit, with others within rounding.
func TestMPI(t *testing.T) {
	r, dir := newMPIRun(t), t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	r.must(0, r.begin(one)...)
	out := r.must(2, r.begin(two)...)
	r.agree("two processes", two, one, 1e-5)
	if strings.Count(out, `"step":50,`) != 1 || strings.Count(out, "finished") != 1 {
		t.Errorf("more than one process has written:\n%s", out)
	}
	three := filepath.Join(dir, "three")
	r.must(3, r.begin(three, "sharding=gradients", "batch=2", "accumulate=2")...)
	r.agree("three processes that divide the gradients too", three, one, 1e-5)

	whole := filepath.Join(dir, "whole")
	r.must(2, r.begin(whole, "sharding=parameters", "recompute=layer")...)
	r.agree("two processes that divide the weights too", whole, two, 0)

	killed := filepath.Join(dir, "killed")
	r.kill(killed, r.command(2, r.begin(killed, "log_every=1")...))
	for n := range 4 {
		again := filepath.Join(dir, fmt.Sprint("again-", n))
		if err := os.CopyFS(again, os.DirFS(killed)); err != nil {
			t.Fatal(err)
		}
		r.must(n, "resume", again)
		tolerance := 1e-5
		if n == 2 {
			tolerance = 0
		}
		r.agree(fmt.Sprintf("resumed with %d", n), again, two, tolerance)
	}
}

// Parts of the weights, Adafactor, skipped steps, validations and the best checkpoint are those of one process, also when a run goes on with
// another number of processes.
func TestMPIOptions(t *testing.T) {
	r, dir := newMPIRun(t), t.TempDir()
	for name, sets := range map[string][]string{
		"lora, adafactor": {"train=lora", "optimizer.name=adafactor", "optimizer.lr=1e-3"},
		"attention":       {"train=attention", "sharding=gradients", "skip.spike=1.5", "skip.limit=50", "optimizer.lr=1e-5"},
	} {
		one, two := filepath.Join(dir, "one "+name), filepath.Join(dir, "two "+name)
		sets = append(sets, "best=loss", "valid_every=20")
		r.must(0, r.begin(one, sets...)...)
		r.must(2, r.begin(two, sets...)...)
		again := filepath.Join(dir, "three "+name)
		if err := os.CopyFS(again, os.DirFS(two)); err != nil {
			t.Fatal(err)
		}
		for _, later := range []string{"checkpoints/step-40", "checkpoints/step-50", "model"} {
			if err := os.RemoveAll(filepath.Join(again, later)); err != nil {
				t.Fatal(err)
			}
		}
		r.must(3, "resume", again)
		for _, run := range []string{two, again} {
			r.agree(filepath.Base(run), run, one, 1e-5)
			a, err := train.ReadStatus(run)
			b, errOne := train.ReadStatus(one)
			if err != nil || errOne != nil || a.Skipped != b.Skipped || a.Best != b.Best || a.Best == 0 || (a.Skipped > 0) != (name == "attention") {
				t.Errorf("%s: %+v, want %+v, %v, %v", run, a, b, err, errOne)
			}
		}
	}
}

// kill kills the second process of a job after step 20 is saved, and waits for the job's end.
func (r *mpiRun) kill(dir string, job *exec.Cmd) {
	r.t.Helper()
	var out bytes.Buffer
	job.Stdout, job.Stderr = &out, &out
	if err := job.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- job.Wait() }()
	for {
		if _, err := os.Stat(filepath.Join(dir, "checkpoints", "step-20")); err == nil {
			break
		}
		select {
		case err := <-ended:
			r.t.Fatalf("ended before step 20: %v\n%s", err, out.String())
		case <-time.After(time.Millisecond):
		}
	}
	process, err := os.FindProcess(rankOf(r.t, dir))
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(out.String(), "signal 9 (Killed)") {
			r.t.Fatalf("%v\n%s", err, out.String())
		}
	case <-time.After(30 * time.Second):
		r.t.Fatal("the job goes on without a process")
	}
	if s, err := train.ReadStatus(dir); err != nil || s.State != train.Interrupted || s.Saved < 20 || s.Saved == 50 {
		r.t.Fatalf("%+v, %v", s, err)
	}
}

// rankOf returns the process that is rank 1 of the job that trains in a folder.
func rankOf(t *testing.T, dir string) int {
	t.Helper()
	found, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range found {
		environ, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environ, []byte("OMPI_COMM_WORLD_RANK=1\x00")) {
			continue
		}
		args, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if pid, bad := strconv.Atoi(filepath.Base(filepath.Dir(path))); bad == nil && err == nil && bytes.Contains(args, []byte("\x00"+dir+"\x00")) {
			return pid
		}
	}
	t.Fatal("there is no process of rank 1")
	return 0
}

// Two network namespaces are two hosts, which reach each other by TCP alone.
func TestMPIHosts(t *testing.T) {
	r, dir := newMPIRun(t), t.TempDir()
	names := [2]string{fmt.Sprintf("gqa-a%d", os.Getpid()), fmt.Sprintf("gqa-b%d", os.Getpid())}
	ip := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	for _, name := range names {
		if err := ip("netns", "add", name); err != nil {
			t.Skipf("network namespaces cannot be made here (they need root and Debian's iproute2): %v", err)
		}
		t.Cleanup(func() {
			if err := ip("netns", "del", name); err != nil {
				t.Error(err)
			}
		})
	}
	for _, args := range []string{
		"link add gqa0 netns A type veth peer name gqa1 netns B",
		"-n A addr add 10.77.0.1/24 dev gqa0", "-n B addr add 10.77.0.2/24 dev gqa1",
		"-n A link set gqa0 up", "-n B link set gqa1 up", "-n A link set lo up", "-n B link set lo up",
	} {
		if err := ip(strings.Fields(strings.NewReplacer("A", names[0], "B", names[1]).Replace(args))...); err != nil {
			t.Skipf("network namespaces cannot be joined here: %v", err)
		}
	}
	agent := filepath.Join(dir, "agent") // takes the place of ssh
	if err := os.WriteFile(agent, []byte("#!/bin/sh\nshift\nexec ip netns exec "+names[1]+" sh -c \"$*\"\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	r.must(0, r.begin(one)...)
	job := append([]string{
		"netns", "exec", names[0], "mpirun", "--host", "10.77.0.1,10.77.0.2", "--mca", "plm_rsh_agent", agent, "--mca", "btl", "tcp,self", "--mca", "pml", "ob1",
		"--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_if_include", "10.77.0.0/24", "-n", "2", r.binary,
	}, r.begin(two)...)
	if out, err := exec.Command("ip", job...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.agree("two hosts", two, one, 1e-5)
	sent, err := exec.Command("ip", "netns", "exec", names[0], "cat", "/sys/class/net/gqa0/statistics/tx_bytes").Output()
	if n, bad := strconv.Atoi(strings.TrimSpace(string(sent))); err != nil || bad != nil || n < 50*100_000 {
		t.Errorf("the first host has sent %s bytes to the second: %v", bytes.TrimSpace(sent), err)
	}
}
