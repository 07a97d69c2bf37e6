package cli

import (
	"cmp"
	"runtime/debug"
	"strings"
)

// version is that of a release, set by the linker; empty in other builds.
var version string

// buildVersion describes the build: the module's version, or the commit it was built from, and the Go release.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown build)"
	}
	return describe(info)
}

func describe(info *debug.BuildInfo) string {
	words := []string{cmp.Or(version, info.Main.Version)}
	if words[0] == "" {
		words[0] = "(devel)"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if revision := settings["vcs.revision"]; revision != "" {
		words = append(words, "commit "+revision[:min(12, len(revision))])
	}
	if settings["vcs.modified"] == "true" {
		words = append(words, "modified")
	}
	return strings.Join(append(words, info.GoVersion), ", ")
}
