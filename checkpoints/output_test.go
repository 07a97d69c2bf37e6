package checkpoints

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	o, err := NewOutput(target, force)
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

func TestOutputReplaces(t *testing.T) {
	for name, old := range map[string]map[string]string{
		"checkpoint": {configFile: "{}", weightsFile: "old", "README.md": "old"},
		"conversion": {"conversion.json": "{}"},
		"run":        {"metrics.jsonl": ""},
		"report":     {"report.json": "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			target := folder(t, old)
			_, err := NewOutput(target, false)
			wantError(t, err, target+": already exists; use --force")
			o := newOutput(t, target, true)
			fill(t, o, "new", "new")
			if _, err := os.Stat(filepath.Join(target, "new")); err == nil {
				t.Error("the target changed before Commit")
			}
			if err := o.Commit(); err != nil {
				t.Fatal(err)
			}
			wantNames(t, target, "new")
			wantNames(t, filepath.Dir(target), filepath.Base(target))
		})
	}
}

// TestOutputRefuses wants folders that are not ours left alone, force or not.
func TestOutputRefuses(t *testing.T) {
	repository := folder(t, map[string]string{configFile: "{}", weightsFile: ""})
	if err := os.Mkdir(filepath.Join(repository, ".git"), 0o777); err != nil {
		t.Fatal(err)
	}
	current := folder(t, map[string]string{"conversion.json": "{}"})
	t.Chdir(current)
	tests := map[string]struct{ target, want string }{
		"documents":      {folder(t, map[string]string{"thesis.tex": ""}), "is not a checkpoint, run or report"},
		"a config alone": {folder(t, map[string]string{configFile: "{}"}), "is not a checkpoint, run or report"},
		"weights alone":  {folder(t, map[string]string{"a.safetensors": ""}), "is not a checkpoint, run or report"},
		"git repository": {repository, "is not a checkpoint, run or report"},
		"current folder": {".", "is the current folder or holds it"},
		"parent":         {"..", "is the current folder or holds it"},
		"root":           {"/", "is the current folder or holds it"},
		"a file":         {filepath.Join(current, "conversion.json"), "is a file"},
		"below a file":   {filepath.Join(current, "conversion.json", "x"), "not a directory"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before, _ := readNames(test.target)
			_, err := NewOutput(test.target, true)
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
	parent := t.TempDir()
	target := filepath.Join(parent, "out")
	o := newOutput(t, target, false)
	fill(t, o, "file", "")
	if err := os.MkdirAll(filepath.Join(target, "theirs"), 0o777); err != nil {
		t.Fatal(err)
	}
	wantError(t, o.Commit(), "already exists")
	wantNames(t, parent, "out")
	wantNames(t, target, "theirs")
}

// TestOutputThroughLink wants the folder behind a link replaced, not the link.
func TestOutputThroughLink(t *testing.T) {
	target := folder(t, map[string]string{"report.json": "{}"})
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
	target := folder(t, map[string]string{"report.json": "old"})
	o := newOutput(t, target, true)
	if err := os.Remove(o.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := o.swap(); err == nil {
		t.Error("no error though the new folder is gone")
	}
	wantNames(t, target, "report.json")
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
	if WriteFileAtomic(filepath.Join(dir, "nowhere", "file"), nil, 0o640) == nil {
		t.Error("a file was written into a folder that is not there")
	}
	wantNames(t, dir, "file", "folder")
}
