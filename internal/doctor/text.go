package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"gqa/internal/cuda"
	"gqa/internal/units"
)

// Write writes the report as text.
func (r *Report) Write(w io.Writer) error {
	var out strings.Builder
	row := func(name, format string, values ...any) {
		fmt.Fprintf(&out, "%-15s %s\n", name, fmt.Sprintf(format, values...))
	}
	row("this build", "%s", map[bool]string{true: "uses NVIDIA GPUs", false: "computes on the processor only"}[r.GPUBuild])
	for _, l := range r.Libraries {
		l.write(row)
	}
	for _, g := range r.GPUs {
		row(fmt.Sprintf("GPU %d", g.Number), "%s, %s, compute capability %s", g.Name, units.Bytes(int64(g.Memory)), g.Capability)
	}
	for _, c := range r.Checks {
		row(c.Name, "%s: %s", c.State, c.Detail)
	}
	r.advise(&out)
	_, err := io.WriteString(w, out.String())
	return err
}

// advise writes what the user has to do.
func (r *Report) advise(out *strings.Builder) {
	if r.OK {
		out.WriteString("\nEverything that is needed is there.\n")
	}
	if len(r.Problems) > 0 {
		out.WriteString("\nTo do:\n")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(out, "- %s\n", p)
	}
	if slices.ContainsFunc(r.Libraries, func(l Library) bool { return l.Problem != "" }) {
		fmt.Fprintf(out, "\n%s can name other folders to look in, with colons between them.\n", cuda.PathVar)
	}
}

func (l Library) write(row func(name, format string, values ...any)) {
	need := "optional"
	if l.Needed {
		need = "needed"
	}
	minimum, has := "version", "version"
	if l.Name == "libcuda" { // its version is CUDA's, not the driver's
		minimum, has = "for CUDA", "supports CUDA"
	}
	row(l.Name, "%s; %s, %s %s or later", l.For, need, minimum, l.Minimum)
	if l.Used != nil {
		row("  used", "%s, %s %s", l.Used.Path, has, l.Used.Version)
	}
	for _, c := range l.Others {
		row("  found", "%s", file(c))
	}
	if l.Problem != "" {
		row("  problem", "%s", l.Problem)
	}
}

// file formats a file with its version.
func file(c cuda.Copy) string {
	if c.Version == "" {
		return c.Path
	}
	return c.Path + ", version " + c.Version
}
