package manifest

import (
	"io"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// object is a mapping whose keys keep their order.
type object = yaml.MapSlice

func item(key string, value any) yaml.MapItem { return yaml.MapItem{Key: key, Value: value} }

func writeYAML(w io.Writer, o object) error {
	text, err := yaml.MarshalWithOptions(o, yaml.Indent(2), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// pytorchJob returns a PyTorchJob: each pod has one process and one GPU, and gets torchrun's variables from the operator.
func (j Job) pytorchJob() object {
	replicas := object{item("Master", j.replica(1, j.container("pytorch", j.Command, 1)))}
	if j.Workers > 1 {
		replicas = append(replicas, item("Worker", j.replica(j.Workers-1, j.container("pytorch", j.Command, 1))))
	}
	return object{
		item("apiVersion", "kubeflow.org/v1"), item("kind", "PyTorchJob"), item("metadata", object{item("name", j.Name)}),
		item("spec", object{
			item("runPolicy", object{item("cleanPodPolicy", "Running"), item("backoffLimit", 3)}),
			item("pytorchReplicaSpecs", replicas),
		}),
	}
}

// mpiJob returns an MPIJob: mpirun in the launcher's pod starts processes in the workers' pods by ssh.
func (j Job) mpiJob() object {
	gpus := 0
	if j.GPUs {
		gpus = j.Each
	}
	return object{
		item("apiVersion", "kubeflow.org/v2beta1"), item("kind", "MPIJob"), item("metadata", object{item("name", j.Name)}),
		item("spec", object{
			item("slotsPerWorker", j.Each), item("mpiImplementation", "OpenMPI"),
			item("runPolicy", object{item("cleanPodPolicy", "Running"), item("backoffLimit", 3)}),
			item("mpiReplicaSpecs", object{
				item("Launcher", j.replica(1, j.container("mpi-launcher", []string{"sh", "-c", j.mpirun()}, 0))),
				item("Worker", j.replica(j.Workers, j.container("mpi-worker", []string{"/usr/sbin/sshd", "-De"}, gpus))),
			}),
		}),
	}
}

// mpirun returns the launcher's command. The operator writes the workers' names into hostfile, and mpirun passes variables on only if it is
// told to.
func (j Job) mpirun() string {
	const hostfile = "/etc/mpi/hostfile"
	run := []string{"exec mpirun --allow-run-as-root", "-n", strconv.Itoa(j.Workers * j.Each)}
	if j.GPUs {
		run = append(run, `-x MASTER_ADDR="$(head -n 1 `+hostfile+` | cut -d ' ' -f 1)" -x MASTER_PORT=`+port,
			`$(env | sed -n 's/^\(NCCL_[A-Z0-9_]*\)=.*/-x \1/p')`)
	}
	return strings.Join(append(run, shell(j.Command)), " ")
}

func (j Job) replica(n int, container object) object {
	pod := object{item("containers", []object{container})}
	var volumes []object
	if claim, _, ok := strings.Cut(j.Volume, ":"); ok {
		volumes = append(volumes, object{item("name", "data"), item("persistentVolumeClaim", object{item("claimName", claim)})})
	}
	// NCCL and Open MPI exchange data by shared memory, of which a pod has 64 MiB otherwise.
	volumes = append(volumes, object{item("name", "shm"), item("emptyDir", object{item("medium", "Memory")})})
	return object{
		item("replicas", n), item("restartPolicy", "OnFailure"),
		item("template", object{item("spec", append(pod, item("volumes", volumes)))}),
	}
}

func (j Job) container(name string, command []string, gpus int) object {
	c := object{item("name", name), item("image", j.Image), item("command", command)}
	if gpus > 0 {
		c = append(c, item("resources", object{item("limits", object{item("nvidia.com/gpu", gpus)})}))
	}
	var mounts []object
	if _, path, ok := strings.Cut(j.Volume, ":"); ok {
		mounts = append(mounts, object{item("name", "data"), item("mountPath", path)})
	}
	return append(c, item("volumeMounts", append(mounts, object{item("name", "shm"), item("mountPath", "/dev/shm")})))
}
