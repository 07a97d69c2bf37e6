package text

import (
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
var recordKinds = []string{".jsonl", ".json"}

func (f source) records() bool { return slices.Contains(recordKinds, f.kind) }

func (f source) known() bool {
	return f.kind == ".txt" || f.records() || slices.Contains(wholeFile, f.kind)
}

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
	".arrow":   `write it as .jsonl: datasets.Dataset.from_file("FILE").to_json("corpus.jsonl")`,
	".csv":     `write it as .jsonl: datasets.load_dataset("csv", data_files="FILE", split="train").to_json("corpus.jsonl")`,
	".tsv":     `write it as .jsonl: datasets.load_dataset("csv", delimiter="\t", data_files="FILE", split="train").to_json("corpus.jsonl")`,
	".zst":     "decompress it: zstd -d FILE",
	".xz":      "decompress it: xz -dk FILE",
	".bz2":     "decompress it: bzip2 -dk FILE",
	".lz4":     "decompress it: lz4 -d FILE",
	".zip":     "unpack it: unzip FILE",
	".tar":     "unpack it: tar -xf FILE",
}

// notRead is what to do with a file of a kind that is not read.
func notRead(kind string) string {
	if advice, ok := instead[kind]; ok {
		return fmt.Sprintf("%s is not read; %s", kind, advice)
	}
	return fmt.Sprintf("kind %q is not known: expected .txt, .jsonl, .json, source code, any of them with .gz, or a folder", kind)
}

// aside are the names of files that say what a corpus is, or lock it.
var (
	asideText = regexp.MustCompile(`(?i)^(readme|licen[cs]e)([-_. ].*)?$|^(copying|copyright|notice|citation|datasheet|((data|dataset|model)[-_]?)?card)(\.\w+)?$`)
	asideData = regexp.MustCompile(`^(dataset_infos?|dataset_dict|state|metadata|croissant)\.jsonl?$|[.-]lock(\.json)?$`)
)

// proseKinds are those of the texts among them: license_plates.py is code.
var proseKinds = []string{"", ".md", ".txt", ".rst", ".html", ".tex", ".cff", ".bib", ".json", ".yaml", ".yml", ".pdf"}

func isAside(name string) bool {
	prose := slices.Contains(proseKinds, strings.ToLower(filepath.Ext(name)))
	return prose && asideText.MatchString(name) || asideData.MatchString(name)
}

// media are kinds that no text is in, so that none is lost with them.
var media = []string{".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".ico", ".bmp", ".mp3", ".mp4", ".wav", ".woff", ".woff2", ".ttf", ".otf"}

// open finds the files of the corpus.
func (c *Corpus) open(ctx context.Context) error {
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
	missed     []string // of those that may hold text
	why        string   // the first of them does
}

func (c *Corpus) openFolder(ctx context.Context) error {
	var d folder
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
		return c.addFile(ctx, path, &d)
	})
	if err != nil {
		return err
	}
	return d.check(c.name, len(c.files))
}

// addFile takes a file of a folder into the corpus, or leaves it out.
func (c *Corpus) addFile(ctx context.Context, path string, d *folder) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(c.name, path)
	if err != nil {
		return err
	}
	f := diskFile(path, info.Size())
	switch {
	case isAside(filepath.Base(strings.TrimSuffix(path, ".gz"))), !info.Mode().IsRegular(), slices.Contains(media, f.kind):
		d.left = append(d.left, name)
	case !f.known():
		d.miss(name, info.Size(), notRead(f.kind))
	case f.kind == ".json": // most often a setting
		if err := c.probe(ctx, f); err != nil {
			d.miss(name, info.Size(), err.Error())
			return ctx.Err()
		}
		fallthrough
	default:
		c.files = append(c.files, f)
		d.read += info.Size()
	}
	return nil
}

// probe returns why the first record of a file cannot be read.
func (c *Corpus) probe(ctx context.Context, f source) error {
	_, err := c.read(f, &meter{ctx: ctx}, func(Part) error { return errStop })
	if err == errStop {
		return nil
	}
	return err
}

// miss leaves out a file that may hold text.
func (d *folder) miss(name string, size int64, why string) {
	if d.missed == nil {
		d.why = strings.ReplaceAll(why, "FILE", name)
	}
	d.missed, d.left, d.lost = append(d.missed, name), append(d.left, name), d.lost+size
}

// check warns of what is left out, or refuses a folder of which too much is.
func (d *folder) check(root string, files int) error {
	switch {
	case d.lost > d.read:
		return fmt.Errorf("%d of its %d bytes are not read, those of %s: %s", d.lost, d.lost+d.read, some(d.missed), d.why)
	case files == 0:
		return fmt.Errorf("no file of a known kind: expected .txt, .jsonl, .json or source code, any of them with .gz; it has %s", some(d.left))
	case len(d.missed) > 0:
		slog.Warn("files of the corpus folder are left out", "folder", root, "files", some(d.left), "first", d.missed[0], "because", d.why)
	case len(d.left) > 0:
		slog.Warn("files of the corpus folder are left out", "folder", root, "files", some(d.left))
	}
	return nil
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
