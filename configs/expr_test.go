package configs

import "testing"

func TestEvalProduct(t *testing.T) {
	symbols := map[string]float64{"dim": 12, "heads": 4, "zero": 0}
	for expr, want := range map[string]float64{
		"dim": 12, "7": 7, "0.25": 0.25, "4 * dim": 48, "dim / heads": 3, "dim / heads * 2": 6, "2 * dim / heads": 6, "dim / 5": 2.4,
	} {
		if got, err := evalProduct(expr, symbols); err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", expr, got, err, want)
		}
	}
	for expr, want := range map[string]string{
		"":            `expression "" is not a product`,
		"dim *":       `expression "dim *" is not a product`,
		"dims":        `unknown name "dims"`,
		"dim * haeds": `unknown name "haeds"`,
		"x * dim":     `unknown name "x"`,
		"dim / zero":  `zero is 0 in "dim / zero"`,
		"dim + heads": `operator "+" is not *, / or ^`,
		"4*dim":       `unknown name "4*dim"`,
	} {
		_, err := evalProduct(expr, symbols)
		wantError(t, err, want)
	}
}
