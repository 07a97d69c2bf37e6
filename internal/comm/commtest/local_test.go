package commtest

import (
	"sync"
	"testing"

	"gqa/internal/device/cpu"
)

func TestLocal(t *testing.T) {
	for n := 1; n <= 3; n++ {
		var all sync.WaitGroup
		for _, c := range Local(n) {
			all.Go(func() {
				if err := Check(c, cpu.New()); err != nil {
					t.Errorf("rank %d of %d: %v", c.Rank(), n, err)
				}
			})
		}
		all.Wait()
	}
}
