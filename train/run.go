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
	"gqa/internal/device/cpu"
	"gqa/internal/limits"
	"gqa/internal/weights"
)

// Options say where a run lives and who watches it.
type Options struct {
	Dir   string // the run folder; empty: runs/NAME
	Force bool   // replace a run that is there
	// Observe, if not nil, hears of every step.
	Observe func(Progress)
}

// Progress is a step just made.
type Progress struct {
	Metrics
	Steps  int     // to do in all
	Logged bool    // a log line is due: LogEvery steps have passed, or it is the first or the last or has a validation
	Pace   float64 // tokens per second while stepping, over the steps since the last that was logged
}

var (
	// ErrInterrupted is wrapped by the error of a run that was told to stop. It has saved a checkpoint.
	ErrInterrupted = errors.New("interrupted")
	// ErrDiverged is wrapped by the error of a run whose loss, gradient or weights are no longer finite numbers. Its
	// checkpoints are of before.
	ErrDiverged = errors.New("training diverged")
	// ErrSettings is wrapped by the error of a run whose folder holds a run with another recipe.
	ErrSettings = errors.New("contains a run with different settings")
	// ErrNoModel is wrapped by the error of a run whose model is not there.
	ErrNoModel = errors.New("there is no such file or folder")
)

// StopError reports a run that stopped before its end, and what is known about how to go on.
type StopError struct {
	Err   error
	Run   string  // the folder of a run that can be resumed; empty: Unfit is to be seen to first
	Saved int     // step of the newest checkpoint; 0: there is none, so a resumed run begins again
	LR    float64 // a lower learning rate to resume with; 0: the rate is not what is wrong
	Unfit string  // a model, or a teacher, that gives no finite numbers on Data; empty: there is none
	Data  string
}

// Error returns the text of Err.
func (e StopError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e StopError) Unwrap() error { return e.Err }

// run is one up-training under way.
type run struct {
	dir     string
	recipe  *recipe.Recipe
	origin  *origin
	data    *trainingData
	trainer *trainer
	state   state
	// identity is what the run must still be when it is resumed.
	identity identity
	metrics  []byte // metrics.jsonl as the checkpoint that the run goes on from has it; nil: it has none
	saved    int    // the last step that there is a checkpoint of; -1: none
	journal  *journal
	observe  func(Progress)
	pace     pace // since the last logged step
}

// pace is how fast steps are made, validations and checkpoints between them left out.
type pace struct {
	tokens int64
	busy   time.Duration
}

func (p pace) plus(q pace) pace { return pace{p.tokens + q.tokens, p.busy + q.busy} }

func (p pace) rate() float64 { return float64(p.tokens) / max(p.busy.Seconds(), 1e-9) }

// prepare reads everything that a run needs and checks that it fits together. Nothing is written.
func prepare(ctx context.Context, recipe *recipe.Recipe) (*run, error) {
	if _, err := os.Stat(recipe.Model); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("model: %s: %w", recipe.Model, ErrNoModel)
	}
	dev, err := openDevice(recipe)
	if err != nil {
		return nil, err
	}
	o, t, err := openOrigin(ctx, dev, recipe.Model, recipe)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	weights.TellLeft(o.left)
	r, err := assemble(ctx, recipe, o, t)
	if err == nil {
		r.identity.Model = &o.sum
	}
	return r, err
}

