package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"

	"gqa/configs/recipe"
	"gqa/internal/sweep"
)

// Study is a grid as defined by its YAML file.
type Study struct {
	Models  map[string]Model       `yaml:"models"`
	Starts  map[string]sweep.Curve `yaml:"starts"`             // how heads become one, by the name of a start
	Text    int                    `yaml:"calibration_tokens"` // of a model's data, for the starts that look at text
	Drawn   []string               `yaml:"drawn"`              // starts that differ from seed to seed: the others are converted once
	Train   []string               `yaml:"train"`              // keys of the recipe of every up-training, as key=value
	Recipes map[string]Recipe      `yaml:"recipes"`            // by name, what is different in the up-trainings of a grid that names one
	Warmup  float64                `yaml:"warmup"`             // share of a run's steps
	Batch   int                    `yaml:"batch"`
	SeqLen  int                    `yaml:"seq_len"`
	Eval    int                    `yaml:"eval_windows"`  // of SeqLen tokens, of each result
	Points  int                    `yaml:"curve_points"`  // validations along a run
	Curve   int                    `yaml:"curve_windows"` // of each of them
	Grid    []Grid                 `yaml:"grid"`
	Plots   map[string]Plot        `yaml:"plots"` // by name
	Tables  []Table                `yaml:"tables"`
}

// Plot selects the up-trainings whose curves are in one plot; an empty list selects all.
type Plot struct {
	Alphas []float64 `yaml:"alphas"`
	Starts []string  `yaml:"starts"`
	Losses []string  `yaml:"losses"`
}

func (p Plot) has(c Cell) bool {
	return has(p.Alphas, c.Alpha) && has(p.Starts, c.Start) && has(p.Losses, c.Loss)
}

func has[T comparable](list []T, x T) bool { return len(list) == 0 || slices.Contains(list, x) }

// Model is a checkpoint of a study with its corpora.
type Model struct {
	Path           string   `yaml:"path"`
	Data           string   `yaml:"data"`
	Valid          string   `yaml:"valid"`
	OriginalTokens float64  `yaml:"original_tokens"`
	Device         string   `yaml:"device"`       // that converts, trains and evaluates; empty: the processor
	Train          []string `yaml:"train"`        // more keys of the recipe of every up-training, as key=value
	Eval           int      `yaml:"eval_windows"` // 0: the study's
	Tasks          []string `yaml:"tasks"`        // of gqa-eval tasks
	Decode         Decode   `yaml:"decode"`
}

// Decode is the decode step, in bfloat16, that -decode times for every conversion of a model. The zero value is none.
type Decode struct {
	Batch   int `yaml:"batch"`   // sequences
	Context int `yaml:"context"` // tokens of each in the cache
}

// Recipe lists how up-trainings differ from the study's default.
type Recipe struct {
	Base  string   `yaml:"base"`  // recipe of the toolkit, a name or a file; empty: its default
	Train []string `yaml:"train"` // more keys, as key=value
	Batch int      `yaml:"batch"` // 0: the study's
}

// Grid is every combination of its lists.
type Grid struct {
	Models []string  `yaml:"models"`
	Groups []int     `yaml:"groups"`
	Starts []string  `yaml:"starts"`
	Alphas []float64 `yaml:"alphas"` // 0: as converted
	Losses []string  `yaml:"losses"` // of the up-trainings
	Recipe string    `yaml:"recipe"` // of the up-trainings; empty: the study's own way
	Seeds  []int     `yaml:"seeds"`
}

// Cell identifies one result.
type Cell struct {
	Model  string  `json:"model"`
	Start  string  `json:"start"`
	Groups int     `json:"groups"`
	Alpha  float64 `json:"alpha"`
	Loss   string  `json:"loss,omitempty"`
	Recipe string  `json:"recipe,omitempty"`
	Seed   int     `json:"seed"`
}

func (c Cell) name() string {
	name := fmt.Sprintf("%s-%s-g%d-s%d", c.Model, c.Start, c.Groups, c.Seed)
	if c.Alpha == 0 {
		return name
	}
	name += "-a" + strconv.FormatFloat(c.Alpha, 'g', -1, 64) + "-" + c.Loss
	if c.Recipe != "" {
		name += "-" + c.Recipe
	}
	return name
}

