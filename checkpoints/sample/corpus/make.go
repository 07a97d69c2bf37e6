//go:build ignore

// Make writes train.txt.gz and val.txt.gz, the sample model's corpus, from a Go
// distribution's source. Run it in this folder: go run make.go
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"flag"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	endOfText = "<|endoftext|>"
	maxFile   = 200_000 // bytes; larger files are tables
	heldOut   = 13      // of 256 files: about 5%
)

func main() {
	src := flag.String("src", "", "folder of Go source (default GOROOT/src)")
	train := flag.Int("train", 6_000_000, "bytes of training text, spread evenly over the tree")
	val := flag.Int("val", 600_000, "bytes of validation text, from the start")
	flag.Parse()
	if *src == "" {
		root, err := exec.Command("go", "env", "GOROOT").Output()
		check(err)
		*src = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	var docs struct{ train, val []string }
	walk(*src, ".", func(path, text string) {
		if sha256.Sum256([]byte(path))[0] < heldOut {
			docs.val = append(docs.val, text)
		} else {
			docs.train = append(docs.train, text)
		}
	})
	save("val.txt.gz", head(docs.val, *val))
	save("train.txt.gz", spread(docs.train, *train))
}

// walk calls doc for each file to take: those of a folder by name, then its folders.
func walk(root, dir string, doc func(path, text string)) {
	entries, err := os.ReadDir(filepath.Join(root, dir))
	check(err)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, path))
		check(err)
		if text := clean(b); len(b) <= maxFile && !generated(text) {
			doc(filepath.ToSlash(path), text)
		}
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "vendor" && e.Name() != "testdata" {
			walk(root, filepath.Join(dir, e.Name()), doc)
		}
	}
}

// clean returns b with Unix line ends and one U+FFFD for each byte that is not UTF-8.
func clean(b []byte) string {
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b))
	return string([]rune(text))
}

func generated(text string) bool {
	start := string([]rune(text)[:min(2000, len([]rune(text)))])
	return strings.Contains(start, "DO NOT EDIT") && strings.Contains(start, "enerated")
}

// head returns the first documents, of at most size bytes together.
func head(docs []string, size int) []string {
	for i, d := range docs {
		if size -= len(d) + len(endOfText); size < 0 {
			return docs[:i]
		}
	}
	return docs
}

// spread returns every so-manieth document, so that they have about size bytes.
func spread(docs []string, size int) []string {
	total := 0
	for _, d := range docs {
		total += len(d) + len(endOfText)
	}
	size = min(size, total)
	var taken []string
	for i, d := range docs {
		if (i+1)*size/total > i*size/total {
			taken = append(taken, d)
		}
	}
	return taken
}

func save(name string, docs []string) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	check(err)
	size := 0
	for _, d := range docs {
		n, err := w.Write([]byte(d + endOfText))
		check(err)
		size += n
	}
	check(w.Close())
	check(os.WriteFile(name, b.Bytes(), 0o666))
	log.Printf("%s: %d documents, %d bytes, %d compressed", name, len(docs), size, b.Len())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
