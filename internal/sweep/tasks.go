package sweep

import (
	"context"
	"maps"

	"gqa/eval"
	"gqa/eval/tasks"
)

// measureTasks measures a model on tasks, and adds the figures to those of q. what is the model's name in the watcher's stages.
func measureTasks(ctx context.Context, m *eval.Model, all []*tasks.Task, s tasks.Selection, what string, q *eval.Quality, w Watcher) error {
	o := s.Options()
	o.Start, o.Step = func(task string, items int) { w.stage(task+" with "+what, items) }, w.steps
	results, err := tasks.MeasureAll(ctx, m, all, o)
	maps.Copy(q.Figures, results.Figures())
	return err
}
