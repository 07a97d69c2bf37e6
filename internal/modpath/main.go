// Modpath gives the module another path, that of its owner's host: it rewrites go.mod, the imports of every Go file and the
// import rules of the linter. Run it in the root of the repository, on a clean work tree:
//
//	go run ./internal/modpath example.com/owner/gqa
package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/modpath PATH")
		os.Exit(2)
	}
	if err := setPath(".", os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "modpath:", err)
		os.Exit(1)
	}
}

// setPath changes the path of the module in the folder root to path.
func setPath(root, path string) error {
	if err := module.CheckPath(path); err != nil {
		return err
	}
	mod := filepath.Join(root, "go.mod")
	old, err := pathIn(mod)
	if err != nil {
		return err
	}
	if err := rewriteImports(root, old, path); err != nil {
		return err
	}
	if err := edit(filepath.Join(root, ".golangci.yml"), func(s string) (string, error) { return rewriteRules(s, old, path), nil }); err != nil {
		return err
	}
	return edit(mod, func(s string) (string, error) {
		return strings.Replace(s, "module "+old+"\n", "module "+path+"\n", 1), nil
	})
}

// pathIn returns the module path in a go.mod.
func pathIn(mod string) (string, error) {
	data, err := os.ReadFile(mod)
	if err != nil {
		return "", fmt.Errorf("run this in the root of the repository: %w", err)
	}
	path := modfile.ModulePath(data)
	if path == "" {
		return "", fmt.Errorf("%s has no module path", mod)
	}
	return path, nil
}

// rewriteImports changes the imports of every Go file below root.
func rewriteImports(root, old, path string) error {
	return filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != root && strings.HasPrefix(e.Name(), "."):
			return fs.SkipDir
		case !e.Type().IsRegular() || filepath.Ext(name) != ".go":
			return nil
		}
		return edit(name, func(s string) (string, error) { return rewriteFile(name, s, old, path) })
	})
}

// rewriteFile returns a Go file's text with its imports changed. All else stays as it is.
func rewriteFile(name, text, old, path string) (string, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, name, text, parser.ImportsOnly)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	at := 0
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		moved, ok := move(imported, old, path)
		if err != nil || !ok {
			continue
		}
		begin, end := files.Position(spec.Path.Pos()).Offset, files.Position(spec.Path.End()).Offset
		out.WriteString(text[at:begin] + strconv.Quote(moved))
		at = end
	}
	return out.String() + text[at:], nil
}

// move returns an import path with the module's path changed; ok is false if the package is not the module's.
func move(imported, old, path string) (moved string, ok bool) {
	below, ok := strings.CutPrefix(imported, old)
	return path + below, ok && (below == "" || below[0] == '/')
}

// rewriteRules returns the linter's configuration with its package paths changed.
func rewriteRules(text, old, path string) string {
	begins := regexp.MustCompile(`(^|[^\w./-])` + regexp.QuoteMeta(old) + `/`)
	return begins.ReplaceAllString(text, "${1}"+path+"/")
}

// edit replaces a file by what f makes of it, if that differs.
func edit(name string, f func(string) (string, error)) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := f(string(data))
	if err != nil || text == string(data) {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), info.Mode().Perm())
}
