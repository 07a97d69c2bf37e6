package data

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"gqa/internal/data/raw"
	"gqa/internal/file"
)

// source is a file of a corpus. open opens it for reading, with the named columns of a table; kind is its extension without that of a
// compression.
type source struct {
	name, kind string
	packing    string // extension of the compression; "" if there is none
	size       int64  // on disk
	open       func(columns []string) (io.ReadCloser, error)
}

// wholeFile are the kinds of files that are one document each.
var wholeFile = []string{
	".c", ".cc", ".cpp", ".cs", ".go", ".h", ".hpp", ".html", ".java", ".js", ".lua", ".md",
	".php", ".py", ".r", ".rb", ".rs", ".rst", ".scala", ".sh", ".sql", ".swift", ".tex", ".ts",
}

// recordKinds are the kinds of files of records: of JSON, and tables that are read as JSON.
var recordKinds = []string{".jsonl", ".ndjson", ".json", ".csv", ".tsv", raw.Parquet}

func (f source) records() bool { return slices.Contains(recordKinds, f.kind) }

func (f source) isWhole() bool { return slices.Contains(wholeFile, f.kind) }

func (f source) known() bool { return f.kind == ".txt" || f.records() || f.isWhole() }

// plainName returns the base name of the file without the extension of a compression.
func (f source) plainName() string {
	plain, _ := raw.Unpacked(f.name)
	return filepath.Base(plain)
}

// separator returns the separator between the documents of the file, or "" if it is one document.
func (f source) separator() string {
	if f.kind == ".txt" {
		return separator
	}
	return ""
}

// instead maps unsupported kinds of corpus files to advice.
var instead = map[string]string{
	".arrow": `write it as .jsonl: datasets.load_dataset("arrow", data_files="FILE", split="train").to_json("corpus.jsonl")`,
	".xz":    "decompress it: xz -dk FILE",
	".bz2":   "decompress it: bzip2 -dk FILE",
	".lz4":   "decompress it: lz4 -dm FILE",
	".zip":   "unpack it: unzip 'FILE'",
	".tar":   "unpack it: tar -xf FILE",
}

// notRead returns advice on an unsupported kind of file. FILE stands for its name.
func notRead(kind string) string {
	if advice, ok := instead[kind]; ok {
		return fmt.Sprintf("%s is not supported; %s", kind, advice)
	}
	return "unsupported file type; expected .txt, .jsonl, .json, .csv, source code, any of them with .gz or .zst, .parquet, or a folder"
}

// tableKinds are unsupported kinds of files that data sets consist of.
var tableKinds = []string{".arrow"}

// tables reports whether the file is of such a kind, possibly compressed.
func (f source) tables() bool {
	inner := strings.ToLower(filepath.Ext(strings.TrimSuffix(f.name, filepath.Ext(f.name))))
	_, refused := instead[f.kind]
	return slices.Contains(tableKinds, f.kind) || refused && (slices.Contains(tableKinds, inner) || slices.Contains(recordKinds, inner))
}

// aside matches the names of files that describe or lock a corpus.
var (
	asideText = regexp.MustCompile(`(?i)^(readme|licen[cs]e)([-_. ].*)?$|^(copying|copyright|notice|citation|datasheet|((data|dataset|model)[-_]?)?card)(\.\w+)?$`)
	asideData = regexp.MustCompile(`^(dataset_infos?|dataset_dict|state|metadata|croissant)\.jsonl?$|[.-]lock(\.json)?$`)
)

// asideProject matches the names of files that accompany a data set's project. In a folder of prose they may be part of
// the corpus.
var asideProject = regexp.MustCompile(`(?i)^(change[-_]?log|contributing|contributors|code[-_]of[-_]conduct|security|authors|maintainers|` +
	`acknowledge?ments?|terms([-_]of[-_]\w+)?|requirements|checksums?|(md5|sha\d+)(sums?)?|urls?|file[-_]?list|manifest)([-_. ].*)?$`)

// proseKinds are the kinds of those files that are text: license_plates.py is code.
var proseKinds = []string{"", ".md", ".txt", ".rst", ".html", ".tex", ".cff", ".bib", ".json", ".yaml", ".yml", ".pdf", ".md5", ".sha1", ".sha256", ".sha512"}

func isProse(name string) bool {
	return slices.Contains(proseKinds, strings.ToLower(filepath.Ext(name)))
}

func isAside(name string) bool {
	return isProse(name) && asideText.MatchString(name) || asideData.MatchString(name)
}

func isProject(name string) bool { return isProse(name) && asideProject.MatchString(name) }

