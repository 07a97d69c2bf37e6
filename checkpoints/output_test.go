package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// fill writes one file into an output.
func fill(t *testing.T, o *Output, name, text string) {
	t.Helper()
	path := filepath.Join(o.Dir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func newOutput(t *testing.T, target string, force bool) *Output {
	t.Helper()
	o, err := NewOutput(target, force, marked)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	names, err := readNames(dir)
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("%s holds %q (%v), want %q", dir, names, err, want)
	}
}

func TestOutputCommit(t *testing.T) {
	parent := t.TempDir()
	target := filepath.Join(parent, "new", "out")
	o := newOutput(t, target, false)
	defer o.Abort()
	fill(t, o, "a/b/c.txt", "text")
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target is there before Commit: %v", err)
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := o.Abort(); err != nil {
		t.Error(err)
	}
	if got := readFile(t, filepath.Join(target, "a/b/c.txt")); string(got) != "text" {
		t.Errorf("the file holds %q", got)
	}
	wantNames(t, filepath.Dir(target), "out")
	wantError(t, o.Commit(), "already committed")
}

func TestOutputAbort(t *testing.T) {
	parent := t.TempDir()
	o := newOutput(t, filepath.Join(parent, "new", "deep", "out"), false)
	fill(t, o, "file", "half")
	for range 2 {
		if err := o.Abort(); err != nil {
			t.Error(err)
		}
	}
	wantNames(t, parent)
	wantError(t, o.Commit(), "already committed or aborted")
}

// marked recognises folders whose file mark lists the names of ours, one a line, each with its size.
func marked(dir string) (Owned, error) {
	text, err := ReadMark(dir, "mark")
	if err != nil {
		return Owned{}, err
	}
	o := Owned{Files: map[string]int64{"mark": AnySize, "ours/": AnySize}, Excludes: func(name string) bool { return name == "closed" }}
	for line := range strings.Lines(string(text)) {
		var name string
		var size int64
		if _, err := fmt.Sscan(line, &name, &size); err != nil {
			return o, errors.New("its mark is another program's")
		}
		o.Files[name] = size
	}
	return o, nil
}

// plant makes files in dir; a text that begins with -> is a link, one of a name that ends in a slash a folder.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o777)
		if to, link := strings.CutPrefix(text, "-> "); link {
			err = errors.Join(err, os.Symlink(to, path))
		} else if strings.HasSuffix(name, "/") {
			err = errors.Join(err, os.MkdirAll(path, 0o777))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(text), 0o666))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tree is what plant makes.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, text := strings.TrimPrefix(path, dir+string(filepath.Separator)), []byte(nil)
		switch {
		case d.IsDir():
			if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
				return err
			}
			name += "/"
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			files[filepath.ToSlash(name)] = "-> " + to
			return err
		default:
			text, err = os.ReadFile(path)
		}
		files[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func wantTree(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// TestOutputReplaces wants what the mark lists replaced and all else where it was.
func TestOutputReplaces(t *testing.T) {
	home := t.TempDir()
	plant(t, home, map[string]string{"Documents/thesis.tex": "years of work"})
	users := map[string]string{
		"notes.txt": "mine", ".git/HEAD": "ref", "ours/deep/mine.txt": "mine", "empty/": "", "home": "-> " + home,
		"dangling": "-> nowhere", "ours/home": "-> " + home, "gone.txt": "-> " + home,
	}
	parent := t.TempDir()
	target := filepath.Join(parent, "out")
	plant(t, target, users)
	plant(t, target, map[string]string{"mark": "a 3\nours/b 3\ngone.txt 3\nmissing 1\n", "a": "old", "ours/b": "old"})
	if err := os.Chmod(target, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := NewOutput(target, false, marked)
	wantError(t, err, target+": already exists")
	o := newOutput(t, target, true)
	fill(t, o, "new", "new")
	fill(t, o, "ours/b", "new")
	if _, err := os.Stat(filepath.Join(target, "new")); err == nil {
		t.Error("the target changed before Commit")
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	want := maps.Clone(users)
	want["new"], want["ours/b"] = "new", "new"
	wantTree(t, target, want)
	wantNames(t, parent, "out")
	wantTree(t, home, map[string]string{"Documents/thesis.tex": "years of work"})
	if info, err := os.Stat(target); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("the mode is %v (%v), want that of the old folder", info.Mode(), err)
	}
}

// TestOutputKeepsOrRefuses has files in an output that cannot stay where they are.
func TestOutputKeepsOrRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		old, add    map[string]string
		early, late string
	}{
		"changed":                  {map[string]string{"a": "edited"}, nil, "a in it was changed since it was written (3 bytes then, 6 now)", ""},
		"excluded":                 {map[string]string{"closed/mine": ""}, nil, "closed in it is not of the old output, and would count as a part of the new one", ""},
		"clash":                    {map[string]string{"b": "mine"}, map[string]string{"b": "new"}, "", "b in it is not of the old output, and the new one has a file of that name"},
		"clash with a folder":      {map[string]string{"b/c": "mine"}, map[string]string{"b/d": "new"}, "", "b in it is not of the old output"},
		"link in our file's place": {map[string]string{"a": "-> elsewhere"}, map[string]string{"a": "new"}, "", "a in it is not of the old output"},
		"below a new file":         {map[string]string{"ours/b": "", "ours/mine": ""}, map[string]string{"ours": "new"}, "", "ours"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			target := filepath.Join(parent, "out")
			plant(t, target, map[string]string{"mark": "a 3\nours/b 0\n", "c": "same"})
			plant(t, target, test.old)
			before := tree(t, target)
			o, err := NewOutput(target, true, marked)
			if test.early != "" {
				wantError(t, err, target+": is not replaced: ", test.early)
			} else {
				plant(t, o.Dir(), test.add)
				wantError(t, o.Commit(), test.late)
			}
			wantTree(t, target, before)
			wantNames(t, parent, "out")
		})
	}
}

