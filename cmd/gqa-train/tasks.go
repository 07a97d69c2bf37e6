package main

import (
	"context"

	"gqa/eval"
	"gqa/eval/tasks"
	"gqa/train"
)

// loadTasks is a train.Tasks: it loads tasks as gqa-eval tasks does.
func loadTasks(names []string, limit int) (train.Measure, error) {
	s := tasks.Selection{Names: names, Limit: limit}
	all, err := s.Load()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, in train.TaskModel) (map[string]train.TaskFigure, error) {
		m, err := eval.NewModel(eval.ModelOptions{Device: in.Device}, in.Dir, in.Arch, in.Weights)
		if err != nil {
			return nil, err
		}
		defer m.Close()
		results, err := tasks.MeasureAll(ctx, m, all, s.Options())
		if err == nil {
			err = m.Err()
		}
		if err != nil {
			return nil, err
		}
		figures := map[string]train.TaskFigure{}
		for name, f := range results.Figures() {
			figures[name] = train.TaskFigure{Value: f.Value, LowerBetter: f.Better == "lower"}
		}
		return figures, nil
	}, nil
}
