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

	"gqa/internal/file"
)

// source is a file of a corpus: open starts reading it, kind is its extension
// without .gz.
type source struct {
	name, kind string
	zipped     bool
	size       int64 // on disk
	open       func() (io.ReadCloser, error)
}

// wholeFile are the kinds of which a file is one document.
var wholeFile = []string{
	".c", ".cc", ".cpp", ".cs", ".go", ".h", ".hpp", ".html", ".java", ".js", ".lua", ".md",
	".php", ".py", ".r", ".rb", ".rs", ".rst", ".scala", ".sh", ".sql", ".swift", ".tex", ".ts",
}

// recordKinds are those of JSON records.
var recordKinds = []string{".jsonl", ".ndjson", ".json"}

func (f source) records() bool { return slices.Contains(recordKinds, f.kind) }

func (f source) isWhole() bool { return slices.Contains(wholeFile, f.kind) }

func (f source) known() bool { return f.kind == ".txt" || f.records() || f.isWhole() }

// plainName is the file's name without its folder and .gz.
func (f source) plainName() string { return filepath.Base(strings.TrimSuffix(f.name, ".gz")) }

// separator stands between the documents of the file; "": it is one document.
func (f source) separator() string {
	if f.kind == ".txt" {
		return separator
	}
	return ""
}

// instead says, of kinds that corpora come in and that are not read, what to do.
var instead = map[string]string{
	".parquet": `write it as .jsonl: datasets.load_dataset("parquet", data_files="FILE", split="train").to_json("corpus.jsonl")`,
	".arrow":   `write it as .jsonl: datasets.load_dataset("arrow", data_files="FILE", split="train").to_json("corpus.jsonl")`,
	".csv":     `write it as .jsonl: datasets.load_dataset("csv", data_files="FILE", split="train").to_json("corpus.jsonl")`,
	".tsv":     `write it as .jsonl: datasets.load_dataset("csv", delimiter="\t", data_files="FILE", split="train").to_json("corpus.jsonl")`,
	".zst":     "decompress it: zstd -d FILE",
	".xz":      "decompress it: xz -dk FILE",
	".bz2":     "decompress it: bzip2 -dk FILE",
	".lz4":     "decompress it: lz4 -dm FILE",
	".zip":     "unpack it: unzip 'FILE'",
	".tar":     "unpack it: tar -xf FILE",
}

// notRead is what to do with a file of a kind that is not read. FILE stands for its name.
func notRead(kind string) string {
	if advice, ok := instead[kind]; ok {
		return fmt.Sprintf("%s is not read; %s", kind, advice)
	}
	return "unsupported file type; expected .txt, .jsonl, .json, source code, any of them with .gz, or a folder"
}

// tableKinds are kinds of which a data set consists, and that are not read.
var tableKinds = []string{".parquet", ".arrow", ".csv", ".tsv", ".zst"}

// tables says whether the file is of such a kind, or its name without the ending of what compressed it is.
func (f source) tables() bool {
	inner := strings.ToLower(filepath.Ext(strings.TrimSuffix(f.name, filepath.Ext(f.name))))
	_, refused := instead[f.kind]
	return slices.Contains(tableKinds, f.kind) || refused && (slices.Contains(tableKinds, inner) || slices.Contains(recordKinds, inner))
}

// aside are the names of files that say what a corpus is, or lock it.
var (
	asideText = regexp.MustCompile(`(?i)^(readme|licen[cs]e)([-_. ].*)?$|^(copying|copyright|notice|citation|datasheet|((data|dataset|model)[-_]?)?card)(\.\w+)?$`)
	asideData = regexp.MustCompile(`^(dataset_infos?|dataset_dict|state|metadata|croissant)\.jsonl?$|[.-]lock(\.json)?$`)
)

// asideProject are the names of files that go with the project of a data set. In a folder of prose they may be what it holds.
var asideProject = regexp.MustCompile(`(?i)^(change[-_]?log|contributing|contributors|code[-_]of[-_]conduct|security|authors|maintainers|` +
	`acknowledge?ments?|terms([-_]of[-_]\w+)?|requirements|checksums?|(md5|sha\d+)(sums?)?|urls?|file[-_]?list|manifest)([-_. ].*)?$`)

// proseKinds are those of the texts among them: license_plates.py is code.
var proseKinds = []string{"", ".md", ".txt", ".rst", ".html", ".tex", ".cff", ".bib", ".json", ".yaml", ".yml", ".pdf", ".md5", ".sha1", ".sha256", ".sha512"}

func isProse(name string) bool {
	return slices.Contains(proseKinds, strings.ToLower(filepath.Ext(name)))
}

func isAside(name string) bool {
	return isProse(name) && asideText.MatchString(name) || asideData.MatchString(name)
}