// assemble is prepare for a model that is already read.
func assemble(ctx context.Context, recipe *recipe.Recipe, o *origin, t *trainer) (*run, error) {
	if limit := o.arch.MaxPositions(); limit > 0 && recipe.SeqLen > limit && data.LabelRows(recipe.Data) == 0 {
		return nil, fmt.Errorf("seq_len is %d, but the model has only %d positions; set a smaller seq_len", recipe.SeqLen, limit)
	}
	d, err := loadData(ctx, recipe, o.dir, o.arch)
	if err != nil {
		return nil, err
	}
	if _, labelled := d.Objective.(data.Labelled); labelled {
		recipe.SeqLen = d.rows() // what a step learns from is counted by it
	}
	if err := limits.Memory(fmt.Sprintf("a step's batch of %d windows of %d tokens", recipe.Batch, recipe.SeqLen), batchBytes(o.arch, recipe)); err != nil {
		return nil, fmt.Errorf("%w; set a smaller batch and a larger accumulate, or a smaller seq_len", err)
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
	s := state{SourceDType: o.dtype.String()}
	return &run{recipe: recipe, origin: o, data: d, trainer: t, state: s, identity: id, saved: -1}, nil
}

// loadingError is that of a device which failed before the first step.
func loadingError(err error) error { return fmt.Errorf("loading the model: %w", err) }

// batchBytes is less than what the backward pass of a batch needs of its forward pass: of each layer the inputs of its products.
func batchBytes(a *configs.Arch, r *recipe.Recipe) float64 {
	layers := float64(a.Layers + a.EncoderLayers)
	return 4 * float64(r.Batch) * float64(r.SeqLen) * layers * float64(6*a.Dim+2*a.FFN)
}

// loop makes the steps that are left and writes the result.
func (r *run) loop(ctx context.Context, o Options) (err error) {
	if r.journal, err = openJournal(r.dir, r.state.Step, r.metrics); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.journal.Close()) }()
	defer func() { err = errors.Join(err, r.trainer.teacher.Close()) }()
	r.observe = o.Observe
	if r.recipe.Threads > 0 {
		cpu.SetThreads(r.recipe.Threads)
		defer cpu.SetThreads(0)
	}
	if err := r.catchUp(); err != nil {
		return err
	}
	for r.state.Step < r.recipe.Steps {
		if ctx.Err() != nil {
			return r.interrupt()
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

// next makes one step with what is due after it: validation, a line in the log, a checkpoint.
func (r *run) next(ctx context.Context) error {
	step, began := r.state.Step+1, time.Now()
	out, err := r.trainer.step(step, r.data.sampler.Batch(step-1, r.recipe.Batch*r.recipe.Accumulate))
	switch {
	case errors.Is(err, errTeacher):
		return StopError{Err: fmt.Errorf("step %d: %w", step, err), Unfit: r.recipe.Distill.Teacher, Data: r.recipe.Data}
	case errors.Is(err, errCache):
		return r.stopped(fmt.Errorf("step %d: %w", step, err))
	case err != nil:
		return r.diverged(step, err)
	}
	p := pace{int64(r.recipe.TokensPerStep()), time.Since(began)}
	r.state.Step, r.state.Tokens = step, r.state.Tokens+p.tokens
	if err := r.report(ctx, out, p); err != nil {
		return err
	}
	if due(step, r.recipe.SaveEvery) {
		return r.save()
	}
	return nil
}

// due tells whether something that happens every so many steps happens after this one; every 0 is never.
func due(step, every int) bool { return every > 0 && step%every == 0 }

// report writes down the step just made, with a validation where one is due.
func (r *run) report(ctx context.Context, out outcome, p pace) error {
	step := r.state.Step
	m := Metrics{
		Step: step, Tokens: r.state.Tokens, Loss: out.loss, GradNorm: out.gradNorm, LR: out.lr, TokensPerS: p.rate(),
	}
	if r.trainer.teacher != nil {
		m.CE, m.KL = &out.crossEntropy, &out.divergence
	}
	last := step == r.recipe.Steps
	if r.validates(step) && (last || ctx.Err() == nil) { // a run that is told to stop validates when it is resumed
		if err := r.validate(&m); err != nil {
			return err
		}
	}
	if err := r.journal.log(m); err != nil {
		return err
	}
	r.tell(m, p, last || step == 1 || m.ValidLoss != nil || due(step, r.recipe.LogEvery))
	return nil
}

// validates tells whether a validation is due after a step.
func (r *run) validates(step int) bool {
	return len(r.data.valid) > 0 && (step == r.recipe.Steps || due(step, r.recipe.ValidEvery))
}

// validate adds the validation loss to the figures of the step just made.
func (r *run) validate(m *Metrics) error {
	var loss float64
	r.trainer.Averaged(func() { loss = r.trainer.evaluate(r.data.valid) })
	original := r.trainer.teacher.evaluate(r.data.valid, r.recipe.Batch)
	if !isFinite(loss) || r.trainer.Err() != nil {
		return r.diverged(m.Step, fmt.Errorf("the validation loss is %v", loss))
	}
	m.ValidLoss, m.Original = &loss, original
	return nil
}

// catchUp makes the validation that was due when the run was told to stop.
func (r *run) catchUp() error {
	all, _ := parseMetrics(r.journal.written)
	if len(all) == 0 || !r.validates(r.state.Step) {
		return nil
	}
	m := all[len(all)-1]
	if m.Step != r.state.Step || m.ValidLoss != nil {
		return nil
	}
	if err := r.validate(&m); err != nil {
		return err
	}
	return r.journal.amend(m)
}

// tell lets who watches the run know of a step.
func (r *run) tell(m Metrics, p pace, logged bool) {
	r.pace = r.pace.plus(p)
	if r.observe != nil {
		r.observe(Progress{m, r.recipe.Steps, logged, r.pace.rate()})
	}
	if logged {
		r.pace = pace{}
	}
}

// save writes a checkpoint of the last step, unless there is one, and removes those beyond the recipe's keep.
func (r *run) save() error {
	if r.saved == r.state.Step {
		return nil
	}
	if err := r.checkFinite(); err != nil {
		return r.diverged(r.state.Step, err)
	}
	if r.state.Step == r.recipe.Steps {
		if err := removeResult(r.dir); err != nil {
			return err
		}
	}
	if err := r.saveCheckpoint(); err != nil {
		return r.stopped(fmt.Errorf("checkpoint of step %d: %w", r.state.Step, err))
	}
	r.saved = r.state.Step
	return prune(r.dir, r.state.Step, r.recipe.Keep)
}

// checkFinite checks that the last step left a model that works: what is saved must be worth going back to.
func (r *run) checkFinite() error {
	if !r.trainer.Finite() {
		return errors.New("weights are no longer finite")
	}
	windows := r.data.sampler.Batch(r.state.Step-1, r.recipe.Batch*r.recipe.Accumulate)
	if loss := r.trainer.evaluate(windows[:r.recipe.Batch]); !isFinite(loss) {
		return fmt.Errorf("the loss after it is %v", loss)
	}
	return r.trainer.Err() // of a device that has failed all numbers are meaningless, even finite ones
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

// diverged is the error of a step whose numbers are not finite. Those of a device that has failed say nothing of the run.
func (r *run) diverged(step int, cause error) error {
	if err := r.trainer.Err(); err != nil {
		return r.stopped(fmt.Errorf("step %d: %w; if memory is short, a run with a smaller batch and a larger accumulate takes less", step, err))
	}
	if r.state.Step == 0 { // no learning rate has touched the weights
		return StopError{
			Err:   fmt.Errorf("%w in step 1: %w before any weight has changed; the model itself gives no finite numbers", ErrDiverged, cause),
			Unfit: r.recipe.Model, Data: r.recipe.Data,
		}
	}
	return StopError{
		Err: fmt.Errorf("%w in step %d: %w", ErrDiverged, step, cause),
		Run: r.dir, Saved: max(0, r.saved), LR: lowerRate(r.recipe.Optimizer.LR),
	}
}

// lowerRate is a learning rate to try after one that diverged: a tenth, or, where that is still more than a transformer
// takes, the usual 3e-4.
func lowerRate(lr float64) float64 {
	const highest, usual = 1e-2, 3e-4
	if lr/10 > highest {
		return usual
	}
	return lr / 10
}

// export writes the result.
func (r *run) export() (err error) {
	source, err := checkpoints.ParseDType(r.state.SourceDType)
	if err != nil {
		return err
	}
	dtype, err := exportDType(r.recipe, source)
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
	if err = r.origin.write(out.Dir(), dtype, r.trainer.Result); err == nil {
		err = r.trainer.Err() // then what was written is not the weights
	}
	if err == nil {
		err = writeResult(r.dir, r.state.Step, out.Dir())
	}
	if err != nil {
		return r.stopped(fmt.Errorf("%s: %w", modelDir, err))
	}
	return out.Commit()
}