// media are kinds of files without text, so that skipping them loses nothing.
var media = []string{".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".ico", ".bmp", ".mp3", ".mp4", ".wav", ".woff", ".woff2", ".ttf", ".otf"}

// open finds the files of the corpus.
func (c *textCorpus) open(ctx context.Context) error {
	info, err := os.Stat(c.name)
	if errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(c.name, "*?[{") {
		return c.openGlob(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no such file or folder")
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return c.openAll(ctx, c.name)
	}
	if err := file.Check(c.name, info); err != nil {
		return err
	}
	f := diskFile(c.name, info.Size())
	if !f.known() {
		return errors.New(strings.ReplaceAll(notRead(f.kind), "FILE", filepath.Base(c.name)))
	}
	c.files = []source{f}
	return nil
}

// openGlob finds the files and folders that match the name, in which ** stands for any number of folders.
func (c *textCorpus) openGlob(ctx context.Context) error {
	matches, err := doublestar.FilepathGlob(c.name, doublestar.WithFailOnIOErrors())
	if err != nil {
		return err
	}
	if len(matches) == 0 {
		return errors.New("no file or folder matches")
	}
	slices.Sort(matches)
	return c.openAll(ctx, matches...)
}

// folder counts the files of a folder.
type folder struct {
	read, lost int64    // bytes of files that are read, and of skipped files that may hold text
	left       []string // names of the skipped files
	missed     []missed // skipped files that may hold text
}

// missed is a skipped file that may hold text.
type missed struct {
	name, kind, why string
	size            int64
}

// openAll finds the files below some paths.
func (c *textCorpus) openAll(ctx context.Context, roots ...string) error {
	var d folder
	var found []source
	for _, root := range roots {
		more, err := c.walk(ctx, root, &d)
		if err != nil {
			return err
		}
		found = append(found, more...)
	}
	dataset := isDataset(found)
	for _, f := range found {
		c.addFile(f, dataset, &d)
	}
	slices.Sort(d.left)
	slices.SortFunc(d.missed, func(a, b missed) int { return cmp.Compare(a.name, b.name) })
	return d.check(c, dataset)
}

// walk finds the files below a folder that may belong to the corpus, or the file root.
func (c *textCorpus) walk(ctx context.Context, root string, d *folder) (found []source, err error) {
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		dot := strings.HasPrefix(entry.Name(), ".") && path != root
		switch {
		case err != nil:
			return err
		case dot && entry.IsDir():
			return filepath.SkipDir
		case dot || entry.IsDir():
			return ctx.Err()
		}
		f, ok, err := c.find(ctx, path, d)
		if ok {
			found = append(found, f)
		}
		return err
	})
	return found, err
}

// find returns a file of a folder if it may belong to the corpus.
func (c *textCorpus) find(ctx context.Context, path string, d *folder) (f source, ok bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return f, false, err
	}
	f = diskFile(path, info.Size())
	switch {
	case isAside(f.plainName()), !info.Mode().IsRegular(), slices.Contains(media, f.kind):
		d.left = append(d.left, c.within(f))
		return f, false, nil
	case f.kind == ".json" || raw.Separators[f.kind] != 0: // usually settings, and often figures
		if err := c.probe(ctx, f); err != nil {
			d.miss(c.within(f), f, err.Error())
			return f, false, ctx.Err()
		}
	}
	return f, true, nil
}

// codePerData is the maximum ratio of source code and prose files to the record or table files of a data set.
const codePerData = 10

// isDataset reports whether the files are a data set, with its scripts and documentation: some of them hold records or
// tables. A folder of source code may hold a few such files, too.
func isDataset(files []source) bool {
	data, code := 0, 0
	for _, f := range files {
		switch {
		case f.records(), f.tables():
			data++
		case f.isWhole():
			code++
		}
	}
	return data > 0 && code <= codePerData*data
}

// addFile adds a file of a folder to the corpus, or skips it.
func (c *textCorpus) addFile(f source, dataset bool, d *folder) {
	switch {
	case dataset && (f.isWhole() || isProject(f.plainName())):
		d.left = append(d.left, c.within(f))
	case !f.known():
		d.miss(c.within(f), f, notRead(f.kind))
	default:
		c.files = append(c.files, f)
		d.read += f.size
	}
}

// within returns the file's name relative to the folder.
func (c *textCorpus) within(f source) string {
	name, err := filepath.Rel(c.name, f.name)
	if err != nil {
		return f.name
	}
	return name
}

// probe returns the reason why the first record of a file cannot be read, if any.
func (c *textCorpus) probe(ctx context.Context, f source) error {
	var bad error
	_, err := c.read(f, &meter{ctx: ctx}, func(p part) error {
		bad = p.bad
		return errStop
	})
	if err == errStop {
		return bad
	}
	return err
}

// miss records a skipped file that may hold text.
func (d *folder) miss(name string, f source, why string) {
	d.missed, d.left, d.lost = append(d.missed, missed{name, f.kind, why, f.size}), append(d.left, name), d.lost+f.size
}

