package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"

	"gqa/configs/recipe"
	"gqa/internal/comm"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/devices"
	"gqa/internal/engine/spago"
	"gqa/internal/launch"
)

// team is the processes that train a run together, and this one's device. Only rank 0 writes to the run's folder.
type team struct {
	comm.Comm
	device  device.Device
	world   launch.World
	chosen  recipe.Sharding // what the processes divide, if the recipe leaves that to them; see divide
	release func()          // unlocks the run's folder; nil: it is not locked, as always on other ranks than 0
}

// solo returns a team of one process.
func solo(d device.Device) *team {
	return &team{Comm: comm.Alone(), device: d, world: launch.World{Size: 1}}
}

// joinTeam finds the other processes that a launcher has started, if it has. With others the device is opened at once, otherwise by open.
func joinTeam(r *recipe.Recipe, o Options) (*team, error) {
	if o.team != nil {
		return o.team, nil
	}
	world, err := launch.FromEnvironment(os.Getenv)
	if err != nil || world.Alone() {
		return solo(nil), err
	}
	t := &team{world: world}
	if err := t.open(r); err != nil {
		return nil, err
	}
	if t.Comm, err = launch.Join(world, t.device); err != nil {
		return nil, err
	}
	if comm.IsAlone(t.Comm) {
		return solo(t.device), nil
	}
	if _, other := t.device.(device.Namer); !other {
		makeRoom(r)
	}
	slog.Info("training with several processes", "ranks", world.Size, "started by", world.Launcher)
	return t, nil
}

// makeRoom lets the thread that speaks to other processes run beside those that compute.
func makeRoom(r *recipe.Recipe) {
	n := runtime.GOMAXPROCS(0)
	if r.Threads == 0 {
		cpu.SetThreads(n)
	}
	runtime.GOMAXPROCS(n + 1)
}

// alone reports whether this process trains by itself.
func (t *team) alone() bool { return t.world.Alone() }

// first reports whether this process is the one that writes.
func (t *team) first() bool { return t.Rank() == 0 }

// open opens the device that a recipe names, unless it is open. Each process of a machine takes a GPU of its own.
func (t *team) open(r *recipe.Recipe) error {
	if t.device != nil {
		return nil
	}
	name, err := t.deviceName(r)
	if err == nil {
		t.device, err = openDevice(r, name)
	}
	return err
}

// deviceName returns the name of this process's device.
func (t *team) deviceName(r *recipe.Recipe) (string, error) {
	name := cmp.Or(r.Device, devices.Auto)
	if t.alone() {
		return name, nil
	}
	name, err := devices.Share(name, t.world.Local)
	if err != nil {
		err = fmt.Errorf("device is %q, %w", r.Device, err)
	}
	return name, err
}

// sharing says how the optimizer's work is divided.
func (t *team) sharing(r *recipe.Recipe) spago.Sharing {
	if t.alone() {
		return spago.Sharing{}
	}
	divides := t.divides(r)
	return spago.Sharing{Group: t.Comm, Gradients: divides == recipe.ShardGradients, Parameters: divides == recipe.ShardParameters}
}

// least returns the smallest of the processes' numbers.
func (t *team) least(x float64) (float64, error) {
	all := make([]float64, t.Size())
	all[t.Rank()] = x
	err := t.Sum(all)
	return slices.Min(all), err
}

// together is an error that all processes know of.
type together struct {
	error
	told bool // by this process
}

func (e together) Unwrap() error { return e.error }

// unlock unlocks the run's folder.
func (t *team) unlock() {
	if t.release != nil {
		t.release()
	}
}

// agree returns an error on all processes if one of them has one. Those that have none, or are not the first that has one, get
// [comm.Elsewhere].
func (t *team) agree(err error) error {
	if t.alone() {
		return err
	}
	failed := make([]float64, t.Size())
	if err != nil {
		failed[t.Rank()] = 1
	}
	if lost := t.Sum(failed); lost != nil {
		return errors.Join(err, lost)
	}
	switch first := slices.Index(failed, 1); {
	case first < 0:
		return nil
	case first == t.Rank() && first > 0:
		return together{fmt.Errorf("rank %d: %w", first, err), true}
	case first == t.Rank():
		return together{err, true}
	default:
		return together{comm.Elsewhere{Rank: first}, false}
	}
}

