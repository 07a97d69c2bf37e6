package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Output is a folder in the making. It is filled under a temporary name beside the
// target and takes the target's name once it is whole:
//
//	out, err := checkpoints.NewOutput(target, force)
//	if err != nil { ... }
//	defer out.Abort()
//	... write files into out.Dir() ...
//	return out.Commit()
type Output struct {
	target, dir string
	made        []string // parent folders that were made for it, outermost first
	force, done bool
}

// NewOutput starts a folder that will be called target; missing parents are made. If
// target exists, and is not an empty folder, that is an error without force. With
// force Commit replaces it, but only where it is a checkpoint, a run or a report:
// anything else, a git repository and a folder that the process works in are refused.
func NewOutput(target string, force bool) (*Output, error) {
	target, err := realPath(target)
	if err != nil {
		return nil, err
	}
	if err := checkTarget(target, force); err != nil {
		return nil, err
	}
	o := &Output{target: target, dir: besides(target, "tmp"), force: force}
	o.made = missing(filepath.Dir(target))
	err = os.MkdirAll(filepath.Dir(target), 0o777)
	if err == nil {
		err = os.Mkdir(o.dir, 0o777)
	}
	if err != nil {
		o.removeParents()
		return nil, cannotMake(target, err)
	}
	return o, nil
}

// CheckOutput is the error that NewOutput would return. It makes the folder and takes it away again: nothing else tells
// whether the system lets it.
func CheckOutput(target string, force bool) error {
	o, err := NewOutput(target, force)
	if err != nil {
		return err
	}
	return o.Abort()
}

// cannotMake names the folder that was wanted, not that on the way to it.
func cannotMake(target string, err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Errorf("%s: cannot make a folder there: %w", target, err)
}

// realPath makes path absolute and follows it if it is a link, so that what the link
// leads to is replaced and not the link.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	return path, nil
}

// missing returns dir and the folders above it that do not exist, outermost first.
func missing(dir string) []string {
	if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
		return nil
	}
	return append(missing(filepath.Dir(dir)), dir)
}

func checkTarget(target string, force bool) error {
	info, err := os.Stat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: is a file; want the name of a folder to make", target)
	}
	if cwd, err := os.Getwd(); err == nil && within(cwd, target) {
		return fmt.Errorf("%s: is the current folder or holds it; name another output", target)
	}
	names, err := readNames(target)
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		return nil
	case !force:
		return fmt.Errorf("%s: already exists; use --force to replace it", target)
	case !ours(names):
		return fmt.Errorf("%s: is not a checkpoint, run or report, so it is not replaced; remove it yourself or name another output", target)
	}
	return nil
}

// within reports whether path is dir or lies below it; both are absolute.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func readNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// ours reports whether a folder with these names in it is one that may be replaced: a
// checkpoint has a config and weights; the others have a file that only these tools
// write. A config alone could be any program's.
func ours(names []string) bool {
	var config, weights, own bool
	for _, name := range names {
		switch name {
		case ".git":
			return false
		case configFile:
			config = true
		case "conversion.json", "metrics.jsonl", "report.json":
			own = true
		}
		weights = weights || strings.HasSuffix(name, ".safetensors")
	}
	return own || config && weights
}

// Dir returns the folder to write into.
func (o *Output) Dir() string { return o.dir }

// Commit makes everything in the folder durable and gives it the target's name. A
// folder that it replaces goes last; if anything fails before, it is back in place and
// the new one is gone.
func (o *Output) Commit() error {
	if o.done {
		return fmt.Errorf("%s: is already committed or aborted", o.target)
	}
	err := syncTree(o.dir)
	if err == nil {
		err = checkTarget(o.target, o.force) // it may have come up meanwhile
	}
	if err == nil {
		err = o.swap()
	}
	if err != nil {
		o.Abort()
	}
	return err
}

// swap renames the old folder away and the new one into its place.
func (o *Output) swap() error {
	old := besides(o.target, "old")
	err := os.Rename(o.target, old)
	replaced := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(o.dir, o.target); err != nil {
		if replaced {
			err = errors.Join(err, os.Rename(old, o.target))
		}
		return err
	}
	o.done = true
	if err := syncPath(filepath.Dir(o.target)); err != nil || !replaced {
		return err
	}
	return os.RemoveAll(old)
}

// syncTree makes a folder's files and folders durable, each after what it holds.
func syncTree(dir string) error {
	var folders []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			folders = append(folders, path)
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		return syncPath(path)
	})
	for i := len(folders) - 1; i >= 0 && err == nil; i-- {
		err = syncPath(folders[i])
	}
	return err
}

// Abort removes what was written. After Commit, or a second time, it does nothing.
func (o *Output) Abort() error {
	if o.done {
		return nil
	}
	o.done = true
	err := os.RemoveAll(o.dir)
	o.removeParents()
	return err
}

// removeParents removes the parents that were made, unless others use them by now.
func (o *Output) removeParents() {
	for i := len(o.made) - 1; i >= 0; i-- {
		os.Remove(o.made[i])
	}
}
