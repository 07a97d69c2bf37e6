// Package doctor finds out whether NVIDIA GPUs can be used on this machine, and what is missing.
package doctor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gqa/internal/cuda"
	"gqa/internal/devices"
)

// Report is the result of an examination.
type Report struct {
	OK        bool        `json:"ok"`        // a GPU can be used
	GPUBuild  bool        `json:"gpu_build"` // this build uses GPUs
	Libraries []Library   `json:"libraries"`
	GPUs      []cuda.Info `json:"gpus"`
	Checks    []Check     `json:"checks"`
	Problems  []string    `json:"problems"` // with instructions
}

// Library lists the copies of a library.
type Library struct {
	Name    string      `json:"name"`
	For     string      `json:"for"`
	Needed  bool        `json:"needed"`
	Minimum string      `json:"minimum_version"`
	Used    *cuda.Copy  `json:"used"`   // null if there is none
	Others  []cuda.Copy `json:"others"` // other existing copies
	Problem string      `json:"problem,omitempty"`
}

// State is the outcome of a check.
type State string

// The states.
const (
	Passed     State = "passed"
	Failed     State = "failed"
	NotChecked State = "not checked"
)

// Check is a computation on the first GPU with a known result.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"` // what was compared, or why the check failed or was skipped
}

// files returns the report of a build that loads no library.
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

// libraries returns the report, up to the libraries, of a build that has tried to load all libraries found. loaded and
// found are in the same order.
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

// problem describes what is wrong with a library, given the version of CUDA that the driver supports; empty if nothing
// is.
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

// ofToolkit reports whether a library has the version number of its CUDA toolkit.
func ofToolkit(name string) bool { return name == "libnvrtc" || name == "libcublasLt" }

// major returns the first number of a version.
func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(first) // 0 if there is none
	return n
}

// lacks returns the name of the first of some libraries that cannot be used; empty if all can.
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

// found adds the existing GPUs, or the reason why there are none.
func (r *Report) found(gpus []cuda.Info, err error) {
	switch {
	case r.lacks("libcuda") != "": // already reported
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
