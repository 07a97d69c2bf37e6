package data

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// logged collects what is logged during a test.
func logged(t *testing.T) *bytes.Buffer {
	t.Helper()
	var log bytes.Buffer
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	return &log
}

func TestIsAside(t *testing.T) {
	for _, name := range []string{
		"README", "README.md", "readme.txt", "README_zh-CN.md", "README-EN.rst", "LICENSE", "LICENSE.txt", "LICENSE-APACHE", "licence.md",
		"COPYING", "NOTICE", "NOTICE.txt", "CITATION.cff", "citation.bib", "dataset_card.md", "DatasetCard.md", "model-card.md", "card.md",
		"datasheet.pdf", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "metadata.jsonl", "croissant.json",
		"train.parquet.lock", "package-lock.json",
	} {
		if !isAside(name) {
			t.Errorf("%s is taken for text", name)
		}
	}
	for _, name := range []string{
		"readme.jsonl", "readers.txt", "license_plates.py", "licenses.go", "noticed.md", "statement.json", "card.go", "wildcard.md",
		"citations.txt", "train.jsonl", "lock.go", "states.json", "metadata.txt", "cards.md",
	} {
		if isAside(name) {
			t.Errorf("%s is left out", name)
		}
	}
}

func TestIsProject(t *testing.T) {
	for _, name := range []string{
		"CHANGELOG", "CHANGELOG.md", "change_log.txt", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "code-of-conduct.txt", "SECURITY.md", "AUTHORS",
		"AUTHORS.txt", "CONTRIBUTORS.md", "ACKNOWLEDGEMENTS.md", "Acknowledgments.txt", "TERMS", "TERMS_OF_USE.txt", "terms.html", "requirements.txt",
		"requirements-dev.txt", "checksums.txt", "checksum.sha256", "SHA256SUMS", "md5sums.txt", "urls.txt", "urls_train.txt", "filelist.txt", "file_list.txt",
	} {
		if !isProject(name) {
			t.Errorf("%s is taken for text", name)
		}
	}
	for _, name := range []string{"changes.txt", "authorship.txt", "security.py", "terminal.txt", "curls.txt", "train.txt", "urls.jsonl", "requirements.json5", "contribution.txt"} {
		if isProject(name) {
			t.Errorf("%s is left out", name)
		}
	}
}

