package launch

import (
	"os/exec"
	"syscall"
)

// separate makes a process end with this one, and keeps a terminal's signals from it: this process passes them on once.
func separate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
