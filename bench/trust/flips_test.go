package trust

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFlips flips random single bits in every file of a run's newest checkpoint. With an older checkpoint the run falls
// back to that one and ends with the same bits as an undisturbed run. Without one the run is refused, and nothing
// changes.
func TestFlips(t *testing.T) {
	u := uptrain(t, 8, 2)
	random := rand.New(rand.NewPCG(17, 0))
	files := slices.Sorted(maps.Keys(tree(t, filepath.Join(u.dir, "checkpoints", "step-6"))))
	files = slices.DeleteFunc(files, func(name string) bool { return name == "." })
	for i := range pick(2*len(files), 200) {
		for _, alone := range []bool{false, true} {
			dir := u.crashed(t)
			if alone {
				if err := os.RemoveAll(filepath.Join(dir, "checkpoints", "step-4")); err != nil {
					t.Fatal(err)
				}
			}
			name := files[i%len(files)]
			path := filepath.Join(dir, "checkpoints", "step-6", name)
			text := content(t, path)
			bit := random.IntN(8 * len(text))
			text[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, text, 0o666); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			r := run(t, ".", "gqa-train", "resume", dir)
			r.clean(t)
			switch {
			case alone && (r.status != 1 || strings.Count(r.errOut, "none of its checkpoints is intact (step 6: ") != 1):
				t.Errorf("bit %d of %s, no other checkpoint: status %d, %s", bit, name, r.status, r.errOut)
			case alone:
				if !maps.Equal(before, tree(t, dir)) {
					t.Errorf("bit %d of %s, no other checkpoint: the refused run changed", bit, name)
				}
			case r.status != 0 || strings.Count(r.errOut, "resuming from step 4") != 1:
				t.Errorf("bit %d of %s: status %d, %s", bit, name, r.status, r.errOut)
			default:
				u.same(t, name, dir)
			}
			os.RemoveAll(dir)
		}
	}
}
