package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/limits"
	"gqa/internal/weights"
)

// Options say where a run is stored and who observes it.
type Options struct {
	Dir   string // the run folder; empty means runs/NAME
	Force bool   // replace an existing run
	Tasks Tasks  // loads a recipe's tasks; may be nil if it names none
	// Observe, if not nil, is called after every step.
	Observe func(Progress)

	team *team // nil: it is found
}

// Progress describes a completed step.
type Progress struct {
	Metrics
	Steps  int     // total
	Logged bool    // a log line is due: LogEvery steps have passed, or the step is the first or last or has a validation
	Pace   float64 // tokens per second of training since the last logged step
}

var (
	// ErrInterrupted is wrapped by the error of an interrupted run. The run has saved a checkpoint.
	ErrInterrupted = errors.New("interrupted")
	// ErrDiverged is wrapped by the error of a run whose loss, gradient or weights are no longer finite. Its checkpoints
	// are from before.
	ErrDiverged = errors.New("training diverged")
	// ErrSettings is wrapped by the error of a run whose folder holds a run with a different recipe.
	ErrSettings = errors.New("contains a run with different settings")
	// ErrNoModel is wrapped by the error of a run whose model does not exist.
	ErrNoModel = errors.New("there is no such file or folder")
)

// StopError reports a run that stopped early, and what is known about how to continue.
type StopError struct {
	Err   error
	Run   string  // the folder of a run that can be resumed; empty if Unfit must be fixed first
	Saved int     // step of the newest checkpoint; 0 if there is none, so a resumed run starts again
	LR    float64 // a lower learning rate to resume with; 0 if the rate is not the cause
	Unfit string  // a model or teacher that gives numbers on Data that are not finite; empty if there is none
	Data  string
}

// Error returns the text of Err.
func (e StopError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e StopError) Unwrap() error { return e.Err }

// run is an up-training in progress.
type run struct {
	dir     string
	recipe  *recipe.Recipe
	origin  *origin
	data    *trainingData
	trainer *trainer
	team    *team
	stop    bool // some process has been asked to stop
	state   state
	// identity is what must still hold when the run is resumed.
	identity identity
	metrics  []byte // metrics.jsonl as stored in the checkpoint that the run continues from; nil if it has none
	saved    int    // the last step with a checkpoint; -1 if there is none
	journal  *journal
	observe  func(Progress)
	pace     pace    // since the last logged step
	measure  Measure // of the recipe's tasks; nil if there are none
	best     best
}

// pace measures the training speed, excluding validations and checkpoints.
type pace struct {
	tokens int64
	busy   time.Duration
}

func (p pace) plus(q pace) pace { return pace{p.tokens + q.tokens, p.busy + q.busy} }

func (p pace) rate() float64 { return float64(p.tokens) / max(p.busy.Seconds(), 1e-9) }

// prepare reads everything that a run needs and checks that it fits together. It writes nothing.
func prepare(ctx context.Context, t *team, recipe *recipe.Recipe) (*run, error) {
	if _, err := os.Stat(recipe.Model); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("model: %s: %w", recipe.Model, ErrNoModel)
	}
	if err := recipe.CheckProcesses(t.Size()); err != nil {
		return nil, err
	}
	if err := t.open(recipe); err != nil {
		return nil, err
	}
	o, trainer, err := openOrigin(ctx, t, recipe.Model, recipe)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	weights.TellLeft(o.left)
	r, err := assemble(ctx, recipe, o, trainer)
	if err == nil {
		r.identity.Model = &o.sum
	}
	return r, err
}

