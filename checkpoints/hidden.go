package checkpoints

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A hidden name is .NAME.tmp-MAKER-RANDOM or .NAME.old-MAKER-RANDOM. What is in the making is called tmp, and may be removed
// once its maker is gone; what a swap has put aside is called old, may hold a user's files, and is put back.
const (
	tmpKind = "tmp"
	oldKind = "old"
)

// maker says which process made a file or folder: a start of the system (boot), where a process lives that has this pid
// (host and, in containers, pid namespace), and the pid.
type maker struct {
	boot, host uint32
	pid        int
}

var thisProcess = sync.OnceValue(func() maker {
	host, _ := os.Hostname()                         // all hosts without a name are one
	namespace, _ := os.Readlink("/proc/self/ns/pid") // Linux
	return maker{crc32.ChecksumIEEE([]byte(bootID())), crc32.ChecksumIEEE([]byte(host + namespace)), os.Getpid()}
})

func (m maker) String() string { return fmt.Sprintf("%08x.%08x.%x", m.boot, m.host, m.pid) }

// besides returns a new hidden name in the folder of path: on the same disk, so that
// renaming one to the other is atomic.
func besides(path, kind string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, fmt.Sprintf(".%s.%s-%v-%08x", base, kind, thisProcess(), rand.Uint32()))
}

var hiddenName = regexp.MustCompile(`^\.(.+)\.(tmp|old)-([0-9a-f]{8})\.([0-9a-f]{8})\.([0-9a-f]{1,8})-[0-9a-f]{8}$`)

// hidden is a hidden name taken apart.
type hidden struct {
	path, base, kind string
	maker            maker
}

func parseHidden(path string) (h hidden, ok bool) {
	m := hiddenName.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return h, false
	}
	boot, _ := strconv.ParseUint(m[3], 16, 32) // the pattern holds
	host, _ := strconv.ParseUint(m[4], 16, 32)
	pid, err := strconv.ParseUint(m[5], 16, 31)
	return hidden{path, m[1], m[2], maker{uint32(boot), uint32(host), int(pid)}}, err == nil
}

// settled is how long a process may take from making a file to locking it.
const settled = time.Minute

// gone reports whether the process that made h no longer runs. A lock on it tells, where the file system has locks: it ends
// with its process, and processes in other containers see it. A doubt counts as a process that runs.
func (h hidden) gone() bool {
	here := h.maker.host == thisProcess().host
	if h.maker.boot != thisProcess().boot {
		return here // another boot elsewhere may be a machine that shares the disk
	}
	locked, known := isLocked(h.path)
	switch {
	case locked:
		return false
	case here && !alive(h.maker.pid):
		return true
	case !known:
		return false
	}
	info, err := os.Lstat(h.path) // another process may have the pid by now, or the maker has yet to lock
	return err == nil && time.Since(info.ModTime()) > settled
}

// leftovers lists the hidden names that interrupted processes left for target.
func leftovers(target string) (left []hidden) {
	dir, base := filepath.Split(target)
	entries, _ := os.ReadDir(filepath.Clean(dir)) // what cannot be listed cannot be tidied
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "."+base+".") {
			continue
		}
		if h, ok := parseHidden(filepath.Join(dir, e.Name())); ok && h.base == base && h.gone() {
			left = append(left, h)
		}
	}
	return left
}

// RemoveLeftovers tidies up after commands that were killed while they wrote target: it removes what they were making and
// puts back what they had put aside. What belongs to a process that runs stays. own recognises the outputs that may have
// been there, as in [NewOutput].
func RemoveLeftovers(target string, own ...Recognizer) (err error) {
	if target, err = realPath(target); err != nil {
		return err
	}
	if len(leftovers(target)) == 0 {
		return nil
	}
	defer hold(filepath.Dir(target))()
	for _, h := range leftovers(target) { // others may have tidied up meanwhile
		if h.kind == oldKind {
			err = errors.Join(err, putBack(h.path, target, own))
			continue
		}
		slog.Info("removing what an interrupted command left", "path", h.path)
		err = errors.Join(err, os.RemoveAll(h.path))
	}
	return err
}

// putBack ends a swap that was interrupted after it put old aside: before the new output came, or before the files that are
// not ours had moved into it.
func putBack(old, target string, own []Recognizer) error {
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		slog.Warn("putting back what an interrupted command had put aside", "path", target)
		return os.Rename(old, target)
	}
	before, err := recognize(old, own)
	if err == nil {
		_, err = recognize(target, own)
	}
	if err == nil {
		before, err = before.settle(old, target)
	}
	if err == nil {
		err = carry(old, target, before.kept)
	}
	if err != nil {
		slog.Warn("an interrupted command put this folder aside; look through it and remove it", "path", old, "err", err)
		return nil
	}
	return discard(old, target)
}

// TempFolder makes a hidden folder beside path for what will be renamed to path, or for passing files. remove removes it. If
// the process is killed before, the next call for the same path removes it.
func TempFolder(path string) (dir string, remove func() error, err error) {
	if err := RemoveLeftovers(path); err != nil {
		return "", nil, err
	}
	dir = besides(path, tmpKind)
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", nil, err
	}
	unlock := hold(dir)
	return dir, func() error { unlock(); return os.RemoveAll(dir) }, nil
}
