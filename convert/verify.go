package convert

import (
	"fmt"
	"path/filepath"

	"gqa/checkpoints"
	"gqa/internal/weights"
)

// RecordError reports a folder whose files cannot be verified.
type RecordError struct {
	Dir string
	Err error // why
}

// Error names the folder and the reason.
func (e RecordError) Error() string { return fmt.Sprintf("%s: %v", e.Dir, e.Err) }

// Unwrap returns Err.
func (e RecordError) Unwrap() error { return e.Err }

// ReadRecord returns what conversion.json says about the files of the conversion in dir. The error is a RecordError if dir
// holds no conversion, or one of a version that did not list its files.
func ReadRecord(dir string) (*weights.Record, error) {
	text, err := checkpoints.ReadMark(dir, summaryFile)
	if err != nil {
		return nil, RecordError{dir, fmt.Errorf("is not a conversion: %w", err)}
	}
	held, err := parseRecord(text)
	if err != nil {
		return nil, RecordError{dir, fmt.Errorf("its %s is damaged, or not that of a conversion: %w", summaryFile, err)}
	}
	if held.Files == nil {
		return nil, RecordError{dir, fmt.Errorf("its %s lists no files, as one of an earlier version or of a run's model: nothing can be verified", summaryFile)}
	}
	r := &weights.Record{Path: filepath.Join(dir, summaryFile), Dir: dir, Files: make(map[string]checkpoints.Digest, len(held.Files))}
	for name, f := range held.Files {
		r.Files[name] = checkpoints.Digest(f)
	}
	return r, nil
}
