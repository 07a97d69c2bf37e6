package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Output is an output folder that is being written. It is filled under a temporary name beside the target and renamed
// to the target once it is complete:
//
//	out, err := checkpoints.NewOutput(target, force, recognize)
//	if err != nil { ... }
//	defer out.Abort()
//	... write files into out.Dir() ...
//	return out.Commit()
type Output struct {
	target, dir string
	made        []string // parent folders made for the output, outermost first
	force, done bool
	own         []Recognizer
	release     func() // releases the lock on dir
}

// NewOutput starts an output folder for target. It makes missing parents and removes what killed commands left of the
// target. It is an error if target exists and is not an empty folder, unless force is set. With force, Commit replaces
// the files that one of own recognises as output of this toolkit. Other files in the folder are kept where they are, or
// cause an error that names them. If target is a link, its destination is used.
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
		old.report(target)
	}
	o := &Output{target: target, dir: tempPath(target, tmpKind), force: force, own: own}
	o.made = missing(filepath.Dir(target))
	err = os.MkdirAll(filepath.Dir(target), 0o777)
	if err == nil {
		err = os.Mkdir(o.dir, 0o777)
	}
	if err != nil {
		o.removeParents()
		return nil, cannotMake(target, err)
	}
	o.release = lockPath(o.dir)
	return o, nil
}

// CheckOutput returns the error that NewOutput would return. It makes the folder and removes it again: there is no
// other way to find out whether the system allows it.
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

// cannotMake names the folder that was asked for rather than the parent that could not be made.
func cannotMake(target string, err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Errorf("%s: cannot make this folder: %w", target, err)
}

// realPath makes path absolute and follows it if it is a link, so that the destination of the link is replaced and not
// the link itself.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fmt.Errorf("%s: is a dangling link; remove it or name another output", path)
	}
	return path, nil
}

// missing returns those of dir and its parents that do not exist, outermost first.
func missing(dir string) []string {
	if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
		return nil
	}
	return append(missing(filepath.Dir(dir)), dir)
}

// lookAt is checkTarget under the lock of the parent folder.
func lookAt(target string, force bool, own []Recognizer) (contents, error) {
	defer lockPath(filepath.Dir(target))()
	return checkTarget(target, force, own)
}

// checkTarget checks what is at target, and returns what would happen to it.
func checkTarget(target string, force bool, own []Recognizer) (old contents, err error) {
	info, err := os.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return old, nil
	}
	if err != nil {
		return old, err
	}
	if !info.IsDir() {
		return old, fmt.Errorf("%s: is a file; want a folder", target)
	}
	if cwd, err := os.Getwd(); err == nil && Within(cwd, target) {
		return old, fmt.Errorf("%s: is or contains the current folder; name another output", target)
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

// Within reports whether path is dir or lies below it, with links in either followed.
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

// Commit syncs everything in the folder to disk and renames it to the target. If several processes write one target
// without force, one of them succeeds. A folder that is replaced is removed last; if anything fails before that, it is
// restored and the new folder is removed.
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

// place renames the new folder to the target, under the lock of the parent folder.
func (o *Output) place() error {
	defer lockPath(filepath.Dir(o.target))()
	old, err := checkTarget(o.target, o.force, o.own) // target may have been created in the meantime
	switch {
	case err != nil:
		return err
	case len(old.removed)+len(old.kept) > 0:
		return o.swap()
	}
	if info, err := os.Lstat(o.target); err == nil && info.IsDir() { // an empty folder is not renamed over
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

// swap moves the old folder aside and the new one into place, moves the kept files into it, and removes the old one.
func (o *Output) swap() error {
	old := tempPath(o.target, oldKind)
	defer lockPath(o.target)()
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

// take renames the new folder to the target and moves the kept files into it. On an error it does neither.
func (o *Output) take(old string) (kept []string, err error) {
	before, err := recognize(old, o.own) // check again now that the old folder is out of the way
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
	if err := moveAll(old, o.target, before.kept); err != nil {
		return nil, errors.Join(err, os.Rename(o.target, o.dir))
	}
	return before.kept, nil
}

// syncParents syncs the folders that hold the given entries of dir.
func syncParents(dir string, names []string) (err error) {
	for _, name := range names {
		err = errors.Join(err, syncPath(filepath.Dir(filepath.Join(dir, filepath.FromSlash(name)))))
	}
	return err
}

// discard removes what is left of an old output, by now only our own files. It first renames it so that it may be
// removed later if this process is killed.
func discard(old, target string) error {
	trash := tempPath(target, tmpKind)
	if err := os.Rename(old, trash); err != nil {
		return err
	}
	return os.RemoveAll(trash)
}

// finish marks the output as done, so that Abort does nothing.
func (o *Output) finish() {
	o.done = true
	o.release()
}

// syncTree syncs a folder's files and subfolders, contents before folders.
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

// Abort removes everything written so far. After Commit or an earlier Abort it does nothing.
func (o *Output) Abort() error {
	if o.done {
		return nil
	}
	err := os.RemoveAll(o.dir)
	o.finish()
	o.removeParents()
	return err
}

// removeParents removes the parents made for the output, unless others have put files in them.
func (o *Output) removeParents() {
	for i := len(o.made) - 1; i >= 0; i-- {
		os.Remove(o.made[i])
	}
}
