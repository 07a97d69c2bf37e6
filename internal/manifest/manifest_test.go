package manifest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var command = []string{"gqa-train", "run", "--model", "/data/my model", "--data", "/data/c.jsonl", "--set", "steps=3", "-o", "/data/it's"}

func text(t *testing.T, j Job, kind Kind) string {
	t.Helper()
	var b bytes.Buffer
	if err := j.Write(&b, kind); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func schema(t *testing.T, kind Kind) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", string(kind)+".schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parsed(t *testing.T, manifest string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(manifest), &v); err != nil {
		t.Fatalf("%v\n%s", err, manifest)
	}
	return v
}

// Manifests have the schemas of their kinds, and say what the job is.
func TestKubernetes(t *testing.T) {
	job := Job{Name: "first", Workers: 4, Each: 1, GPUs: true, Image: "registry/gqa:1", Volume: "claim:/data", Command: command}
	eight := job
	eight.Each = 8
	cpu := job
	cpu.GPUs, cpu.Volume = false, ""
	one := job
	one.Workers = 1
	for _, c := range []struct {
		kind Kind
		job  Job
		want []string
	}{
		{PyTorchJob, job, []string{"Master:", "replicas: 3", "nvidia.com/gpu: 1", "claimName: claim", "mountPath: /data"}},
		{PyTorchJob, one, []string{"replicas: 1"}},
		{MPIJob, eight, []string{"slotsPerWorker: 8", "replicas: 4", "-n 32", "nvidia.com/gpu: 8", "MASTER_ADDR=", "NCCL_", "'/data/my model'"}},
		{MPIJob, cpu, []string{"-n 4 gqa-train run"}},
	} {
		manifest := text(t, c.job, c.kind)
		if err := schema(t, c.kind).Validate(parsed(t, manifest)); err != nil {
			t.Errorf("%v\n%s", err, manifest)
		}
		for _, want := range c.want {
			if !strings.Contains(manifest, want) {
				t.Errorf("%s has no %s:\n%s", c.kind, want, manifest)
			}
		}
	}
	if manifest := text(t, cpu, MPIJob); strings.Contains(manifest, "gpu") || strings.Contains(manifest, "MASTER_ADDR") {
		t.Errorf("on the processor:\n%s", manifest)
	}
}

// The schemas find misspelt keys, wrong types and what is missing.
func TestSchemas(t *testing.T) {
	job := Job{Name: "first", Workers: 4, Each: 1, GPUs: true, Image: "registry/gqa:1", Volume: "claim:/data", Command: command}
	for _, kind := range []Kind{MPIJob, PyTorchJob} {
		manifest := text(t, job, kind)
		for _, change := range [][2]string{
			{"image:", "images:"}, {"replicas: 1", "replicas: one"}, {"restartPolicy:", "restartpolicy:"}, {"claimName:", "claim:"}, {"kind: ", "kind: My"}, {"- name: data", "- other: data"},
		} {
			changed := strings.ReplaceAll(manifest, change[0], change[1])
			if changed == manifest || schema(t, kind).Validate(parsed(t, changed)) == nil {
				t.Errorf("%s: %s is accepted", kind, change[1])
			}
		}
	}
}

// The commands within manifests are what a shell understands as the job's.
func TestShell(t *testing.T) {
	job := Job{Name: "first", Workers: 2, Each: 4, Command: command}
	for _, gpus := range []bool{false, true} {
		job.GPUs = gpus
		script := text(t, job, Slurm)
		start := "exec mpirun -n \"$SLURM_NTASKS\" "
		if gpus {
			start = "exec srun --kill-on-bad-exit=1 "
		}
		if !strings.Contains(script, "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=4\n") || gpus != strings.Contains(script, "#SBATCH --gpus-per-node=4\n") {
			t.Errorf("script:\n%s", script)
		}
		if _, err := exec.LookPath("bash"); err != nil {
			t.Skip(err)
		}
		stubs := "scontrol() { echo host7; echo host8; }\nSLURM_JOB_NODELIST=x SLURM_JOB_ID=12345\nset -- \n"
		out, err := exec.Command("bash", "-c", stubs+strings.Replace(script, start, `printf '[%s]' "${MASTER_ADDR-}:${MASTER_PORT-}" `, 1)).CombinedOutput()
		where := ":"
		if gpus {
			where = "host7:22345"
		}
		if want := "[" + where + "][" + strings.Join(command, "][") + "]"; err != nil || string(out) != want {
			t.Errorf("%v: %s, want %s", err, out, want)
		}
	}
}

// The launcher of an MPIJob passes on the environment, and the arguments as they were.
func TestMPIRun(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	v := parsed(t, text(t, Job{Name: "first", Workers: 2, Each: 4, GPUs: true, Image: "i", Command: command}, MPIJob))
	for _, key := range []any{"spec", "mpiReplicaSpecs", "Launcher", "template", "spec", "containers", 0, "command", 2} {
		if n, ok := key.(int); ok {
			v = v.([]any)[n]
		} else {
			v = v.(map[string]any)[key.(string)]
		}
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"mpirun": "#!/bin/sh\nprintf '[%s]' \"$@\"\n", "hostfile": "first-worker-0.first slots=4\nfirst-worker-1.first slots=4\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(v.(string), "/etc/mpi/hostfile", dir+"/hostfile"))
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "NCCL_DEBUG=INFO", "NCCL_IB_HCA=a b", "OTHER=x"}
	out, err := cmd.CombinedOutput()
	want := "[--allow-run-as-root][-n][8][-x][MASTER_ADDR=first-worker-0.first][-x][MASTER_PORT=29500][-x][NCCL_DEBUG][-x][NCCL_IB_HCA][" + strings.Join(command, "][") + "]"
	if err != nil || string(out) != want {
		t.Errorf("%v: %s, want %s", err, out, want)
	}
}

func TestRefuses(t *testing.T) {
	good := Job{Name: "a", Workers: 1, Each: 1, GPUs: true, Image: "i", Command: command}
	for want, change := range map[string]func(j *Job) Kind{
		`--kind is "x", want one of [mpijob pytorchjob slurm]`: func(*Job) Kind { return "x" },
		"--workers is 0, want at least 1":                      func(j *Job) Kind { j.Workers = 0; return MPIJob },
		"--per-worker is 2, want 1 for a pytorchjob":           func(j *Job) Kind { j.Each = 2; return PyTorchJob },
		"--kind pytorchjob is for GPUs":                        func(j *Job) Kind { j.GPUs = false; return PyTorchJob },
		"--image is missing":                                   func(j *Job) Kind { j.Image = ""; return MPIJob },
		`--name is "A b", want`:                                func(j *Job) Kind { j.Name = "A b"; return MPIJob },
		`--volume is "data", want CLAIM:/PATH`:                 func(j *Job) Kind { j.Volume = "data"; return MPIJob },
		"--image and --volume are for pods":                    func(*Job) Kind { return Slurm },
	} {
		j := good
		kind := change(&j)
		if err := j.Write(new(bytes.Buffer), kind); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
