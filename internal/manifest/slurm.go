package manifest

import (
	"fmt"
	"strings"
)

// slurm returns a script for sbatch. With GPUs srun starts the processes, otherwise Open MPI's mpirun, on the nodes that Slurm gives it.
func (j Job) slurm() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("#!/bin/bash")
	line("#SBATCH --job-name=%s", shell([]string{j.Name}))
	line("#SBATCH --nodes=%d", j.Workers)
	line("#SBATCH --ntasks-per-node=%d", j.Each)
	if j.GPUs {
		line("#SBATCH --gpus-per-node=%d", j.Each)
	}
	line("#SBATCH --output=%%x-%%j.log")
	line("# If the job ends before the run does, submit it again: the run goes on from its last checkpoint.")
	line("set -euo pipefail")
	if !j.GPUs {
		line(`exec mpirun -n "$SLURM_NTASKS" %s`, shell(j.Command))
		return b.String()
	}
	line(`MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)`)
	line(`MASTER_PORT=$((20000 + SLURM_JOB_ID %% 10000))`)
	line("export MASTER_ADDR MASTER_PORT")
	line("exec srun --kill-on-bad-exit=1 %s", shell(j.Command))
	return b.String()
}