func TestFolders(t *testing.T) {
	card := "---\nlicense: mit\n---\n" + strings.Repeat("# card\n", 1000)
	record, other := "{\"text\":\"a\"}\n", "{\"content\":\"b\",\"n\":1}\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
		says  []string // in a warning, or where docs is nil in the error
	}{
		{
			"a hub's",
			map[string]string{
				"README.md": card, ".gitattributes": "x", "LICENSE": card, "README.txt.gz": card, "dataset_infos.json": "{}",
				"en/c4-train.00000-of-00001.json.gz": record, "en/c4-train.00001.json": "[{\"text\":\"b\"}]",
			},
			[]string{"a", "b"},
			[]string{"LICENSE, README.md, README.txt.gz, dataset_infos.json"},
		},
		{"nothing left out", map[string]string{"a.txt": "a", ".hidden.arrow": "xxxx"}, []string{"a"}, nil},
		{
			"a few of another kind",
			map[string]string{"a.txt": "aaaaaaaaaaaa", "b.arrow": "PAR1", "c.lz4": "1"},
			[]string{"aaaaaaaaaaaa"},
			[]string{"b.arrow, c.lz4", `.arrow is not supported; write it as .jsonl`, "b.arrow"},
		},
		{
			"records with a project",
			map[string]string{
				"train.jsonl": record, "more.ndjson.gz": record, "extra.txt": "b", "load.py": card, "index.html": card, "docs/a.md": card, "AUTHORS": card,
				"CHANGELOG.md": card, "requirements.txt": card, "checksums.sha256": card,
			},
			[]string{"b", "a", "a"},
			[]string{"AUTHORS, CHANGELOG.md, checksums.sha256, docs/a.md, index.html and 2 more"},
		},
		{
			"tables with a project",
			map[string]string{"README.md": card, "CONTRIBUTING.md": card, "load.py": card, "data/a.arrow": "PAR1", "data/b.arrow": "PAR1"},
			nil,
			[]string{"8 of its 8 bytes", "data/a.arrow, data/b.arrow", `data_files="data/*.arrow"`},
		},
		{
			"tables with settings",
			map[string]string{"a.json": "{}", "data/train.arrow": "PAR1........", "data/b.csv": "a,b\n1,2\n"},
			nil,
			[]string{"22 of its 22 bytes", "a.json, data/b.csv, data/train.arrow", ".arrow is not supported"},
		},
		{
			"records and figures",
			map[string]string{"a.csv": "n,text\n1,\"a \"\"quote\"\",\nand more\"\n2,b\n", "loss.csv": "step,loss\n1,2\n", "README.md": card},
			[]string{"a \"quote\",\nand more", "b"},
			[]string{"README.md, loss.csv", `its keys are "loss", "step"`},
		},
		{
			"compressed records with a project",
			map[string]string{"load.py": card, "a/x.jsonl.xz": "....", "b/y.json.xz": "...."},
			nil,
			[]string{"8 of its 8 bytes", "xz -dk **/*.xz"},
		},
		{
			"records among code",
			map[string]string{
				"a.go": "a", "b.go": "b", "c.go": "c", "d.go": "d", "e.go": "e", "f.go": "f", "g.go": "g", "h.go": "h", "i.go": "i", "j.go": "j", "k.go": "k",
				"testdata/z.jsonl": record,
			},
			[]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "a"},
			[]string{"1 of records, 11 of source code or prose"},
		},
		{"prose", map[string]string{"CHANGELOG.md": "changes", "a.md": "a"}, []string{"changes", "a"}, nil},
		{"text and code", map[string]string{"a.txt": "a", "b.py": "b"}, []string{"a", "b"}, []string{"1 .txt, 1 of source code or prose"}},
		{"parquet and a card", map[string]string{"README.md": card, "data/x.arrow": "PAR1"}, nil, []string{"4 of its 4 bytes", "data/x.arrow", "to_json"}},
		{"most in another kind", map[string]string{"a.txt": "aaa", "x.jsonl.bz2": "....."}, nil, []string{"5 of its 8 bytes", "x.jsonl.bz2", "bzip2 -dk x.jsonl.bz2"}},
		{"records under another key", map[string]string{"x.json.gz": other}, nil, []string{"x.json.gz", `its keys are "content", "n"`}},
		{
			"settings beside code",
			map[string]string{"main.go": "package main // a comment", "tsconfig.json": "{\n// no JSON\n}", "logo.svg": strings.Repeat("<", 100)},
			[]string{"package main // a comment"},
			[]string{"logo.svg, tsconfig.json"},
		},
		{"a card alone", map[string]string{"README.md": card}, nil, []string{"no file of a known kind", "README.md"}},
		{"nothing", map[string]string{".x": ""}, nil, []string{"no file of a known kind", "nothing else"}},
		{
			"many of another kind",
			map[string]string{"z.txt": strings.Repeat("a", 99), "a.x": "1", "b.x": "1", "c.x": "1", "d.x": "1", "e.x": "1", "f.x": "1", "g.x": "1"},
			[]string{strings.Repeat("a", 99)},
			[]string{"a.x, b.x, c.x, d.x, e.x and 2 more"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := logged(t)
			root := tree(t, c.files)
			corpus, err := openCorpus(t.Context(), root, "")
			var docs []string
			if err == nil {
				docs, err = documents(corpus)
			}
			if (err == nil) != (c.want != nil) || err != nil && !strings.Contains(err.Error(), root) || !slices.Equal(docs, c.want) {
				t.Fatalf("%q, %v; want %q", docs, err, c.want)
			}
			if err != nil {
				log.WriteString(err.Error())
			}
			for _, want := range c.says {
				if !strings.Contains(strings.ReplaceAll(log.String(), `\"`, `"`), want) {
					t.Errorf("%s; want %q in it", log, want)
				}
			}
			if lines := strings.Count(log.String(), "\n"); err == nil && lines != min(1, len(c.says)) || err != nil && lines != 0 {
				t.Errorf("it says: %s", log)
			}
		})
	}
}

// A folder may hold links to the files, like a hub cache.
func TestLinkedFiles(t *testing.T) {
	blobs, root := tree(t, map[string]string{"0": "one", "1": "card"}), t.TempDir()
	for name, blob := range map[string]string{"a.txt": "0", "README.md": "1"} {
		if err := os.Symlink(filepath.Join(blobs, blob), filepath.Join(root, name)); err != nil {
			t.Skip(err)
		}
	}
	c, err := openCorpus(t.Context(), root, "")
	if err != nil {
		t.Fatal(err)
	}
	if docs, err := documents(c); err != nil || !slices.Equal(docs, []string{"one"}) {
		t.Errorf("%q, %v", docs, err)
	}
	if err := os.Symlink(filepath.Join(blobs, "gone"), filepath.Join(root, "b.txt")); err != nil {
		t.Fatal(err)
	}
	if _, err := openCorpus(t.Context(), root, ""); err == nil || !strings.Contains(err.Error(), "gone") && !strings.Contains(err.Error(), "b.txt") {
		t.Errorf("a link to nothing: %v", err)
	}
}

// Records whose text is null are counted in one line.
func TestNullTexts(t *testing.T) {
	log := logged(t)
	root := tree(t, map[string]string{"a.jsonl": "{\"text\":null}\n{\"text\":\"a\"}\n", "b.json": "[{\"text\":null},{\"text\":null}]"})
	c, err := openCorpus(t.Context(), root, "")
	if err != nil {
		t.Fatal(err)
	}
	if docs, err := documents(c); err != nil || !slices.Equal(docs, []string{"a"}) {
		t.Errorf("%q, %v", docs, err)
	}
	if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "records=3") {
		t.Errorf("it says: %s", s)
	}
}
