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

// A temporary name is .NAME.tmp-MAKER-RANDOM or .NAME.old-MAKER-RANDOM. An entry of kind tmp is being written, and may
// be removed once its maker has exited. An entry of kind old was moved aside by a swap; it may hold a user's files, so
// it is moved back rather than removed.
const (
	tmpKind = "tmp"
	oldKind = "old"
)

// maker identifies the process that made a file or folder: the boot of the system, the host (in containers, with the
// pid namespace) in which its pid is valid, and the pid.
type maker struct {
	boot, host uint32
	pid        int
}

var thisProcess = sync.OnceValue(func() maker {
	host, _ := os.Hostname()                         // all hosts without a name count as one
	namespace, _ := os.Readlink("/proc/self/ns/pid") // only on Linux
	return maker{crc32.ChecksumIEEE([]byte(bootID())), crc32.ChecksumIEEE([]byte(host + namespace)), os.Getpid()}
})

func (m maker) String() string { return fmt.Sprintf("%08x.%08x.%x", m.boot, m.host, m.pid) }

// tempPath returns a new temporary name in the folder of path. Both are on the same disk, so that renaming one to the
// other is atomic.
func tempPath(path, kind string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, fmt.Sprintf(".%s.%s-%v-%08x", base, kind, thisProcess(), rand.Uint32()))
}

var tempPattern = regexp.MustCompile(`^\.(.+)\.(tmp|old)-([0-9a-f]{8})\.([0-9a-f]{8})\.([0-9a-f]{1,8})-[0-9a-f]{8}$`)

// tempName is a parsed temporary name.
type tempName struct {
	path, base, kind string
	maker            maker
}

func parseTempName(path string) (h tempName, ok bool) {
	m := tempPattern.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return h, false
	}
	boot, _ := strconv.ParseUint(m[3], 16, 32) // the pattern guarantees hexadecimal
	host, _ := strconv.ParseUint(m[4], 16, 32)
	pid, err := strconv.ParseUint(m[5], 16, 31)
	return tempName{path, m[1], m[2], maker{uint32(boot), uint32(host), int(pid)}}, err == nil
}

// lockGrace is the longest time that a process may take between making a file and locking it.
const lockGrace = time.Minute

// gone reports whether the process that made h has exited. A lock is the best evidence, where the file system supports
// locks: it ends with its process, and processes in other containers see it. In doubt, the process counts as running.
func (h tempName) gone() bool {
	here := h.maker.host == thisProcess().host
	if h.maker.boot != thisProcess().boot {
		return here // an unknown boot on another host may be a machine that shares the disk
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
	info, err := os.Lstat(h.path) // the pid may have been reused, or the maker may not have locked yet
	return err == nil && time.Since(info.ModTime()) > lockGrace
}

// leftovers returns the temporary names that interrupted processes left for target.
func leftovers(target string) (left []tempName) {
	dir, base := filepath.Split(target)
	entries, _ := os.ReadDir(filepath.Clean(dir)) // a folder that cannot be listed cannot be cleaned up
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "."+base+".") {
			continue
		}
		if h, ok := parseTempName(filepath.Join(dir, e.Name())); ok && h.base == base && h.gone() {
			left = append(left, h)
		}
	}
	return left
}

// RemoveLeftovers cleans up after commands that were killed while they wrote target: it removes unfinished files and
// moves back what had been moved aside. It does not touch files of running processes. own recognises the outputs that
// may have been moved aside, as in [NewOutput].
func RemoveLeftovers(target string, own ...Recognizer) (err error) {
	if target, err = realPath(target); err != nil {
		return err
	}
	if len(leftovers(target)) == 0 {
		return nil
	}
	defer lockPath(filepath.Dir(target))()
	for _, h := range leftovers(target) { // another process may have cleaned up in the meantime
		if h.kind == oldKind {
			err = errors.Join(err, putBack(h.path, target, own))
			continue
		}
		slog.Info("removing files left by an interrupted command", "path", h.path)
		err = errors.Join(err, os.RemoveAll(h.path))
	}
	return err
}

// putBack finishes a swap that was interrupted after it moved old aside: either before the new output was in place, or
// before the user's own files had been moved into it.
func putBack(old, target string, own []Recognizer) error {
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		slog.Warn("moving back a folder that an interrupted command had moved aside", "path", target)
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
		err = moveAll(old, target, before.kept)
	}
	if err != nil {
		slog.Warn("an interrupted command moved this folder aside; look through it and remove it", "path", old, "err", err)
		return nil
	}
	return discard(old, target)
}

// TempFolder makes a temporary folder beside path, either to be renamed to path or for scratch files. remove removes
// it. If the process is killed first, the next call for the same path removes it.
func TempFolder(path string) (dir string, remove func() error, err error) {
	if err := RemoveLeftovers(path); err != nil {
		return "", nil, err
	}
	dir = tempPath(path, tmpKind)
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", nil, err
	}
	unlock := lockPath(dir)
	return dir, func() error { unlock(); return os.RemoveAll(dir) }, nil
}