// conversion returns the cell from which a cell's up-training starts.
func (s *Study) conversion(c Cell) Cell {
	c.Alpha, c.Loss, c.Recipe = 0, "", ""
	if !slices.Contains(s.Drawn, c.Start) {
		c.Seed = 0
	}
	return c
}

func loadStudy(path string) (*Study, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s Study
	if err := yaml.UnmarshalWithOptions(text, &s, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, false))
	}
	for name, start := range s.Starts {
		if start.Loss != "" {
			return nil, fmt.Errorf("%s: start %q has the loss %s, which belongs in losses of a grid", path, name, start.Loss)
		}
	}
	for _, c := range s.cells() {
		if err := s.check(c); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return &s, nil
}

// check returns an error if the cell names something that the study does not define.
func (s *Study) check(c Cell) error {
	if _, ok := s.Models[c.Model]; !ok {
		return fmt.Errorf("model %q is not one of models", c.Model)
	}
	if _, ok := s.Starts[c.Start]; !ok {
		return fmt.Errorf("start %q is not one of starts", c.Start)
	}
	if c.Alpha == 0 {
		return nil
	}
	if _, ok := s.Recipes[c.Recipe]; c.Recipe != "" && !ok {
		return fmt.Errorf("recipe %q is not one of recipes", c.Recipe)
	}
	if _, err := s.recipe(c); err != nil {
		return fmt.Errorf("%s: %w", c.name(), err)
	}
	return nil
}

// cells returns all cells of the grid without duplicates, the longest runs first, so that the last one to finish is
// short.
func (s *Study) cells() (all []Cell) {
	for _, g := range s.Grid {
		for _, c := range g.cells() {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Cell) int { return s.tokens(b) - s.tokens(a) })
	return all
}

func (g Grid) cells() (all []Cell) {
	for _, model := range g.Models {
		for _, start := range g.Starts {
			for _, groups := range g.Groups {
				for _, seed := range g.Seeds {
					for _, alpha := range g.Alphas {
						c := Cell{Model: model, Start: start, Groups: groups, Alpha: alpha, Seed: seed}
						if alpha == 0 {
							all = append(all, c)
							continue
						}
						c.Recipe = g.Recipe
						for _, c.Loss = range g.Losses {
							all = append(all, c)
						}
					}
				}
			}
		}
	}
	return all
}

// batch returns the number of windows in a step of a cell's up-training.
func (s *Study) batch(c Cell) int { return cmp.Or(s.Recipes[c.Recipe].Batch, s.Batch) }

// steps returns the number of steps of a cell's up-training.
func (s *Study) steps(c Cell) int {
	return int(math.Ceil(c.Alpha * s.Models[c.Model].OriginalTokens / float64(s.batch(c)*s.SeqLen)))
}

// tokens returns the number of tokens that a cell's up-training reads.
func (s *Study) tokens(c Cell) int { return s.steps(c) * s.batch(c) * s.SeqLen }

// recipe returns the recipe of a cell's up-training.
func (s *Study) recipe(c Cell) (recipe.Recipe, error) {
	m, steps := s.Models[c.Model], s.steps(c)
	r, err := recipe.Load(cmp.Or(s.Recipes[c.Recipe].Base, "default"))
	if err != nil {
		return r, err
	}
	r.Name, r.Model, r.Data, r.Valid = c.name(), m.Path, m.Data, m.Valid
	r.Steps, r.Batch, r.SeqLen, r.Seed = steps, s.batch(c), s.SeqLen, uint64(c.Seed)
	r.Schedule.Warmup = max(1, int(s.Warmup*float64(steps)))
	r.ValidEvery, r.ValidWindows = max(1, steps/s.Points), s.Curve
	r.SaveEvery, r.Keep = 0, 1
	if r.Distill.Loss = recipe.Loss(c.Loss); r.Distill.Loss != recipe.CE {
		r.Distill.Teacher = m.Path
	}
	if m.Device != "" {
		r.Device = m.Device
	}
	for _, key := range slices.Concat(s.Train, m.Train, s.Recipes[c.Recipe].Train) {
		if err := r.Set(key); err != nil {
			return r, err
		}
	}
	return r, r.Resolve()
}
