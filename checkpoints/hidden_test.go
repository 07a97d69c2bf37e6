package checkpoints

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// deadPID is the pid of a process that has ended.
func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// hiddenBy is a hidden name that m would have made for path.
func hiddenBy(path, kind string, m maker) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+kind+"-"+m.String()+"-00000000")
}

func TestHiddenNames(t *testing.T) {
	h, ok := parseHidden(besides("/x/a.tmp-1.b", tmpKind))
	if !ok || h.base != "a.tmp-1.b" || h.kind != tmpKind || h.maker != *thisMaker() {
		t.Errorf("got %+v, %v", h, ok)
	}
	for _, name := range []string{".out.tmp-0a1b2c3d", ".out.tmp", "out.tmp-00000000.00000000.1-00000000", ".out.new-00000000.00000000.1-00000000"} {
		if _, ok := parseHidden(name); ok {
			t.Errorf("%s counts as a hidden name", name)
		}
	}
}

func thisMaker() *maker { m := thisProcess(); return &m }

// TestLeftovers wants what a dead process was making removed, and nothing else.
func TestLeftovers(t *testing.T) {
	me, dead := thisProcess(), thisProcess()
	dead.pid = deadPID(t)
	elsewhere, rebooted, rebootedElsewhere := dead, me, dead
	elsewhere.host++
	rebooted.boot++
	rebootedElsewhere.boot, rebootedElsewhere.host = me.boot+1, me.host+1
	hourAgo := time.Now().Add(-time.Hour)
	for name, test := range map[string]struct {
		by   maker
		old  bool
		lock bool
		stay bool
	}{
		"dead":                          {by: dead},
		"dead, of another start":        {by: rebooted},
		"alive":                         {by: me, stay: true},
		"alive and locked for long":     {by: me, old: true, lock: true, stay: true},
		"its pid is another's by now":   {by: me, old: true},
		"another container, locked":     {by: elsewhere, old: true, lock: true, stay: true},
		"another container, just begun": {by: elsewhere, stay: true},
		"another container, unlocked":   {by: elsewhere, old: true},
		"another machine":               {by: rebootedElsewhere, old: true, stay: true},
	} {
		t.Run(name, func(t *testing.T) {
			if _, known := isLocked(t.TempDir()); !known {
				t.Skip("no locks here")
			}
			target := filepath.Join(t.TempDir(), "out")
			left := hiddenBy(target, tmpKind, test.by)
			plant(t, left, map[string]string{"half": "written"})
			if test.old {
				if err := os.Chtimes(left, hourAgo, hourAgo); err != nil {
					t.Fatal(err)
				}
			}
			if test.lock {
				defer hold(left)()
			}
			newOutput(t, target, false).Abort()
			_, err := os.Stat(left)
			if stays := err == nil; stays != test.stay {
				t.Errorf("stays: %v, want %v", stays, test.stay)
			}
		})
	}
}

// TestLeftoversOfOthers has hidden names beside a target that are not its own.
func TestLeftoversOfOthers(t *testing.T) {
	dead := thisProcess()
	dead.pid = deadPID(t)
	parent := t.TempDir()
	files := map[string]string{
		".out.tmp-0a1b2c3d/mine": "", ".out.tmp": "", "out.tmp-mine": "",
		filepath.Base(hiddenBy("other", tmpKind, dead)):   "",
		filepath.Base(hiddenBy("out.old", tmpKind, dead)): "",
	}
	plant(t, parent, files)
	if err := RemoveLeftovers(filepath.Join(parent, "out")); err != nil {
		t.Fatal(err)
	}
	wantTree(t, parent, files)
}

// TestPutBack kills a swap at each of its steps.
func TestPutBack(t *testing.T) {
	dead := thisProcess()
	dead.pid = deadPID(t)
	old := map[string]string{"mark": "a 3\n", "a": "old", "mine": "mine", "home": "-> elsewhere"}
	fresh := map[string]string{"mark": "a 3\n", "a": "new"}
	both := map[string]string{"mark": "a 3\n", "a": "new", "mine": "mine", "home": "-> elsewhere"}
	for name, test := range map[string]struct{ aside, target, want map[string]string }{
		"before the new one came":        {old, nil, old},
		"before anything was moved":      {old, fresh, both},
		"before all was moved":           {map[string]string{"mark": "a 3\n", "a": "old", "mine": "mine"}, map[string]string{"mark": "a 3\n", "a": "new", "home": "-> elsewhere"}, both},
		"before the old one went":        {map[string]string{"mark": "a 3\n", "a": "old"}, both, both},
		"when another's is there by now": {old, map[string]string{"thesis": ""}, nil},
		"when what was moved is there":   {old, map[string]string{"mark": "", "mine": "newer"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			target := filepath.Join(parent, "out")
			aside := hiddenBy(target, oldKind, dead)
			plant(t, aside, test.aside)
			plant(t, target, test.target)
			if err := RemoveLeftovers(target, marked); err != nil {
				t.Fatal(err)
			}
			if test.want == nil { // left for a person to look at
				wantTree(t, aside, test.aside)
				wantTree(t, target, test.target)
				return
			}
			wantTree(t, target, test.want)
			wantNames(t, parent, "out")
		})
	}
}

func TestWriteFileAtomicLeftovers(t *testing.T) {
	dead := thisProcess()
	dead.pid = deadPID(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	plant(t, dir, map[string]string{filepath.Base(hiddenBy(path, tmpKind, dead)): "half"})
	if err := WriteFileAtomic(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, "file")
}

func TestTempFolder(t *testing.T) {
	parent := t.TempDir()
	dir, remove, err := TempFolder(filepath.Join(parent, "out"))
	if err != nil {
		t.Fatal(err)
	}
	plant(t, dir, map[string]string{"a/b": ""})
	if err := remove(); err != nil {
		t.Error(err)
	}
	wantNames(t, parent)
}

func TestCheckSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "out")
	if err := CheckSpace(path, 1); err != nil {
		t.Error(err)
	}
	if _, ok := freeBytes(filepath.Dir(filepath.Dir(path))); !ok {
		t.Skip("the system does not tell")
	}
	const petabyte = 1e15
	wantError(t, CheckSpace(path, 1000*petabyte), "takes 1 EB on the disk, which has ")
}

func TestHubModel(t *testing.T) {
	cache := t.TempDir()
	revision := filepath.Join(cache, "models--org--name-7b", "snapshots", "0123")
	plant(t, cache, map[string]string{"models--org--name-7b/snapshots/0123/": "", "link": "-> " + revision, "models--org--name-7b/blobs/": ""})
	for path, want := range map[string]string{
		revision: "name-7b", filepath.Join(revision, "deep", "new"): "name-7b", filepath.Dir(revision): "name-7b",
		filepath.Join(cache, "link"):           "name-7b",
		filepath.Join(revision, "../../blobs"): "name-7b",
		cache:                                  "", filepath.Join(cache, "models--org--name-7b"): "", filepath.Join(cache, "snapshots", "0123"): "",
	} {
		if got, ok := HubModel(path); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", strings.TrimPrefix(path, cache), got, ok, want)
		}
	}
	if err := OutsideHub(cache); err != nil {
		t.Error(err)
	}
	wantError(t, OutsideHub(revision), "is in a hub's cache", "unless it is asked for")
}
