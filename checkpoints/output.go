package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Output is a folder in the making. It is filled under a temporary name beside the
// target and takes the target's name once it is whole:
//
//	out, err := checkpoints.NewOutput(target, force, recognize)
//	if err != nil { ... }
//	defer out.Abort()
//	... write files into out.Dir() ...
//	return out.Commit()
type Output struct {
	target, dir string
	made        []string // parent folders that were made for it, outermost first
	force, done bool
	own         []Recognizer
	release     func() // of the lock on dir
}

// NewOutput starts a folder that will be called target; missing parents are made, and
// what killed commands left of it is removed. If target exists, and is not an empty
// folder, that is an error without force. With force Commit replaces what one of own
// recognises as this toolkit's; all else in the folder stays where it is, or is an
// error that names it. Of a link, what it leads to is meant.
func NewOutput(target string, force bool, own ...Recognizer) (*Output, error) {
	target, err := realPath(target)
	if err != nil {
		return nil, err
	}
	if err := RemoveLeftovers(target, own...); err != nil {
		return nil, err
	}
	return startOutput(target, force, own)
}

func startOutput(target string, force bool, own []Recognizer) (*Output, error) {
	old, err := lookAt(target, force, own)
	if err != nil {
		return nil, err
	}
	if old.removed != nil {
		old.tell(target)
	}
	o := &Output{target: target, dir: besides(target, tmpKind), force: force, own: own}
	o.made = missing(filepath.Dir(target))
	err = os.MkdirAll(filepath.Dir(target), 0o777)
	if err == nil {
		err = os.Mkdir(o.dir, 0o777)
	}
	if err != nil {
		o.removeParents()
		return nil, cannotMake(target, err)
	}
	o.release = hold(o.dir)
	return o, nil
}

// CheckOutput is the error that NewOutput would return. It makes the folder and takes it away again: nothing else tells
// whether the system lets it.
func CheckOutput(target string, force bool, own ...Recognizer) error {
	target, err := realPath(target)
	if err != nil {
		return err
	}
	o, err := startOutput(target, force, own)
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
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fmt.Errorf("%s: is a link that leads nowhere; remove it or name another output", path)
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

// lookAt is checkTarget while no other process makes changes.
func lookAt(target string, force bool, own []Recognizer) (contents, error) {
	defer hold(filepath.Dir(target))()
	return checkTarget(target, force, own)
}

// checkTarget looks at what is in the way of an output, and at what becomes of it.
func checkTarget(target string, force bool, own []Recognizer) (old contents, err error) {
	info, err := os.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return old, nil
	}
	if err != nil {
		return old, err
	}
	if !info.IsDir() {
		return old, fmt.Errorf("%s: is a file; want the name of a folder to make", target)
	}
	if cwd, err := os.Getwd(); err == nil && Within(cwd, target) {
		return old, fmt.Errorf("%s: is the current folder or holds it; name another output", target)
	}
	names, err := readNames(target)
	switch {
	case err != nil || len(names) == 0:
		return old, err
	case !force:
		return old, exists(target)
	}
	if old, err = recognize(target, own); err != nil {
		return old, fmt.Errorf("%s: is not replaced: %w, or name another output", target, err)
	}
	return old, nil
}

// FolderError reports a folder that an output cannot take.
type FolderError struct {
	Dir         string
	Err         error // why
	Replaceable bool  // what the folder holds would be replaced if the caller forced it
}

// Error names the folder and the reason.
func (e FolderError) Error() string { return fmt.Sprintf("%s: %v", e.Dir, e.Err) }

// Unwrap returns Err.
func (e FolderError) Unwrap() error { return e.Err }

func exists(target string) error {
	return FolderError{Dir: target, Err: errors.New("already exists"), Replaceable: true}
}

