package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// Study is a grid as its YAML says it.
type Study struct {
	Models  map[string]Model    `yaml:"models"`
	Starts  map[string][]string `yaml:"starts"`  // flags of gqa-convert by the name of a start
	Drawn   []string            `yaml:"drawn"`   // starts that differ from seed to seed: the others are converted once
	Train   []string            `yaml:"train"`   // flags of every gqa-train run
	Recipes map[string]Recipe   `yaml:"recipes"` // by name, what is different in the up-trainings of a grid that names one
	Warmup  float64             `yaml:"warmup"`  // share of a run's steps
	Batch   int                 `yaml:"batch"`
	SeqLen  int                 `yaml:"seq_len"`
	Eval    int                 `yaml:"eval_windows"`  // of SeqLen tokens, of each result
	Points  int                 `yaml:"curve_points"`  // validations along a run
	Curve   int                 `yaml:"curve_windows"` // of each of them
	Grid    []Grid              `yaml:"grid"`
	Plots   map[string]Plot     `yaml:"plots"` // by name
	Tables  []Table             `yaml:"tables"`
}

// Plot is the up-trainings whose curves one plot has; an empty list is any.
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
	Path           string  `yaml:"path"`
	Data           string  `yaml:"data"`
	Valid          string  `yaml:"valid"`
	OriginalTokens float64 `yaml:"original_tokens"`
}

// Recipe is how up-trainings differ from the study's own way.
type Recipe struct {
	Train []string `yaml:"train"` // more flags of gqa-train
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

// Cell is one result to be had.
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

// conversion is the cell that a cell's up-training begins with.
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
	for _, c := range s.cells() {
		if _, ok := s.Models[c.Model]; !ok {
			return nil, fmt.Errorf("%s: model %q is not one of models", path, c.Model)
		}
		if _, ok := s.Starts[c.Start]; !ok {
			return nil, fmt.Errorf("%s: start %q is not one of starts", path, c.Start)
		}
		if _, ok := s.Recipes[c.Recipe]; c.Recipe != "" && !ok {
			return nil, fmt.Errorf("%s: recipe %q is not one of recipes", path, c.Recipe)
		}
		if c.Alpha > 0 && !slices.Contains([]string{"ce", "kl", "mixed"}, c.Loss) {
			return nil, fmt.Errorf("%s: loss %q, want ce, kl or mixed", path, c.Loss)
		}
	}
	return &s, nil
}

// cells are all of the grid, each once, the longest runs first: the last to end is then a short one.
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

// batch is the windows of a step of a cell's up-training.
func (s *Study) batch(c Cell) int { return cmp.Or(s.Recipes[c.Recipe].Batch, s.Batch) }

// steps are those of a cell's up-training.
func (s *Study) steps(c Cell) int {
	return int(math.Ceil(c.Alpha * s.Models[c.Model].OriginalTokens / float64(s.batch(c)*s.SeqLen)))
}

// tokens are those that a cell's up-training reads.
func (s *Study) tokens(c Cell) int { return s.steps(c) * s.batch(c) * s.SeqLen }

// expand puts a model's paths into a start's flags.
func (m Model) expand(flags []string) []string {
	out := slices.Clone(flags)
	for i, f := range out {
		out[i] = strings.NewReplacer("{data}", m.Data, "{valid}", m.Valid).Replace(f)
	}
	return out
}
