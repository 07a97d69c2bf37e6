package main

import (
	"errors"

	"github.com/spf13/cobra"

	"gqa/configs/recipe"
	"gqa/internal/cli"
	"gqa/internal/devices"
	"gqa/internal/manifest"
)

func newManifest() *cobra.Command {
	var config, output, kind string
	var sets []string
	job := manifest.Job{Workers: 1, Each: 1}
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Print what starts a run with several processes on a cluster",
		Long: `Print what starts a run with several processes on a cluster: an MPIJob or a PyTorchJob of Kubeflow, for kubectl apply -f -, or a script
for Slurm's sbatch. The other flags are those of gqa-train run, and paths in them are those within the cluster: all processes must see the
model, the data and the run's folder. Processes take a GPU each, or with --device cpu compute on the processor.`,
		Example: `  gqa-train manifest --kind slurm --workers 2 --per-worker 8 --model M --data D --steps 1000 | sbatch
  gqa-train manifest --kind pytorchjob --workers 4 --image IMAGE --volume data:/data --model /data/M --data /data/D -o /data/run --steps 1000 |
    kubectl apply -f -`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := loadRecipe(config, sets)
			if err != nil {
				return cli.UsageError{Err: err}
			}
			job.Name, job.GPUs = r.Name, r.Device != devices.CPU
			if job.Command, err = runCommand(config, output, sets); err != nil {
				return err
			}
			err = job.Write(cmd.OutOrStdout(), manifest.Kind(kind))
			if errors.As(err, new(manifest.Error)) {
				return cli.UsageError{Err: err}
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&kind, "kind", "", "`KIND` of manifest: mpijob, pytorchjob or slurm")
	fl.IntVar(&job.Workers, "workers", 1, "number of machines or pods, `N`")
	fl.IntVar(&job.Each, "per-worker", 1, "number of processes on each worker, `N`")
	fl.StringVar(&job.Image, "image", "", "container `IMAGE` with gqa-train; for an mpijob also with Open MPI and sshd")
	fl.StringVar(&job.Volume, "volume", "", "persistent volume claim that all pods mount, and where: `CLAIM:PATH`")
	fl.StringVarP(&config, "config", "c", "default", "`RECIPE` to use: a .yaml file or the name of an embedded recipe")
	fl.StringVarP(&output, "output", "o", "", "folder of the run, `DIR` (default runs/NAME)")
	addKeys(fl, &sets)
	fl.Var(keyFlag{"device=", "NAME", &sets}, "device", "where to compute: auto, cuda or cpu (default auto)")
	return cmd
}

// runCommand returns the command of each process. The settings of a recipe in a file are written out, as the file may not exist in the
// cluster.
func runCommand(config, output string, sets []string) ([]string, error) {
	base, err := recipe.Default()
	if err != nil {
		return nil, err
	}
	r, err := recipe.Load(config)
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		if err := r.Set(set); err != nil {
			return nil, err
		}
	}
	command := []string{"gqa-train", "run"}
	for _, c := range base.Diff(r) {
		command = append(command, "--set", c.Setting())
	}
	if output != "" {
		command = append(command, "-o", output)
	}
	return command, nil
}
