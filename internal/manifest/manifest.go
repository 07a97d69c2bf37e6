// Package manifest writes what starts a job of several processes on a cluster: for the operators of Kubeflow, and for Slurm.
package manifest

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Kind is a kind of manifest.
type Kind string

// Kinds.
const (
	MPIJob     Kind = "mpijob"     // kubeflow.org/v2beta1, of the MPI Operator
	PyTorchJob Kind = "pytorchjob" // kubeflow.org/v1, of the Training Operator
	Slurm      Kind = "slurm"      // a script for sbatch
)

// Kinds are all kinds.
var Kinds = []Kind{MPIJob, PyTorchJob, Slurm}

// Job is a run of gqa-train by several processes.
type Job struct {
	Name    string
	Workers int      // machines, or pods
	Each    int      // processes on each worker
	GPUs    bool     // each process computes on a GPU of its own; otherwise on the processor, by Open MPI
	Image   string   // with gqa-train, and for an MPIJob Open MPI and sshd; not for Slurm
	Volume  string   // CLAIM:PATH, a persistent volume claim that all pods mount; not for Slurm
	Command []string // gqa-train and its arguments
}

// Error reports a job that a kind of manifest cannot express. The text is about flags' values.
type Error struct{ Flag, Text string }

// Error names the flag.
func (e Error) Error() string { return e.Flag + " " + e.Text }

// names are the names that Kubernetes accepts for a job, some of whose pods' names are longer.
var names = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$`)

// Write writes the job's manifest.
func (j Job) Write(w io.Writer, kind Kind) error {
	if err := j.check(kind); err != nil {
		return err
	}
	switch kind {
	case MPIJob:
		return writeYAML(w, j.mpiJob())
	case PyTorchJob:
		return writeYAML(w, j.pytorchJob())
	}
	_, err := io.WriteString(w, j.slurm())
	return err
}

func (j Job) check(kind Kind) error {
	claim, path, mounted := strings.Cut(j.Volume, ":")
	switch {
	case kind == "":
		return Error{"--kind", fmt.Sprintf("is missing, want one of %v", Kinds)}
	case !slices.Contains(Kinds, kind):
		return Error{"--kind", fmt.Sprintf("is %q, want one of %v", kind, Kinds)}
	case j.Workers < 1:
		return Error{"--workers", fmt.Sprintf("is %d, want at least 1", j.Workers)}
	case j.Each < 1:
		return Error{"--per-worker", fmt.Sprintf("is %d, want at least 1", j.Each)}
	case kind == PyTorchJob && !j.GPUs:
		return Error{"--kind", "pytorchjob is for GPUs: on the processor Open MPI connects the processes, so want mpijob or slurm"}
	case kind == PyTorchJob && j.Each > 1:
		return Error{"--per-worker", fmt.Sprintf("is %d, want 1 for a pytorchjob, whose pods have a process each, and as many workers as GPUs", j.Each)}
	case kind == Slurm && (j.Image != "" || j.Volume != ""):
		return Error{"--image and --volume", "are for pods, want none for slurm"}
	case kind == Slurm:
		return nil
	case j.Image == "":
		return Error{"--image", "is missing: an image with gqa-train, and for an mpijob with Open MPI and sshd"}
	case !names.MatchString(j.Name):
		return Error{"--name", fmt.Sprintf("is %q, want at most 42 of a-z, 0-9 and -, as Kubernetes does", j.Name)}
	case j.Volume != "" && (!mounted || claim == "" || !strings.HasPrefix(path, "/")):
		return Error{"--volume", fmt.Sprintf("is %q, want CLAIM:/PATH, such as data:/data", j.Volume)}
	}
	return nil
}

// port is where ranks meet within pods, which have an address of their own.
const port = "29500"

// shell joins words into a command for sh.
func shell(words []string) string {
	var quoted []string
	for _, w := range words {
		if plainWord.MatchString(w) {
			quoted = append(quoted, w)
		} else {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
	}
	return strings.Join(quoted, " ")
}

var plainWord = regexp.MustCompile(`^[-+=:,./@%_a-zA-Z0-9]+$`)
