package tokenizer

import (
	"fmt"
	"time"
)

// A tokenizer.json may be untrusted: its regular expressions may backtrack for years, and its replacements may expand a
// line to gigabytes.
const (
	// A normalizer or decoder may expand a text by a factor of maxGrowth, plus freeGrowth bytes. NFKD expands a text of
	// U+FDFA by a factor of 11.
	maxGrowth  = 32
	freeGrowth = 1 << 10
)

// matchTime is the time limit for matching an expression against one text, at most a part of a document. The usual
// expressions take less than a second.
var matchTime = 20 * time.Second

// limitError is the panic value of a tokenizer step that exceeds a limit.
type limitError struct{ error }

func exceed(format string, args ...any) { panic(limitError{fmt.Errorf(format, args...)}) }

// catch converts such a panic into the error of the exported function that defers it.
func (t *Tokenizer) catch(err *error) {
	switch r := recover().(type) {
	case nil:
	case limitError:
		*err = r.error
		if t.path != "" {
			*err = fmt.Errorf("%s: %w", t.path, r.error)
		}
	default:
		panic(r)
	}
}

// growthOf returns the maximum number of bytes that s may expand to.
func growthOf(s string) int { return maxGrowth*len(s) + freeGrowth }

// checkGrowth panics if n, the length of a text in bytes, exceeds limit.
func checkGrowth(n, limit int) {
	if n > limit {
		exceed("the normalizer or decoder makes a text of %d bytes out of one of %d, want at most %d: its replacements are too long",
			n, (limit-freeGrowth)/maxGrowth, limit)
	}
}
