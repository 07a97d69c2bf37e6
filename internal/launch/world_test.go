package launch

import (
	"strings"
	"testing"
)

func environment(text string) func(string) string {
	all := map[string]string{}
	for _, v := range strings.Fields(text) {
		name, value, _ := strings.Cut(v, "=")
		all[name] = value
	}
	return func(name string) string { return all[name] }
}

func TestFromEnvironment(t *testing.T) {
	for text, want := range map[string]World{
		"": {Size: 1},
		"RANK=3 WORLD_SIZE=8 LOCAL_RANK=1 MASTER_ADDR=10.0.0.7 MASTER_PORT=1234":            {3, 8, 1, "torchrun", "10.0.0.7:1234"},
		"RANK=0 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=9 TORCHELASTIC_USE_AGENT_STORE=True": {0, 2, 0, "torchrun", "h:10"},
		"WORLD_SIZE=8": {Size: 1}, // of something else
		"OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2":                {1, 2, 1, "Open MPI", "127.0.0.1:29500"},
		"OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 SLURM_PROCID=0": {1, 4, 1, "Open MPI", ""},
		"OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 MASTER_ADDR=a":                               {1, 4, 0, "Open MPI", "a:29500"},
		"SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=2 SLURM_LOCALID=0 SLURM_NTASKS=4 SLURM_STEP_NODELIST=gpu[07-09,12]":                 {2, 4, 0, "Slurm", "gpu07:29500"},
		"SLURM_NTASKS=4 SLURM_PROCID=0":         {Size: 1}, // a batch script
		"SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0": {Size: 1},
	} {
		if got, err := FromEnvironment(environment(text)); err != nil || got != want {
			t.Errorf("%s: %+v %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"RANK=2 WORLD_SIZE=2":                   "RANK is 2, want less than WORLD_SIZE, which is 2",
		"RANK=-1 WORLD_SIZE=2":                  `RANK, which torchrun sets, is "-1", want a number from 0 on`,
		"RANK=0 WORLD_SIZE=x":                   `WORLD_SIZE, which torchrun sets, is "x", want a number from 1 on`,
		"RANK=0 WORLD_SIZE=2 MASTER_PORT=70000": `MASTER_PORT is "70000", want a port`,
		"OMPI_COMM_WORLD_SIZE=2":                `OMPI_COMM_WORLD_RANK, which Open MPI sets, is ""`,
	} {
		if _, err := FromEnvironment(environment(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestFirstHost(t *testing.T) {
	for list, want := range map[string]string{
		"": "", "a": "a", "a,b": "a", "n[3-5]": "n3", "n[03,7-8]": "n03", "n[1-2]-ib,m": "n1-ib", "x,n[1-2]": "x",
	} {
		if got := firstHost(list); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
}
