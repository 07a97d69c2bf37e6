package tasks

// Selection says which tasks are measured, on which items, with which examples.
type Selection struct {
	Names    []string `json:"names"` // as for Load
	Examples []string `json:"examples,omitempty"`
	Fewshot  int      `json:"fewshot,omitempty"`
	Limit    int      `json:"limit,omitempty"`
	Seed     uint64   `json:"seed,omitempty"`
}

// Load reads the tasks.
func (s Selection) Load() ([]*Task, error) {
	all, err := LoadAll(s.Names)
	for _, name := range s.Examples {
		if err == nil {
			err = AddExamples(all, name)
		}
	}
	return all, err
}

// Options returns the options for measuring the tasks.
func (s Selection) Options() Options {
	return Options{Fewshot: s.Fewshot, Limit: s.Limit, Seed: s.Seed}
}
