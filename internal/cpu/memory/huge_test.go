package memory

import "testing"

// TestPages holds memory to its content, whatever the system makes of the advice, for sizes around a large page.
func TestPages(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 19, 1<<20 + 17, 3<<19 + 5} {
		s := make([]float32, n)
		HugePages(s)
		for i := range s {
			s[i] = float32(i % 1000)
		}
		CollapsePages(s)
		for i, v := range s {
			if v != float32(i%1000) {
				t.Fatalf("element %d of %d is %v", i, n, v)
			}
		}
	}
}