func isProject(name string) bool { return isProse(name) && asideProject.MatchString(name) }

// media are kinds that no text is in, so that none is lost with them.
var media = []string{".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".ico", ".bmp", ".mp3", ".mp4", ".wav", ".woff", ".woff2", ".ttf", ".otf"}

// open finds the files of the corpus.
func (c *textCorpus) open(ctx context.Context) error {
	info, err := os.Stat(c.name)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no such file or folder")
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return c.openFolder(ctx)
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

// folder counts what lies in one.
type folder struct {
	read, lost int64    // bytes of files that are read, and of those left out that may hold text
	left       []string // names of the files that are left out
	missed     []missed // those that may hold text
}

// missed is a file that is left out and may hold text.
type missed struct {
	name, kind, why string
	size            int64
}

func (c *textCorpus) openFolder(ctx context.Context) error {
	var d folder
	var found []source
	err := filepath.WalkDir(c.name, func(path string, entry fs.DirEntry, err error) error {
		hidden := strings.HasPrefix(entry.Name(), ".") && path != c.name
		switch {
		case err != nil:
			return err
		case hidden && entry.IsDir():
			return filepath.SkipDir
		case hidden || entry.IsDir():
			return ctx.Err()
		}
		f, ok, err := c.find(ctx, path, &d)
		if ok {
			found = append(found, f)
		}
		return err
	})
	if err != nil {
		return err
	}
	dataset := isDataset(found)
	for _, f := range found {
		c.addFile(f, dataset, &d)
	}
	slices.Sort(d.left)
	slices.SortFunc(d.missed, func(a, b missed) int { return cmp.Compare(a.name, b.name) })
	return d.check(c, dataset)
}

// find returns a file of a folder, if it may be one of the corpus.
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
	case f.kind == ".json": // most often a setting
		if err := c.probe(ctx, f); err != nil {
			d.miss(c.within(f), f, err.Error())
			return f, false, ctx.Err()
		}
	}
	return f, true, nil
}

// codePerData is how many files of source code and prose there may be for each of a data set's.
const codePerData = 10

// isDataset says whether the files are a data set, with the scripts and the documentation that go with it: some hold
// records or tables. A folder of source code may hold a few, too.
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

// addFile takes a file of a folder into the corpus, or leaves it out.
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

// within is the file's name within the folder.
func (c *textCorpus) within(f source) string {
	name, err := filepath.Rel(c.name, f.name)
	if err != nil {
		return f.name
	}
	return name
}

// probe returns why the first record of a file cannot be read.
func (c *textCorpus) probe(ctx context.Context, f source) error {
	_, err := c.read(f, &meter{ctx: ctx}, func(part) error { return errStop })
	if err == errStop {
		return nil
	}
	return err
}

// miss leaves out a file that may hold text.
func (d *folder) miss(name string, f source, why string) {
	d.missed, d.left, d.lost = append(d.missed, missed{name, f.kind, why, f.size}), append(d.left, name), d.lost+f.size
}

// names are those of the files that may hold text.
func (d *folder) names() (names []string) {
	for _, m := range d.missed {
		names = append(names, m.name)
	}
	return names
}

// worst is a file of the kind that most bytes are lost of, and why it is left out, with what to do about all of its kind.
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

// globOf matches files of a kind: it is the name of one, and a glob of several.
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

// check warns of what is left out, or refuses a folder of which too much is.
func (d *folder) check(c *textCorpus, dataset bool) error {
	switch {
	case d.lost > d.read:
		_, why := d.worst()
		return fmt.Errorf("%d of its %d bytes are not read, those of %s: %s", d.lost, d.lost+d.read, some(d.names()), why)
	case len(c.files) == 0:
		return fmt.Errorf("no file of a known kind: expected .txt, .jsonl, .json or source code, any of them with .gz; it has %s", some(d.left))
	case len(d.missed) > 0:
		name, why := d.worst()
		slog.Warn("files of the corpus folder are left out", "folder", c.name, "files", some(d.left), "such_as", name, "because", why)
	case len(d.left) > 0:
		slog.Warn("files of the corpus folder are left out", "folder", c.name, "files", some(d.left))
	}
	if kinds := mixture(c.files); kinds != "" && !dataset {
		slog.Info("the corpus folder holds files of several kinds, and all are read", "folder", c.name, "files", kinds)
	}
	return nil
}

// mixture counts the files of each sort; "": all are of one.
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

// some lists the first few names.
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

// diskFile is the file at path.
func diskFile(path string, size int64) source {
	plain, zipped := strings.CutSuffix(path, ".gz")
	return source{
		name: path, kind: strings.ToLower(filepath.Ext(plain)), zipped: zipped, size: size,
		open: func() (io.ReadCloser, error) { return file.Open(path) },
	}
}
