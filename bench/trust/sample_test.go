package trust

import "testing"

func TestCommandsStart(t *testing.T) {
	for _, name := range []string{"gqa-convert", "gqa-train", "gqa-eval"} {
		if r := run(t, t.TempDir(), name, "--version"); r.status != 0 {
			t.Errorf("%s --version: status %d, %s", name, r.status, r.errOut)
		}
	}
}