// names returns the names of the skipped files that may hold text.
func (d *folder) names() (names []string) {
	for _, m := range d.missed {
		names = append(names, m.name)
	}
	return names
}

// worst returns a file of the kind that accounts for most of the skipped bytes, and the reason why it is skipped, with
// advice for all files of its kind.
func (d *folder) worst() (name, why string) {
	lost, names := map[string]int64{}, map[string][]string{}
	worst := d.missed[0]
	for _, m := range d.missed {
		lost[m.kind] += m.size
		names[m.kind] = append(names[m.kind], m.name)
	}
	for _, m := range d.missed {
		if lost[m.kind] > lost[worst.kind] {
			worst = m
		}
	}
	return worst.name, strings.ReplaceAll(worst.why, "FILE", globOf(names[worst.kind], worst.kind))
}

// globOf returns the name of a single file, or a glob that matches several files of a kind.
func globOf(names []string, kind string) string {
	if len(names) == 1 {
		return names[0]
	}
	dir := filepath.Dir(names[0])
	if slices.ContainsFunc(names, func(name string) bool { return filepath.Dir(name) != dir }) {
		dir = "**"
	}
	return filepath.Join(dir, "*"+kind)
}

// check warns about skipped files, or rejects a folder if too much of it is skipped.
func (d *folder) check(c *textCorpus, dataset bool) error {
	switch {
	case d.lost > d.read:
		_, why := d.worst()
		return fmt.Errorf("%d of its %d bytes are skipped, those of %s: %s", d.lost, d.lost+d.read, some(d.names()), why)
	case len(c.files) == 0:
		return fmt.Errorf("no file of a known kind: expected .txt, .jsonl, .json, .csv or source code, any of them with .gz or .zst, or .parquet; it has %s", some(d.left))
	case len(d.missed) > 0:
		name, why := d.worst()
		slog.Warn("files of the corpus folder are skipped", "folder", c.name, "files", some(d.left), "such_as", name, "because", why)
	case len(d.left) > 0:
		slog.Warn("files of the corpus folder are skipped", "folder", c.name, "files", some(d.left))
	}
	if splits := splitsOf(c); len(splits) > 1 {
		slog.Warn("the corpus has files of several splits, and all are read; to read one, name its files with a glob such as DIR/**/"+splits[len(splits)-1]+"*",
			"corpus", c.name, "splits", strings.Join(splits, ", "))
	}
	if kinds := mixture(c.files); kinds != "" && !dataset {
		slog.Info("the corpus folder holds files of several kinds, and all are read", "folder", c.name, "files", kinds)
	}
	return nil
}

// splitNames are the usual names of splits in the paths of files.
var splitNames = regexp.MustCompile(`(?i)(?:^|[-_./\\])(train|test|validation|valid|val|dev|eval)(?:[-_./\\0-9]|$)`)

// splitsOf returns the names of splits in the paths of a corpus's records, sorted.
func splitsOf(c *textCorpus) (splits []string) {
	for _, f := range c.files {
		if m := splitNames.FindStringSubmatch(c.within(f)); m != nil && f.records() && !slices.Contains(splits, strings.ToLower(m[1])) {
			splits = append(splits, strings.ToLower(m[1]))
		}
	}
	slices.Sort(splits)
	return splits
}

// mixture counts the files of each sort; "" if there is only one sort.
func mixture(files []source) string {
	var records, texts, whole int
	for _, f := range files {
		switch {
		case f.records():
			records++
		case f.isWhole():
			whole++
		default:
			texts++
		}
	}
	var sorts []string
	for _, sort := range []struct {
		n    int
		name string
	}{{records, "of records"}, {texts, ".txt"}, {whole, "of source code or prose"}} {
		if sort.n > 0 {
			sorts = append(sorts, fmt.Sprintf("%d %s", sort.n, sort.name))
		}
	}
	if len(sorts) < 2 {
		return ""
	}
	return strings.Join(sorts, ", ")
}

// some joins the first few names.
func some(names []string) string {
	const few = 5
	switch n := len(names) - few; {
	case len(names) == 0:
		return "nothing else"
	case n > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), n)
	}
	return strings.Join(names, ", ")
}

// diskFile returns the file at path.
func diskFile(path string, size int64) source {
	_, packing := raw.Unpacked(path)
	f := source{name: path, kind: raw.Kind(path), packing: packing, size: size}
	f.open = func([]string) (io.ReadCloser, error) { return file.Open(path) }
	if f.kind == raw.Parquet {
		f.packing = ""
		f.open = func(columns []string) (io.ReadCloser, error) { return raw.Open(path, columns) }
	}
	return f
}