// Within reports whether path is dir or lies below it. Links in either are followed.
func Within(path, dir string) bool {
	for _, p := range []*string{&path, &dir} {
		if abs, err := filepath.Abs(*p); err == nil {
			*p = realPrefix(abs)
		}
	}
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

// Dir returns the folder to write into.
func (o *Output) Dir() string { return o.dir }

// Commit makes everything in the folder durable and gives it the target's name. Of
// several processes that write one target, without force, one succeeds. A folder that
// is replaced goes last; if anything fails before, it is back in place and the new one
// is gone.
func (o *Output) Commit() error {
	if o.done {
		return fmt.Errorf("%s: is already committed or aborted", o.target)
	}
	err := syncTree(o.dir)
	if err == nil {
		err = o.place()
	}
	if err != nil {
		o.Abort()
	}
	return err
}

// place renames the new folder into its place, where no other process makes changes meanwhile.
func (o *Output) place() error {
	defer hold(filepath.Dir(o.target))()
	old, err := checkTarget(o.target, o.force, o.own) // it may have come up meanwhile
	switch {
	case err != nil:
		return err
	case len(old.removed)+len(old.kept) > 0:
		return o.swap()
	}
	if info, err := os.Lstat(o.target); err == nil && info.IsDir() { // empty; it is not renamed over
		if err := errors.Join(os.Chmod(o.dir, info.Mode().Perm()), os.Remove(o.target)); err != nil {
			return err
		}
	}
	if err := os.Rename(o.dir, o.target); err != nil {
		if names, _ := readNames(o.target); len(names) > 0 {
			return exists(o.target)
		}
		return err
	}
	o.finish()
	return syncPath(filepath.Dir(o.target))
}

// swap puts the old folder aside and the new one into its place, moves into it what is kept, and removes the old one.
func (o *Output) swap() error {
	old := besides(o.target, oldKind)
	defer hold(o.target)()
	if err := os.Rename(o.target, old); err != nil {
		return err
	}
	kept, err := o.take(old)
	if err != nil {
		return errors.Join(err, os.Rename(old, o.target))
	}
	o.finish()
	if err := errors.Join(syncParents(o.target, kept), syncPath(filepath.Dir(o.target))); err != nil {
		return err
	}
	if err := discard(old, o.target); err != nil {
		slog.Warn("the old output cannot be removed", "path", old, "err", err)
	}
	return nil
}

// take gives the new folder the target's name and what is kept of the old one, or, on an error, neither.
func (o *Output) take(old string) (kept []string, err error) {
	before, err := recognize(old, o.own) // as it is now that its name is gone
	if err == nil {
		before, err = before.settle(old, o.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: is not replaced: %w, or name another output", o.target, err)
	}
	if info, err := os.Stat(old); err == nil {
		if err := os.Chmod(o.dir, info.Mode().Perm()); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(o.dir, o.target); err != nil {
		return nil, err
	}
	if err := carry(old, o.target, before.kept); err != nil {
		return nil, errors.Join(err, os.Rename(o.target, o.dir))
	}
	return before.kept, nil
}

// syncParents makes the folders durable that the entries names of dir lie in.
func syncParents(dir string, names []string) (err error) {
	for _, name := range names {
		err = errors.Join(err, syncPath(filepath.Dir(filepath.Join(dir, filepath.FromSlash(name)))))
	}
	return err
}

// discard removes what is left of an old output: by now all of it is ours. First it gets a name by which it may be removed,
// should this process be killed.
func discard(old, target string) error {
	rubbish := besides(target, tmpKind)
	if err := os.Rename(old, rubbish); err != nil {
		return err
	}
	return os.RemoveAll(rubbish)
}

// finish ends the making: Abort has nothing to do any more.
func (o *Output) finish() {
	o.done = true
	o.release()
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
	err := os.RemoveAll(o.dir)
	o.finish()
	o.removeParents()
	return err
}

// removeParents removes the parents that were made, unless others use them by now.
func (o *Output) removeParents() {
	for i := len(o.made) - 1; i >= 0; i-- {
		os.Remove(o.made[i])
	}
}