// TestOutputDropsCopies has a file of a user's in the way that is the new output's to the byte.
func TestOutputDropsCopies(t *testing.T) {
	target := filepath.Join(t.TempDir(), "out")
	plant(t, target, map[string]string{"mark": "", "readme": "same"})
	o := newOutput(t, target, true)
	fill(t, o, "readme", "same")
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	wantTree(t, target, map[string]string{"readme": "same"})
}

// TestOutputRefuses wants folders that are not ours left alone, force or not.
func TestOutputRefuses(t *testing.T) {
	current := folder(t, map[string]string{"mark": ""})
	home := folder(t, map[string]string{"mark": ""})
	linked := t.TempDir()
	plant(t, linked, map[string]string{"mark": "-> " + filepath.Join(home, "mark")})
	dangling := filepath.Join(t.TempDir(), "link")
	plant(t, filepath.Dir(dangling), map[string]string{"link": "-> nowhere"})
	t.Chdir(current)
	tests := map[string]struct{ target, want string }{
		"documents":       {folder(t, map[string]string{"thesis.tex": ""}), "is not replaced: there is no mark in it"},
		"another's mark":  {folder(t, map[string]string{"mark": "mine"}), "its mark is another program's"},
		"a mark by link":  {linked, "its mark is not a regular file"},
		"current folder":  {".", "is the current folder or holds it"},
		"parent":          {"..", "is the current folder or holds it"},
		"root":            {"/", "is the current folder or holds it"},
		"a file":          {filepath.Join(current, "mark"), "is a file"},
		"below a file":    {filepath.Join(current, "mark", "x"), "not a directory"},
		"a dangling link": {dangling, "is a link that leads nowhere"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before, _ := readNames(test.target)
			_, err := NewOutput(test.target, true, marked)
			wantError(t, err, test.want)
			if after, _ := readNames(test.target); !slices.Equal(before, after) {
				t.Errorf("the folder holds %v afterwards, %v before", after, before)
			}
		})
	}
}

func TestOutputIntoEmptyFolder(t *testing.T) {
	target := t.TempDir()
	o := newOutput(t, target, false)
	fill(t, o, "file", "")
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, target, "file")
}

