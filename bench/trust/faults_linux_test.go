package trust

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaults makes the system fail file operations, one kind at a time, while a run saves. The run either stops with a
// line that reports the error or continues without the operation; when resumed, it ends with the same bits as an
// undisturbed run.
func TestFaults(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace here (Debian: apt-get install strace)")
	}
	if out, err := exec.Command(strace, "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace may not trace here: %s", out)
	}
	u := uptrain(t, 24, 2)
	random := rand.New(rand.NewPCG(20, 0))
	felt := 0
	for i := range pick(6, len(faults)) {
		fault := faults[i*len(faults)/pick(6, len(faults))]
		dir := filepath.Join(t.TempDir(), "run")
		names, _, _ := strings.Cut(fault, ":")
		inject := fmt.Sprintf("inject=%s:when=%d+%d", fault, 5+random.IntN(30), 1+random.IntN(3)) // of each thread
		args := []string{"-f", "-qq", "-o", os.DevNull, "-e", "trace=" + names, "-e", inject, filepath.Join(bin, "gqa-train")}
		first := end(t, exec.Command(strace, append(append(args, u.args...), "-o", dir)...))
		if first.clean(t); first.status != 0 {
			felt++
		}
		r := run(t, ".", "gqa-train", append(u.args, "-o", dir)...)
		if r.clean(t); r.status != 0 {
			t.Errorf("after %s: status %d, %s", inject, r.status, r.errOut)
		}
		u.same(t, inject, dir)
		os.RemoveAll(dir)
	}
	t.Logf("%d faults were felt", felt)
	if felt == 0 {
		t.Error("no fault was felt")
	}
}

// faults are the errors and kill signals that the system injects into the file operations of a save.
var faults = []string{
	"write:error=ENOSPC", "pwrite64:error=ENOSPC", "fsync:error=EIO", "renameat:error=EIO", "mkdirat:error=EACCES",
	"unlinkat:error=EIO", "openat:error=EMFILE", "ftruncate:error=EIO", "close:error=EIO", "newfstatat:error=EIO",
	"renameat2:error=EROFS", "getdents64:error=EIO", "fsync:error=ENOSPC", "pwrite64:error=EDQUOT", "read:error=EIO",
	"pwrite64:signal=KILL", "fsync:signal=KILL", "renameat:signal=KILL", "unlinkat:signal=KILL", "write:signal=KILL",
}
