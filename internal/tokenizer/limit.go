package tokenizer

import (
	"fmt"
	"time"
)

// A tokenizer.json is a stranger's: it may hold an expression that backtracks for
// years, or replacements that make gigabytes of a line.
const (
	// A normalizer or decoder may make a text maxGrowth times as long, and freeGrowth
	// bytes more. NFKD makes 11 times as long what consists of U+FDFA alone.
	maxGrowth  = 32
	freeGrowth = 1 << 10
)

// matchTime is how long an expression may search one text, at most a part of a
// document. The usual ones take less than a second.
var matchTime = 20 * time.Second

// limitError is what a step of a tokenizer panics with when it exceeds a limit.
type limitError struct{ error }

func exceed(format string, args ...any) { panic(limitError{fmt.Errorf(format, args...)}) }

// catch makes such a panic the error of the exported function that defers it.
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

// growthOf is how many bytes s may become.
func growthOf(s string) int { return maxGrowth*len(s) + freeGrowth }

// checkGrowth panics where a text of n bytes is longer than it may be.
func checkGrowth(n, limit int) {
	if n > limit {
		exceed("the normalizer or decoder makes a text of %d bytes out of one of %d, want at most %d: its replacements are too long",
			n, (limit-freeGrowth)/maxGrowth, limit)
	}
}