// TestOutputTargetAppears lets another program make the target meanwhile.
func TestOutputTargetAppears(t *testing.T) {
	for _, force := range []bool{false, true} {
		parent := t.TempDir()
		target := filepath.Join(parent, "out")
		o := newOutput(t, target, force)
		fill(t, o, "file", "")
		plant(t, target, map[string]string{"theirs/": ""})
		if err := o.Commit(); err == nil {
			t.Errorf("force %v: no error", force)
		}
		wantNames(t, parent, "out")
		wantNames(t, target, "theirs")
	}
}

// TestOutputsAtOnce wants one of several writers to win, and with force the last one, whole.
func TestOutputsAtOnce(t *testing.T) {
	const writers = 8
	for _, force := range []bool{false, true} {
		parent := t.TempDir()
		target := filepath.Join(parent, "out")
		if force {
			plant(t, target, map[string]string{"mark": "", "mine": "mine"})
		}
		var done atomic.Int32
		var group sync.WaitGroup
		outputs := make([]*Output, writers)
		for i := range outputs {
			outputs[i] = newOutput(t, target, force)
		}
		for i, o := range outputs {
			fill(t, o, "mark", "a 1\nb 1\n")
			fill(t, o, "a", fmt.Sprint(i))
			fill(t, o, "b", fmt.Sprint(i))
			group.Go(func() {
				if o.Commit() == nil {
					done.Add(1)
				}
			})
		}
		group.Wait()
		if n := done.Load(); !force && n != 1 || force && n < 1 {
			t.Errorf("force %v: %d of %d writers succeeded", force, n, writers)
		}
		got := tree(t, target)
		if got["a"] == "" || got["a"] != got["b"] || force && got["mine"] != "mine" {
			t.Errorf("force %v: the folder holds %q", force, got)
		}
		wantNames(t, parent, "out")
	}
}

// TestOutputThroughLink wants the folder behind a link replaced, not the link.
func TestOutputThroughLink(t *testing.T) {
	target := folder(t, map[string]string{"mark": ""})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	o := newOutput(t, link, true)
	fill(t, o, "new", "")
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, target, "new")
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
}

// TestCommitRollsBack takes the new folder away so that Commit fails in the middle.
func TestCommitRollsBack(t *testing.T) {
	target := folder(t, map[string]string{"mark": "", "mine": ""})
	o := newOutput(t, target, true)
	if err := os.Remove(o.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := o.swap(); err == nil {
		t.Error("no error though the new folder is gone")
	}
	wantNames(t, target, "mark", "mine")
	wantNames(t, filepath.Dir(target), filepath.Base(target))
}

// TestOutputOfFailedWrite is how a command fails half-way.
func TestOutputOfFailedWrite(t *testing.T) {
	parent := t.TempDir()
	convert := func() error {
		o, err := NewOutput(filepath.Join(parent, "out"), false)
		if err != nil {
			return err
		}
		defer o.Abort()
		fill(t, o, configFile, "{}")
		if err := Write(o.Dir(), []Spec{{"a", F32, []int{1}}, {"b", F32, []int{2}}}, WriteOptions{ShardSize: 4}, failSecond); err != nil {
			return err
		}
		return o.Commit()
	}
	if err := convert(); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
	wantNames(t, parent)
}

func TestWriteFileAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"first", "second"} {
		if err := WriteFileAtomic(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, path); string(got) != text {
			t.Errorf("the file holds %q, want %q", got, text)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	wantNames(t, dir, "file")
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o777); err != nil {
		t.Fatal(err)
	}
	if WriteFileAtomic(filepath.Join(dir, "folder"), nil, 0o640) == nil {
		t.Error("a folder was overwritten")
	}
	plant(t, dir, map[string]string{"link": "-> file"})
	wantError(t, WriteFileAtomic(filepath.Join(dir, "link"), nil, 0o640), "link: is a link")
	if WriteFileAtomic(filepath.Join(dir, "nowhere", "file"), nil, 0o640) == nil {
		t.Error("a file was written into a folder that is not there")
	}
	wantNames(t, dir, "file", "folder", "link")
}
