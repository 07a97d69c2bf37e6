// Package doctor finds out whether NVIDIA GPUs can be used here, and says what is missing.
package doctor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gqa/internal/cuda"
	"gqa/internal/devices"
)

// Report is what was found.
type Report struct {
	OK        bool        `json:"ok"`        // a GPU can be used
	GPUBuild  bool        `json:"gpu_build"` // this build uses GPUs
	Libraries []Library   `json:"libraries"`
	GPUs      []cuda.Info `json:"gpus"`
	Checks    []Check     `json:"checks"`
	Problems  []string    `json:"problems"` // with what to do about them
}

// Library says which copies of a library there are.
type Library struct {
	Name    string      `json:"name"`
	For     string      `json:"for"`
	Needed  bool        `json:"needed"`
	Minimum string      `json:"minimum_version"`
	Used    *cuda.Copy  `json:"used"`   // null: none
	Others  []cuda.Copy `json:"others"` // that there are
	Problem string      `json:"problem,omitempty"`
}

// State is how a check ended.
type State string

// The states.
const (
	Passed     State = "passed"
	Failed     State = "failed"
	NotChecked State = "not checked"
)

// Check is a computation on the first GPU whose result is known.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"` // what was compared, or why it failed or was not checked
}

// files is the report of a build that loads no library.
func files(found []cuda.Found) *Report {
	r := &Report{Problems: []string{devices.ErrBuild.Error()}, GPUs: []cuda.Info{}, Checks: []Check{}}
	for _, f := range found {
		l := describe(f.Library)
		if l.Others = append(l.Others, f.Copies...); len(f.Copies) == 0 {
			l.Problem = "not found: " + f.How(0)
		}
		r.Libraries = append(r.Libraries, l)
	}
	return r
}

func describe(l cuda.Library) Library {
	return Library{Name: l.Name, For: l.For, Needed: l.Needed, Minimum: l.Minimum, Others: []cuda.Copy{}}
}

// libraries is the report so far of a build that has loaded what it could of what was found, which is in the same order.
func libraries(loaded []cuda.Loaded, found []cuda.Found) *Report {
	r := &Report{GPUBuild: true, GPUs: []cuda.Info{}, Checks: []Check{}, Problems: []string{}}
	driver := ""
	for i, l := range loaded {
		if l.Name == "libcuda" && l.Err == nil {
			driver = l.Version
		}
		status := describe(l.Library)
		if l.Err == nil {
			status.Used = &l.Copy
		}
		for _, c := range found[i].Copies {
			if c.Path != l.Path {
				status.Others = append(status.Others, c)
			}
		}
		if status.Problem = problem(l, status.Others, driver); status.Problem != "" && l.Needed {
			r.Problems = append(r.Problems, l.Name+": "+status.Problem)
		}
		r.Libraries = append(r.Libraries, status)
	}
	return r
}

// problem says what is wrong with a library, for a driver that supports a version of CUDA; empty where nothing is.
func problem(l cuda.Loaded, others []cuda.Copy, driver string) string {
	var missing *cuda.MissingError
	how := l.How(major(driver))
	switch {
	case errors.As(l.Err, &missing) && len(others) == 0:
		return "not found: " + how
	case l.Err != nil:
		return l.Err.Error()
	case cuda.Older(l.Version, l.Minimum) && l.Name == "libcuda":
		return fmt.Sprintf("the driver supports CUDA %s, but %s is needed: install a newer NVIDIA driver", l.Version, l.Minimum)
	case cuda.Older(l.Version, l.Minimum):
		return fmt.Sprintf("version %s is too old, %s is needed: %s", l.Version, l.Minimum, how)
	case driver != "" && ofToolkit(l.Name) && major(l.Version) > major(driver):
		return fmt.Sprintf("version %s needs a driver for CUDA %d, but this one supports %s: update it, or %s",
			l.Version, major(l.Version), driver, how)
	}
	return ""
}

// ofToolkit says that a library has the version of the CUDA toolkit that it is of.
func ofToolkit(name string) bool { return name == "libnvrtc" || name == "libcublasLt" }

// major is the first number of a version.
func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(first) // 0 where there is none
	return n
}

// lacks names the first library of some that cannot be used; empty where all can.
func (r *Report) lacks(names ...string) string {
	for _, name := range names {
		for _, l := range r.Libraries {
			if l.Name == name && l.Used == nil {
				return name
			}
		}
	}
	return ""
}

// found adds the GPUs that there are, or why there are none.
func (r *Report) found(gpus []cuda.Info, err error) {
	switch {
	case r.lacks("libcuda") != "": // said already
	case err != nil:
		r.Problems = append(r.Problems, "the driver has no GPU for this process: "+err.Error())
	case len(gpus) == 0:
		r.Problems = append(r.Problems, "the driver finds no GPU: see what nvidia-smi says, and whether CUDA_VISIBLE_DEVICES hides it")
	default:
		r.GPUs = gpus
	}
}

// check adds a check that needs libraries and a GPU.
func (r *Report) check(name string, needs []string, run func() (detail string, err error)) {
	c := Check{Name: name, State: NotChecked}
	missing := r.lacks(needs...)
	switch {
	case missing != "":
		c.Detail = missing + " is missing"
	case len(r.GPUs) == 0:
		c.Detail = "there is no GPU"
	default:
		detail, err := run()
		if c.State, c.Detail = Passed, detail; err != nil {
			c.State, c.Detail = Failed, err.Error()
			r.Problems = append(r.Problems, name+": "+err.Error())
		}
	}
	r.Checks = append(r.Checks, c)
}
