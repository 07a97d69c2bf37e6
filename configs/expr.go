package configs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// evalProduct evaluates an expression such as "dim", "4 * dim", "dim / heads" or "dim ^ 0.5" from left to right, using
// the given symbols.
func evalProduct(expr string, symbols map[string]float64) (float64, error) {
	words := strings.Fields(expr)
	if len(words)%2 == 0 {
		return 0, fmt.Errorf("expression %q is not a product of names and numbers", expr)
	}
	result, err := evalTerm(words[0], symbols)
	for i := 1; err == nil && i < len(words); i += 2 {
		var term float64
		if term, err = evalTerm(words[i+1], symbols); err != nil {
			break
		}
		switch {
		case words[i] == "*":
			result *= term
		case words[i] == "/" && term != 0:
			result /= term
		case words[i] == "/":
			return 0, fmt.Errorf("%s is 0 in %q", words[i+1], expr)
		case words[i] == "^":
			result = math.Pow(result, term)
		default:
			return 0, fmt.Errorf("expression %q: operator %q is not *, / or ^", expr, words[i])
		}
	}
	return result, err
}

func evalTerm(word string, symbols map[string]float64) (float64, error) {
	if v, ok := symbols[word]; ok {
		return v, nil
	}
	v, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return 0, fmt.Errorf("unknown name %q", word)
	}
	return v, nil
}