// assemble does the work of prepare for a model that was already read.
func assemble(ctx context.Context, recipe *recipe.Recipe, o *origin, t *trainer) (*run, error) {
	if limit := o.arch.MaxPositions(); limit > 0 && recipe.SeqLen > limit && data.LabelRows(recipe.Data) == 0 {
		return nil, fmt.Errorf("seq_len is %d, but the model has only %d positions; set a smaller seq_len", recipe.SeqLen, limit)
	}
	d, err := loadData(ctx, recipe, o.dir, o.arch)
	if err != nil {
		return nil, err
	}
	if _, labelled := d.Objective.(data.Labelled); labelled {
		recipe.SeqLen = d.rows() // the unit in which a step's tokens are counted
	}
	if _, ok := t.device.(device.Namer); !ok { // another device has its own memory
		if err := limits.Memory(fmt.Sprintf("a step's batch of %d windows of %d tokens", recipe.Batch, recipe.SeqLen), batchBytes(o.arch, recipe)); err != nil {
			return nil, fmt.Errorf("%w; set a smaller batch and a larger accumulate, or a smaller seq_len", err)
		}
	}
	t.objective = d.Objective
	if t.teacher, err = openTeacher(ctx, t.device, recipe, o.arch, d); err != nil {
		return nil, err
	}
	if err := t.device.Err(); err != nil {
		return nil, loadingError(err)
	}
	id := identity{Data: &d.fingerprint, Valid: d.held}
	if t.teacher != nil {
		id.Teacher = &t.teacher.sum
	}
	if id.Recipe, err = recipeValues(recipe); err != nil {
		return nil, err
	}
	s := state{SourceDType: o.dtype.String(), Others: o.dtypes}
	return &run{recipe: recipe, origin: o, data: d, trainer: t, team: t.team, state: s, identity: id, saved: -1}, nil
}

// loadingError wraps the error of a device that failed before the first step.
func loadingError(err error) error { return fmt.Errorf("loading the model: %w", err) }

// batchBytes returns a lower bound for the memory that the backward pass of a batch needs from its forward pass: in each
// layer, the inputs of its products.
func batchBytes(a *configs.Arch, r *recipe.Recipe) float64 {
	layers := float64(a.Layers + a.EncoderLayers)
	return 4 * float64(r.Batch) * float64(r.SeqLen) * layers * float64(6*a.Dim+2*a.FFN)
}

// loop makes the remaining steps and writes the result.
func (r *run) loop(ctx context.Context, o Options) (err error) {
	if r.team.first() {
		r.journal, err = openJournal(r.dir, r.state.Step, r.metrics)
		r.observe = o.Observe
	}
	if err := r.team.agree(err); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.journal.Close()) }()
	defer func() { err = errors.Join(err, r.trainer.teacher.Close()) }()
	if r.recipe.Threads > 0 {
		cpu.SetThreads(r.recipe.Threads)
		defer cpu.SetThreads(0)
	}
	all := r.journal.all(r.metrics)
	r.trainer.watch, r.best = watchOf(all), bestOf(all, r.recipe.Best)
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	if err := r.together(ctx, &outcome{}, nil); err != nil {
		return err
	}
	for r.state.Step < r.recipe.Steps {
		if r.stopping(ctx) {
			return r.team.share(r.interrupt())
		}
		if err := r.next(ctx); err != nil {
			return err
		}
	}
	if err := r.save(); err != nil {
		return err
	}
	return r.export()
}

// next makes one step and then what is due after it: validation, log line, checkpoint.
func (r *run) next(ctx context.Context) error {
	step, began := r.state.Step+1, time.Now()
	var then [][]int32 // the windows of the step after it
	if step < r.recipe.Steps && !r.stopping(ctx) {
		then = r.windows(step + 1)
	}
	windows := r.windows(step)
	if err := r.data.sampler.Err(); err != nil {
		return r.stopped(fmt.Errorf("step %d: data: %w", step, err))
	}
	out, err := r.trainer.step(step, windows, then)
	err = r.together(ctx, &out, err)
	switch {
	case errors.Is(err, errTeacher):
		return StopError{Err: fmt.Errorf("step %d: %w", step, err), Unfit: r.recipe.Distill.Teacher, Data: r.recipe.Data}
	case errors.Is(err, errCache):
		return r.stopped(fmt.Errorf("step %d: %w", step, err))
	case errors.As(err, new(*device.MemoryError)) && r.trainer.Err() == nil && r.state.Step > 0 && r.team.alone(): // the weights are those of the step before
		saved := r.save()
		return errors.Join(r.diverged(step, err), saved)
	}
	skipped := ""
	if err != nil {
		var ok bool
		if skipped, ok = r.skip(step, err); !ok {
			return r.diverged(step, err)
		}
	}
	p := pace{int64(r.recipe.TokensPerStep()), time.Since(began)}
	r.state.Step, r.state.Tokens = step, r.state.Tokens+p.tokens
	if err := r.report(ctx, out, skipped, p); err != nil {
		return err
	}
	if due(step, r.recipe.SaveEvery) || r.best.step == step {
		if err := r.save(); err != nil {
			return err
		}
	}
	return r.endEarly()
}

// windows returns the windows that a step reads.
func (r *run) windows(step int) [][]int32 {
	return r.data.sampler.Batch(step-1, r.recipe.Batch*r.recipe.Accumulate)
}

