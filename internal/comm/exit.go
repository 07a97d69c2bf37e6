package comm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Tell prints the error for which the processes of all ranks are ended, as commands print theirs. It is for processes whose other
// goroutines may wait for ranks that do not come.
func Tell(reason error) {
	fmt.Fprintf(os.Stderr, "%s: %s\n", filepath.Base(os.Args[0]), strings.ReplaceAll(reason.Error(), "\n", "; "))
}

// Exit ends this process. Files appear whole or not at all, so nothing half-written is left.
func Exit() { os.Exit(1) }
