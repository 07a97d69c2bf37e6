package data

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"
)

// DefaultBadRows is how many rows of a corpus may be unusable.
const DefaultBadRows = 100

// tally counts the rows of a corpus that cannot be used.
type tally struct {
	corpus string
	limit  int
	good   bool     // there are others
	Rows   int      `json:"rows"`
	Such   []string `json:"such,omitempty"` // what is wrong with the first of them
	first  error
}

// named is how many bad rows are named.
const namedRows = 3

// newTally returns the tally of a corpus with Options.BadRows.
func newTally(corpus string, limit int) *tally {
	return &tally{corpus: corpus, limit: max(0, cmp.Or(limit, DefaultBadRows))}
}

// add counts a row. It is an error if there are more than the limit.
func (t *tally) add(bad error) error {
	if t.first == nil {
		t.first = bad
	}
	t.Rows++
	if t.limit == 0 {
		return fmt.Errorf("corpus %w", bad)
	}
	if len(t.Such) < namedRows {
		t.Such = append(t.Such, bad.Error())
	}
	if t.Rows > t.limit {
		return fmt.Errorf("corpus %s: more than %d rows cannot be used, the limit (bad_rows of a recipe), such as %w", t.corpus, t.limit, t.first)
	}
	return nil
}

// check returns an error if rows that were counted earlier are more than the limit.
func (t *tally) check() error {
	if t.Rows > t.limit {
		return fmt.Errorf("corpus %s: %d rows cannot be used, and the limit (bad_rows of a recipe) is %d; such as %s", t.corpus, t.Rows, t.limit, strings.Join(t.Such, "; "))
	}
	return nil
}

// end logs what was counted. It is an error if no row can be used.
func (t *tally) end() error {
	switch {
	case t.Rows == 0:
		return nil
	case !t.good && t.first != nil:
		return fmt.Errorf("corpus %s: none of its rows can be used (%d), such as %w", t.corpus, t.Rows, t.first)
	}
	slog.Warn("rows of the corpus cannot be used and were skipped", "corpus", t.corpus, "rows", t.Rows, "such_as", strings.Join(t.Such, "; "))
	return nil
}