// due reports whether something that happens every so many steps is due after this step; every 0 means never.
func due(step, every int) bool { return every > 0 && step%every == 0 }

// report records the step just made, or skipped for a reason, with a validation if one is due.
func (r *run) report(ctx context.Context, out outcome, skipped string, p pace) error {
	step := r.state.Step
	m := Metrics{
		Step: step, Tokens: r.state.Tokens, Loss: Figure(out.loss), GradNorm: Figure(out.gradNorm), LR: out.lr, TokensPerS: p.rate(), Skipped: skipped,
	}
	r.trainer.watch.add(m)
	if r.trainer.teacher != nil && skipped == "" {
		m.CE, m.KL = &out.crossEntropy, &out.divergence
	}
	last := step == r.recipe.Steps
	if (r.validates(step) || r.tasksDue(step)) && (last || !r.stopping(ctx)) { // an interrupted run validates when it is resumed
		if err := r.validateAll(ctx, &m, r.validates(step), r.tasksDue(step)); err != nil {
			return err
		}
	}
	if err := r.journal.log(m); err != nil {
		return err
	}
	r.notify(m, p, last || step == 1 || m.ValidLoss != nil || due(step, r.recipe.LogEvery))
	return nil
}

// validateAll adds to the metrics of the step just made what is due after it. Rank 0 measures tasks, for which the others give it their
// parts of the weights.
func (r *run) validateAll(ctx context.Context, m *Metrics, loss, tasks bool) error {
	if loss {
		if err := r.validate(m); err != nil {
			return err
		}
	}
	var figures map[string]TaskFigure
	if tasks {
		err := r.trainer.Lead(func() (err error) {
			figures, err = r.measureTasks(ctx, m)
			return err
		})
		if err := r.team.agree(err); err != nil {
			return err
		}
	}
	if err := r.team.onFirst(func() error { return r.judge(m, figures) }); err != nil {
		return err
	}
	return r.shareBest(ctx)
}

// validates reports whether a validation is due after a step.
func (r *run) validates(step int) bool {
	return len(r.data.valid) > 0 && (step == r.recipe.Steps || due(step, r.recipe.ValidEvery))
}

// validate adds the validation loss to the metrics of the step just made.
func (r *run) validate(m *Metrics) error {
	var loss float64
	var original *float64
	var err error
	r.trainer.Averaged(func() { loss, err = r.trainer.evaluate(r.data.valid) })
	if err == nil {
		err = r.trainer.frugally(func() (err error) {
			original, err = r.trainer.teacher.evaluate(r.data.valid, r.trainer.economy.Windows)
			return err
		})
	}
	switch {
	case err == nil && !isFinite(loss):
		err = fmt.Errorf("the validation loss is %v", loss)
	case err == nil:
		err = r.trainer.Err()
	}
	if err != nil {
		return r.diverged(m.Step, err)
	}
	m.ValidLoss, m.Original = &loss, original
	return nil
}

// catchUp makes the validation that was due when the run was interrupted.
func (r *run) catchUp(ctx context.Context) error {
	m, ok := r.journal.last()
	ok = ok && m.Step == r.state.Step
	loss, err := r.team.decide(ok && r.validates(r.state.Step) && m.ValidLoss == nil)
	if err != nil {
		return err
	}
	tasks, err := r.team.decide(ok && r.tasksDue(r.state.Step) && m.Tasks == nil)
	if err != nil || !loss && !tasks {
		return err
	}
	if ok { // it is judged again
		all := r.journal.all(r.metrics)
		m.Best, r.best = false, bestOf(all[:len(all)-1], r.recipe.Best)
	}
	m.Step = r.state.Step // also where there is no journal
	if err := r.validateAll(ctx, &m, loss, tasks); err != nil {
		return err
	}
	if err := r.journal.amend(m); err != nil {
		return err
	}
	return r.endEarly()
}

// notify calls Observe for a step.
func (r *run) notify(m Metrics, p pace, logged bool) {
	r.pace = r.pace.plus(p)
	if r.observe != nil {
		r.observe(Progress{m, r.recipe.Steps, logged, r.pace.rate()})
	}
	if logged {
		r.pace = pace{}
	}
}

