package checkpoints

import (
	"errors"

	"golang.org/x/sys/windows"
)

// alive reports whether there is a process with that pid. One that has exited stays known as long as others refer to it,
// and one of another user may not be opened.
func alive(pid int) bool {
	p, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(p) //nolint:errcheck // only looked at
	state, err := windows.WaitForSingleObject(p, 0)
	return err != nil || state != windows.WAIT_OBJECT_0
}