// share marks an error that all processes have at the same time.
func (t *team) share(err error) error {
	if err == nil || t.alone() || errors.As(err, new(together)) {
		return err
	}
	return together{err, t.first()}
}

// decide returns rank 0's answer to a question.
func (t *team) decide(yes bool) (bool, error) {
	if t.alone() {
		return yes, nil
	}
	x := []float64{0}
	if yes && t.first() {
		x[0] = 1
	}
	err := t.Sum(x)
	return x[0] == 1, err
}

// onFirst calls f on rank 0, and returns its error on all.
func (t *team) onFirst(f func() error) error {
	var err error
	if t.first() {
		err = f()
	}
	return t.agree(err)
}

// leave ends this process's part with the outcome of a run. If it failed and the others do not know, they are ended.
func (t *team) leave(err error) error {
	if t.alone() {
		return err
	}
	var known together
	switch {
	case err == nil:
	case !errors.As(err, &known):
		t.Abort(fmt.Errorf("rank %d: %w", t.Rank(), err))
	case !known.told:
		err = comm.Elsewhere{}
	}
	return errors.Join(err, t.Close())
}

// together makes one process's figures of a step those of all: losses are summed, an error on one is an error on all, and all stop if
// one is asked to.
func (r *run) together(ctx context.Context, out *outcome, err error) error {
	t := r.team
	if t.alone() {
		return err
	}
	teacher := errors.Is(err, errTeacher)
	if r.trainer.Err() != nil || errors.Is(err, errCache) {
		return err // this process can go no further
	}
	x := []float64{
		out.loss, out.crossEntropy, out.divergence, count(ctx.Err() != nil), count(teacher), count(err != nil), count(errors.As(err, new(*badStep))),
	}
	if lost := t.Sum(x); lost != nil {
		return errors.Join(err, lost)
	}
	out.loss, out.crossEntropy, out.divergence = x[0], x[1], x[2]
	r.stop = x[3] > 0
	switch failed, bad := x[5], x[6]; {
	case failed == 0:
		return nil
	case x[4] > 0 && !teacher:
		err = fmt.Errorf("%w, as another process has found", errTeacher)
	case x[4] > 0: // it says more
	case bad == float64(t.Size()) && !isFinite(out.loss):
		err = &badStep{fmt.Sprintf("the loss is %v", out.loss)}
	case bad > 0 && bad < failed || err == nil:
		err = errors.New("the loss of another process's windows is not finite")
	}
	return t.share(err)
}

// stopping reports whether the run is to stop. All processes get the same answer.
func (r *run) stopping(ctx context.Context) bool {
	if r.team.alone() {
		return ctx.Err() != nil
	}
	return r.stop
}

func count(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// portion is what is computed at once: the windows [lo, hi) of a step, which belong to the micro-batch [first, end).
type portion struct{ lo, hi, first, end int }

// parts returns the parts of a step that a process computes, in order. The processes share the windows as evenly as they can.
func (t *trainer) parts(windows, rank int) (all []portion) {
	lo, hi := windows*rank/t.team.Size(), windows*(rank+1)/t.team.Size()
	for first := 0; first < windows; first += t.recipe.Batch {
		end := min(first+t.recipe.Batch, windows)
		last := min(hi, end)
		for at := max(lo, first); at < last; at += t.economy.Windows {
			all = append(all, portion{at, min(at+t.economy.Windows, last), first, end})
		}
	}
	return all
}

// rounds returns the largest number of parts that a process has.
func (t *trainer) rounds() (most int) {
	for rank := range t.team.Size() {
		most = max(most, len(t.parts(t.recipe.Batch*t.recipe.Accumulate, rank)))
	}
	return most
}