// save writes a checkpoint of the last step, unless there is one, and removes checkpoints beyond the recipe's keep.
func (r *run) save() error {
	if r.saved == r.state.Step {
		return nil
	}
	if err := r.team.agree(r.checkFinite()); err != nil {
		return r.diverged(r.state.Step, err)
	}
	err := r.trainer.Lead(func() error {
		if r.state.Step == r.recipe.Steps {
			if err := removeResult(r.dir); err != nil {
				return err
			}
		}
		if err := r.saveCheckpoint(); err != nil {
			return r.stopped(fmt.Errorf("checkpoint of step %d: %w", r.state.Step, err))
		}
		return nil
	})
	if err := r.team.agree(err); err != nil {
		return err
	}
	r.saved = r.state.Step
	return r.team.onFirst(func() error { return prune(r.dir, r.state.Step, r.recipe.Keep, r.best.step) })
}

// checkFinite checks that the last step left a working model, because a saved checkpoint must be worth returning to.
func (r *run) checkFinite() error {
	if !r.trainer.Finite() {
		return errors.New("weights are no longer finite")
	}
	windows := r.windows(r.state.Step)
	if loss, err := r.trainer.evaluate(windows[:r.recipe.Batch]); err == nil && !isFinite(loss) {
		return fmt.Errorf("the loss after it is %v", loss)
	}
	// If a device has failed, all its numbers are meaningless, even finite ones. If only its memory did not suffice for the loss, they
	// are not.
	return r.trainer.Err()
}

func (r *run) interrupt() error {
	if r.state.Step == 0 {
		return r.stopped(fmt.Errorf("%w before the first step", ErrInterrupted))
	}
	if err := r.save(); err != nil {
		return err
	}
	return r.stopped(fmt.Errorf("%w after step %d of %d, which is saved", ErrInterrupted, r.state.Step, r.recipe.Steps))
}

func (r *run) stopped(err error) error {
	return StopError{Err: err, Run: r.dir, Saved: max(0, r.saved)}
}

// diverged returns the error for a step whose numbers are not finite. If the device has failed or has not enough memory, the
// numbers say nothing about the run.
func (r *run) diverged(step int, cause error) error {
	failure := r.trainer.Err()
	if errors.As(cause, new(*device.MemoryError)) {
		failure = cause
	}
	switch {
	case errors.As(failure, new(*device.MemoryError)):
		return r.stopped(fmt.Errorf("step %d: %w; less is needed with %s", step, failure, r.trainer.needsLess()))
	case failure != nil:
		return r.stopped(fmt.Errorf("step %d: %w", step, failure))
	}
	if r.state.Step == r.trainer.watch.skipped { // no learning rate has affected the weights
		return StopError{
			Err:   fmt.Errorf("%w in step %d: %w before any weight has changed; the numbers that the model itself gives are not finite", ErrDiverged, step, cause),
			Unfit: r.recipe.Model, Data: r.recipe.Data,
		}
	}
	return StopError{
		Err: fmt.Errorf("%w in step %d: %w", ErrDiverged, step, cause),
		Run: r.dir, Saved: max(0, r.saved), LR: lowerRate(r.recipe.Optimizer.LR),
	}
}

// lowerRate returns a learning rate to try after one that diverged: a tenth or, if that is still too high for a
// transformer, the usual 3e-4.
func lowerRate(lr float64) float64 {
	const highest, usual = 1e-2, 3e-4
	if lr/10 > highest {
		return usual
	}
	return lr / 10
}

// export writes the result.
func (r *run) export() error { return r.team.agree(r.trainer.Lead(r.writeResult)) }

func (r *run) writeResult() (err error) {
	source, err := checkpoints.ParseDType(r.state.SourceDType)
	if err != nil {
		return err
	}
	dtype, err := exportDType(r.recipe, source)
	if err != nil {
		return err
	}
	others, err := keptDTypes(r.recipe, r.origin.arch, r.state.Others)
	if err != nil {
		return err
	}
	if err := removeResult(r.dir); err != nil {
		return err
	}
	out, err := checkpoints.NewOutput(filepath.Join(r.dir, modelDir), true, recognizeResult)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Abort()) }()
	weight, err := r.bestWeights()
	if err != nil {
		return r.stopped(err)
	}
	if err = r.origin.write(out.Dir(), dtype, others, weight); err == nil {
		err = r.trainer.Err() // what was written is not the weights
	}
	if err == nil {
		err = writeResult(r.dir, r.state.Step, out.Dir())
	}
	if err != nil {
		return r.stopped(fmt.Errorf("%s: %w", modelDir, err))
	}
	return out.Commit()
}
