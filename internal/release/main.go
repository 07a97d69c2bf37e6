// Release builds the commands for every platform and packs them into archives, with a list of their hashes:
//
//	go run ./internal/release -version v1.2.3 -o dist
//
// The same commit and the same version of Go give the same bytes, on any machine.
package main

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// targets are the platforms, as OS/ARCH, with /TAG for a build with a tag.
var targets = []string{
	"linux/amd64", "linux/amd64/cuda", "linux/arm64", "linux/arm64/cuda", "darwin/amd64", "darwin/arm64", "windows/amd64",
}

// documents are the files beside the commands.
var documents = []string{"CHANGELOG.md", "LICENSE", "README.md"}

// sumsFile lists the SHA-256 of every archive, as sha256sum does.
const sumsFile = "SHA256SUMS"

// release is what is built.
type release struct {
	version string
	module  string    // the module's path
	commit  string    // that the commands must name; empty for a trial
	time    time.Time // of every file in the archives
}

func main() {
	version := flag.String("version", "", "version such as v1.2.3, which --version of the commands tells")
	output := flag.String("o", "dist", "folder for the archives; those that are there are replaced")
	only := flag.String("targets", strings.Join(targets, ","), "what to build")
	dirty := flag.Bool("dirty", false, "build even if files are changed since the commit; --version says so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *version, *output, strings.Split(*only, ","), *dirty); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, version, output string, only []string, dirty bool) error {
	if semver.Canonical(version) != version || version == "" {
		return fmt.Errorf("version is %q, want one such as v1.2.3 or v1.2.3-rc.1: make release VERSION=v1.2.3", version)
	}
	for _, t := range only {
		if !slices.Contains(targets, t) {
			return fmt.Errorf("target %q is unknown; want some of %s", t, strings.Join(targets, ","))
		}
	}
	r, err := describe(ctx, version, dirty)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(output, 0o777); err != nil {
		return err
	}
	work, err := os.MkdirTemp(output, ".release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var archives []string
	for _, t := range only {
		name, err := r.pack(ctx, work, t)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		fmt.Println(filepath.Join(output, name))
		archives = append(archives, name)
	}
	if err := writeSums(filepath.Join(work, sumsFile), work, archives); err != nil {
		return err
	}
	for _, name := range append(archives, sumsFile) { // the list comes last: it is there only if the rest is
		if err := os.Rename(filepath.Join(work, name), filepath.Join(output, name)); err != nil {
			return err
		}
	}
	return nil
}

// describe returns the release of the commit that is checked out.
func describe(ctx context.Context, version string, dirty bool) (*release, error) {
	changed, err := output(ctx, "git", "status", "--porcelain")
	if err != nil {
		return nil, err
	}
	if changed != "" && !dirty {
		return nil, errors.New("files are changed since the commit; commit them, or give -dirty for a trial")
	}
	head, err := output(ctx, "git", "rev-parse", "HEAD")
	if err != nil {
		return nil, err
	}
	if tagged, err := output(ctx, "git", "rev-parse", "--quiet", "--verify", version+"^{commit}"); err == nil && tagged != head {
		return nil, fmt.Errorf("%s is the tag of another commit, %.12s; this one is %.12s", version, tagged, head)
	}
	seconds, err := output(ctx, "git", "log", "-1", "--format=%ct")
	if err != nil {
		return nil, err
	}
	committed, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return nil, err
	}
	module, err := output(ctx, "go", "list", "-m")
	if dirty {
		head = ""
	}
	return &release{version, module, head, time.Unix(committed, 0).UTC()}, err
}

// output returns what a program prints, without the last newline.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(text)), err
}

// pack builds a target and packs it into an archive in the folder work.
func (r *release) pack(ctx context.Context, work, target string) (archive string, err error) {
	system, arch, tag := splitTarget(target)
	base := strings.Join([]string{"gqa", r.version, strings.ReplaceAll(target, "/", "_")}, "_")
	dir := filepath.Join(work, base)
	if err := r.build(ctx, dir, system, arch, tag); err != nil {
		return "", err
	}
	for _, name := range documents {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			return "", err
		}
	}
	write, ending := writeTar, ".tar.gz"
	if system == "windows" {
		write, ending = writeZip, ".zip"
	}
	return base + ending, writeArchive(filepath.Join(work, base+ending), dir, r.time, write)
}

func splitTarget(target string) (system, arch, tag string) {
	system, arch, _ = strings.Cut(target, "/")
	arch, tag, _ = strings.Cut(arch, "/")
	return system, arch, tag
}

// build builds the commands into dir.
func (r *release) build(ctx context.Context, dir, system, arch, tag string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-tags="+tag,
		"-ldflags=-s -X "+r.module+"/internal/cli.version="+r.version, "-o", dir+string(filepath.Separator), "./cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	return r.checkStamps(dir)
}

// checkStamps returns an error unless every command in dir names the commit and no change since. Go names none in a work
// tree of git worktree.
func (r *release) checkStamps(dir string) error {
	commands, err := os.ReadDir(dir)
	for _, c := range commands {
		info, err := buildinfo.ReadFile(filepath.Join(dir, c.Name()))
		if err != nil {
			return err
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if r.commit != "" && (settings["vcs.revision"] != r.commit || settings["vcs.modified"] != "false") {
			return fmt.Errorf("%s names commit %q (modified: %s), want %s; build in a clone, not in a linked work tree, and change nothing meanwhile",
				c.Name(), settings["vcs.revision"], cmp.Or(settings["vcs.modified"], "unknown"), r.commit)
		}
	}
	return err
}
