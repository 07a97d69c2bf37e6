package simd_test

import (
	"strings"
	"testing"

	"gqa/internal/cpu/simd"
)

func TestSetPath(t *testing.T) {
	before := simd.Path()
	defer func() { _ = simd.SetPath(before) }()
	err := simd.SetPath("mmx")
	if err == nil || !strings.Contains(err.Error(), "go") || simd.Path() != before {
		t.Fatalf("SetPath(mmx) = %v, path now %s; want an error naming the paths, and %s", err, simd.Path(), before)
	}
	if got := simd.Choose("mmx"); got != simd.Paths()[0] {
		t.Errorf("an unknown GQA_KERNELS chooses %s, want the best, %s", got, simd.Paths()[0])
	}
	for _, name := range []string{"go", "ref"} {
		if err := simd.SetPath(name); err != nil || simd.Path() != name {
			t.Errorf("SetPath(%s) = %v, path now %s", name, err, simd.Path())
		}
	}
}
