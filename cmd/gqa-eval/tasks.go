package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/eval"
	"gqa/eval/tasks"
	"gqa/internal/chat"
	"gqa/internal/cli"
	"gqa/internal/limits"
)

// addTasks adds the flags that select tasks.
func addTasks(f *pflag.FlagSet, s *tasks.Selection) {
	f.StringSliceVar(&s.Names, "task", nil, "tasks: each is a file of items, FORMAT=FILE, or one of "+strings.Join(tasks.Embedded(), ", "))
	cli.NumberVar(f, &s.Fewshot, "fewshot", 0, 0, 1000, "number of examples before each item of a task")
	f.StringArrayVar(&s.Examples, "examples", nil, "file of examples for the tasks of its format (default: other items, drawn by --task-seed) (repeatable)")
	cli.NumberVar(f, &s.Limit, "limit", 0, 0, limits.Count, "maximum number of items of a task, from the first on (0: all)")
	f.Uint64Var(&s.Seed, "task-seed", 0, "random seed for drawing examples")
}

// checkTasks returns an error about flags that would have no effect.
func checkTasks(s tasks.Selection) error {
	switch {
	case len(s.Names) == 0 && (s.Fewshot > 0 || s.Limit > 0 || len(s.Examples) > 0):
		return cli.Usagef("--fewshot, --limit and --examples require --task: a file, or one of %s", strings.Join(tasks.Embedded(), ", "))
	case len(s.Examples) > 0 && s.Fewshot == 0:
		return cli.Usagef("--examples requires --fewshot: the number of examples before each item")
	}
	return nil
}

// tasksFlags holds the values of gqa-eval tasks's flags.
type tasksFlags struct {
	tasks.Selection
	cacheFlags
	maxTokens    int
	device       string
	items        string
	chat, asJSON bool
}

const tasksHelp = `Measure what a model can do: choose answers, predict words, write answers. Files of HellaSwag, ARC, PIQA, WinoGrande, OpenBookQA, BoolQ,
MMLU, LAMBADA, TriviaQA, CNN/DailyMail, MultiNews and WMT are read in the form in which they are published (.jsonl or .json; .csv for
MMLU), and are recognised by their keys. Files of {"context", "choices", "answer"} or {"prompt", "references"} may hold items of your
own. Prompts and metrics are those of lm-evaluation-harness.

The tasks identifiers, brackets and continuation are made of the embedded sample's text, which is Go source code; sample stands for all of them.
passkey hides a number in texts of 1024 tokens up to the model's context; passkey:LENGTH, in texts of that length.

Without MODEL, the embedded sample is measured.`

func newTasks() *cobra.Command {
	var t tasksFlags
	cmd := &cobra.Command{
		Use:   "tasks [MODEL] --task FILE_OR_NAME,...",
		Short: "Measure accuracy on tasks",
		Long:  tasksHelp,
		Example: `  gqa-eval tasks                                   # the sample's tasks on the embedded sample
  gqa-eval tasks my-model --task hellaswag_val.jsonl,ARC-Challenge-Test.jsonl --limit 500
  gqa-eval tasks my-model --task mmlu/test/ --examples mmlu/dev/ --fewshot 5
  gqa-eval tasks my-model --task passkey`,
		Args: cli.Args("[MODEL]"),
		RunE: func(cmd *cobra.Command, args []string) error { return t.run(cmd, args) },
	}
	t.add(cmd.Flags())
	return cmd
}

func (t *tasksFlags) add(f *pflag.FlagSet) {
	addTasks(f, &t.Selection)
	cli.NumberVar(f, &t.maxTokens, "max-tokens", 0, 0, limits.Tokens, "maximum number of tokens of a generated answer (0: as usual for the task)")
	f.BoolVar(&t.chat, "chat", false, "put each prompt, with its examples, into the model's chat template")
	f.StringVar(&t.items, "items", "", "write what the model made of each item to `FILE`, as JSON lines: log-likelihoods of choices, generated texts")
	t.cacheFlags.add(f)
	addDevice(f, &t.device)
	f.BoolVar(&t.asJSON, "json", false, "print the results as JSON")
}

func (t *tasksFlags) run(cmd *cobra.Command, args []string) error {
	if len(t.Names) == 0 {
		if len(args) > 0 {
			return cli.Usagef("--task is missing: a file, or one of %s", strings.Join(tasks.Embedded(), ", "))
		}
		t.Names = []string{tasks.Sample}
	}
	if err := cmp.Or(t.check(), checkTasks(t.Selection)); err != nil {
		return err
	}
	if t.items != "" {
		if err := checkFolder(t.items); err != nil {
			return err
		}
	}
	all, err := t.Load()
	if err != nil {
		return err
	}
	m, closed, err := modelOrSample(cmd.Context(), args, eval.ModelOptions{Device: t.device, Cache: t.kv})
	if err != nil {
		return err
	}
	defer closed()
	results, err := t.measure(cmd, m, all)
	if err != nil {
		return err
	}
	return show(cmd, t.asJSON, results)
}

func (t *tasksFlags) measure(cmd *cobra.Command, m *eval.Model, all []*tasks.Task) (tasks.Results, error) {
	o := t.Options()
	o.MaxTokens = t.maxTokens
	if t.chat {
		template, err := chat.Load(m.Dir)
		if err != nil {
			return tasks.Results{}, err
		}
		o.Chat = template.Prompt
	}
	var bar *cli.Progress
	o.Start = func(task string, items int) {
		bar.Done()
		bar = cli.CommandProgress(cmd, int64(items), task, false)
	}
	o.Step = func(n int64) { bar.Add(n) }
	var lines bytes.Buffer
	if t.items != "" {
		out := json.NewEncoder(&lines)
		out.SetEscapeHTML(false)
		o.Each = func(d tasks.Detail) { cobra.CheckErr(out.Encode(d)) } // a buffer takes everything
	}
	results, err := tasks.MeasureAll(cmd.Context(), m, all, o)
	bar.Done()
	if err == nil && t.items != "" {
		err = checkpoints.WriteFileAtomic(t.items, lines.Bytes(), 0o666)
	}
	return results, err
}

// modelOrSample loads the model that args name, or the embedded sample. closed ends its use.
func modelOrSample(ctx context.Context, args []string, o eval.ModelOptions) (m *eval.Model, closed func(), err error) {
	if len(args) > 0 {
		m, err = eval.LoadModel(ctx, args[0], o)
		return m, func() {}, err
	}
	dir, err := os.MkdirTemp("", sample.Name)
	if err != nil {
		return nil, nil, err
	}
	closed = func() { os.RemoveAll(dir) }
	if err = sample.Extract(dir); err == nil {
		m, err = eval.LoadModel(ctx, dir, o)
	}
	if err != nil {
		closed()
	}
	return m, closed, err
}
