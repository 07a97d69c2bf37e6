package tasks

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"gqa/internal/data/raw"
	"gqa/internal/file"
	"gqa/internal/hub"
)

// record is a JSON object of a file.
type record struct {
	keys map[string]json.RawMessage
	line int
}

var errMissing = errors.New("no such file")

// read reads a task from a file, or from the files of a folder, of a glob or of a data set in the hub's cache. format may be empty.
func read(path, format string) (*Task, error) {
	found, err := hub.Find(hub.Dataset, path)
	if err != nil {
		return nil, err
	}
	files, err := filesOf(found)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(filepath.Base(path), "*?[{") {
		path = filepath.Dir(path)
	}
	name, err := baseName(path, files[0] != found) // that of a data set, not of its folder in the hub's cache
	if err != nil {
		return nil, err
	}
	var t *Task
	for _, f := range files {
		next, err := readFile(f, format, name)
		switch {
		case err != nil:
			return nil, err
		case t == nil:
			t = next
		case next.format != t.format:
			return nil, fmt.Errorf("%s: the format is %s, that of %s is %s: give them as two tasks", f, next.format, files[0], t.format)
		default:
			t.Items = append(t.Items, next.Items...)
		}
	}
	return t, nil
}

// filesOf returns the file, or the files of a folder that may hold records.
func filesOf(path string) (files []string, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(path, "*?[{"):
		if files, err = doublestar.FilepathGlob(path); err == nil && len(files) == 0 {
			err = fmt.Errorf("%s: no file matches", path)
		}
		slices.Sort(files)
		return files, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", path, errMissing)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		if slices.Contains([]string{".jsonl", ".ndjson", ".json", ".csv", raw.Parquet}, raw.Kind(e.Name())) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 && err == nil {
		err = fmt.Errorf("%s: the folder holds no .jsonl, .json, .parquet or .csv file", path)
	}
	return files, err
}

// baseName returns the name of a folder, or that of a file without its extension.
func baseName(path string, folder bool) (string, error) {
	path, err := filepath.Abs(path) // . has a name, too
	base := filepath.Base(path)
	if !folder {
		base, _ = raw.Unpacked(base)
		base = strings.TrimSuffix(base, filepath.Ext(base))
	}
	return base, err
}

// readFile reads a task from one file. name is that of the file or of its folder, without an extension.
func readFile(path, format, name string) (*Task, error) {
	text, err := contents(path)
	if err != nil {
		return nil, err
	}
	parse := parseJSON
	if raw.Kind(path) == ".csv" {
		parse = parseCSV(path)
	}
	records, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%s: the file has no records", path)
	}
	f, err := formatOf(path, format, records)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t := f.task(name)
	for _, r := range records {
		it, err := f.item(r)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w (read as %s)", path, r.line, err, f.name)
		}
		t.Items = append(t.Items, it)
	}
	return t, nil
}

// maxFile is the largest file that is read, decompressed.
const maxFile = 4 << 30

