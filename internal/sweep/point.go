package sweep

import (
	"context"
	"fmt"
	"os"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/eval"
	"gqa/train"
)

// Point is one point of a trade-off: a model with fewer KV heads, either only converted or also up-trained. Convert,
// Uptrain and Measure make it, in this order.
type Point struct {
	Model  string // the original, a folder or file
	Curve  Curve
	Groups int    // or those whose cache has the size of the point's latent attention
	Seed   uint64 // of the conversion
	Device string // that converts and evaluates; empty means the processor
	// Text reads the text that the conversion uses. It is called only if the curve's method uses text; nil means that
	// conversions use weights only.
	Text   func(ctx context.Context, src *convert.Source) (*calibrate.Data, error)
	Recipe recipe.Recipe // of the up-training, resolved; its model is the conversion. Steps is 0 for none

	Conversion string // folder of the conversion
	Run        string // folder of the up-training
}

// Convert writes the conversion, unless its folder exists.
func (p Point) Convert(ctx context.Context, w Watcher) error {
	if _, err := os.Stat(p.Conversion); err == nil {
		return nil // complete, since a conversion gets its name last
	}
	src, err := convert.Open(p.Model, convert.SourceOptions{})
	if err != nil {
		return err
	}
	defer src.Close()
	o, err := p.options(ctx, src)
	if err != nil {
		return err
	}
	plan, err := convert.NewPlan(src, o)
	if err != nil {
		return err
	}
	size := fmt.Sprintf("%d groups", p.Groups)
	if o.Goal.Latent() != nil {
		size = "the cache of " + size
	}
	w.stage(fmt.Sprintf("converting to %s by %s", size, p.Curve.conversion()), plan.MergeWork())
	_, err = plan.Run(ctx, p.Conversion, convert.RunOptions{OnMerge: w.steps})
	return err
}

// options returns the options for the conversion of src.
func (p Point) options(ctx context.Context, src *convert.Source) (o convert.Options, err error) {
	var text *calibrate.Data
	if p.Text != nil && p.Curve.reads() {
		if text, err = p.Text(ctx, src); err != nil {
			return o, err
		}
	}
	o = p.Curve.options(src.Arch, p.Groups, text)
	o.Device = p.Device
	o.Seed = p.Seed
	return o, nil
}

// Uptrain trains the conversion, or resumes an interrupted run.
func (p Point) Uptrain(ctx context.Context, w Watcher) (*train.Status, error) {
	r := p.Recipe
	r.Model = p.Conversion
	w.stage("up-training "+r.Name, r.Steps)
	return train.Run(ctx, r, train.Options{Dir: p.Run, Observe: func(train.Progress) { w.steps(1) }})
}

// Measure evaluates dir, the folder of the point's model, on the result of corpus.
func (p Point) Measure(
	ctx context.Context, dir string, corpus func(*eval.Model) (*eval.Corpus, error), o eval.QualityOptions, w Watcher,
) (*eval.Model, *eval.Quality, error) {
	m, err := eval.LoadModel(ctx, dir, eval.ModelOptions{Device: p.Device})
	if err != nil {
		return nil, nil, err
	}
	d, err := corpus(m)
	if err != nil {
		return nil, nil, err
	}
	w.stage(fmt.Sprintf("evaluating %s at %s", p.Curve, cacheText(m.Arch)), int(o.Windows(d)))
	o.Progress = w.steps
	q, err := eval.MeasureQuality(ctx, m, d, o)
	return m, q, err
}

// cacheText says what the cache of a model holds: 4 groups, or a latent of 48 + 16.
func cacheText(a *configs.Arch) string {
	if a.IsLatent() {
		return fmt.Sprintf("a latent of %d + %d", a.Latent.Rank, a.Latent.RopeDim)
	}
	return fmt.Sprintf("%d groups", a.KVHeads)
}

// uptrained reports whether the point is up-trained rather than only converted.
func (p Point) uptrained() bool { return p.Recipe.Steps > 0 }

func (p Point) kind() kind { return kind{p.Curve.conversion(), p.uptrained()} }
