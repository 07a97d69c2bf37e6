package limits

import (
	"strings"
	"testing"
)

func TestMemory(t *testing.T) {
	if err := Memory("a page", 4096); err != nil {
		t.Error(err)
	}
	err := Memory("the universe", 1<<60)
	if err == nil || !strings.Contains(err.Error(), "the universe takes 1073741824.0 GiB, but ") {
		t.Errorf("got %v", err)
	}
}

func TestProductsDoNotOverflow(t *testing.T) {
	for name, product := range map[string]float64{
		"tokens of a batch":    Batch * Tokens,
		"tokens of windows":    Count * Tokens,
		"tokens of a training": Count * Step,
	} {
		if product >= 1<<62 {
			t.Errorf("%s: %g", name, product)
		}
	}
}