func contents(path string) ([]byte, error) {
	r, err := raw.Open(path, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, file.Reason(path, err))
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if line := notUTF8(text); line > 0 {
		return nil, fmt.Errorf("%s: line %d is not UTF-8: convert the file", path, line)
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// notUTF8 returns the number of the first line that is not UTF-8, which encoding/json would read as other characters; 0 if there is none.
func notUTF8(text []byte) (line int) {
	if utf8.Valid(text) {
		return 0
	}
	for l := range bytes.Lines(text) {
		if line++; !utf8.Valid(l) {
			break
		}
	}
	return line
}

// parseJSON reads objects: one after the other, in an array, or under the key Data of a single object, as in TriviaQA.
func parseJSON(text []byte) (all []record, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	list := bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("["))
	if list {
		if _, err := d.Token(); err != nil {
			return nil, err
		}
	}
	line, counted := 1, int64(0)
	lineNow := func() int {
		at := d.InputOffset()
		line, counted = line+bytes.Count(text[counted:at], []byte("\n")), at
		return line
	}
	for d.More() {
		var keys map[string]json.RawMessage
		err := d.Decode(&keys)
		if at := lineNow(); err != nil || keys == nil {
			return nil, fmt.Errorf("line %d: want JSON objects, one on each line: %w", at, orNull(err))
		}
		all = append(all, record{keys, line})
	}
	if err := ends(d, list); err != nil {
		return nil, fmt.Errorf("after record %d, in line %d: %w", len(all), lineNow(), err)
	}
	if data, ok := inner(all); ok {
		return parseJSON(data)
	}
	return all, nil
}

// ends returns an error if records are not followed by the end of the text, and that of their list before it.
func ends(d *json.Decoder, list bool) error {
	if list {
		if _, err := d.Token(); err != nil {
			return fmt.Errorf("want the end of the list, ]: %w", err)
		}
	}
	if next, err := d.Token(); err != io.EOF {
		return fmt.Errorf("want the end of the file: %w", cmp.Or(err, fmt.Errorf("found %v", next)))
	}
	return nil
}

func orNull(err error) error {
	if err == nil {
		return errors.New("found null")
	}
	return err
}

// inner returns the list in the only record, if it is a whole data set.
func inner(all []record) (json.RawMessage, bool) {
	if len(all) != 1 {
		return nil, false
	}
	data, ok := all[0].keys["Data"]
	return data, ok && bytes.HasPrefix(data, []byte("["))
}

// parseCSV reads the form in which MMLU was first published: question, four choices and the letter of the answer, in a file named after
// the subject.
func parseCSV(path string) func(text []byte) ([]record, error) {
	plain, _ := raw.Unpacked(filepath.Base(path))
	subject := strings.TrimSuffix(plain, ".csv")
	for _, split := range []string{"_test", "_dev", "_val"} {
		subject = strings.TrimSuffix(subject, split)
	}
	return func(text []byte) (all []record, err error) {
		r := csv.NewReader(bytes.NewReader(text))
		r.FieldsPerRecord = 6
		for {
			fields, err := r.Read()
			if err == io.EOF {
				return all, nil
			}
			if err != nil {
				return nil, fmt.Errorf("want a question, four choices and the letter of the answer: %w", err)
			}
			line, _ := r.FieldPos(0)
			keys := map[string]json.RawMessage{}
			for key, value := range map[string]any{"question": fields[0], "choices": fields[1:5], "answer": fields[5], "subject": subject} {
				keys[key], _ = json.Marshal(value) // strings
			}
			all = append(all, record{keys, line})
		}
	}
}

// names returns the keys of a record, sorted.
func (r record) names() []string { return slices.Sorted(maps.Keys(r.keys)) }

// get decodes the value of a key.
func (r record) get(key string, value any) error {
	raw, ok := r.keys[key]
	if !ok || string(raw) == "null" {
		return fmt.Errorf("%q is missing", key)
	}
	if err := json.Unmarshal(raw, value); err != nil {
		return fmt.Errorf("%q is %.60s, want %s", key, raw, kindOf(value))
	}
	return nil
}

func kindOf(value any) string {
	switch value.(type) {
	case *string:
		return "a string"
	case *[]string:
		return "a list of strings"
	}
	return "an object"
}

// text returns a string.
func (r record) text(key string) (s string, err error) {
	err = r.get(key, &s)
	return s, err
}

// texts returns strings.
func (r record) texts(keys ...string) ([]string, error) {
	all := make([]string, len(keys))
	for i, key := range keys {
		if err := r.get(key, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// index returns which of n choices a value names: a number that counts from first, possibly as a string; a letter; true or false for 1 or 0.
func (r record) index(key string, first, n int) (int, error) {
	raw := strings.Trim(string(r.keys[key]), `" `)
	at := -1
	switch {
	case r.keys[key] == nil:
		return 0, fmt.Errorf("%q is missing: an item without an answer cannot be scored", key)
	case raw == "true", raw == "false":
		at = map[string]int{"false": 0, "true": 1}[raw]
	case len(raw) == 1 && raw[0] >= 'A' && raw[0] <= 'Z':
		at = int(raw[0] - 'A')
	default:
		if err := json.Unmarshal([]byte(raw), &at); err != nil {
			at = -1
		}
		at -= first
	}
	if at < 0 || at >= n {
		return 0, fmt.Errorf("%q is %.30s, want one of %d choices, counted from %d", key, r.keys[key], n, first)
	}
	return at, nil
}
