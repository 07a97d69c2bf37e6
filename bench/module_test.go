//go:build module

package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// TestModule gives a copy of the module the path of an owner's host and uses it as strangers do: by go install, and from another
// module, testdata/consumer. The module comes from a proxy, as a zip.
func TestModule(t *testing.T) {
	const path = "example.com/owner/gqa"
	dir := t.TempDir()
	copied := filepath.Join(dir, "copy")
	unpack(t, zipped(t, workTree(t), "example.com/gqa", "v1.0.0"), copied, "example.com/gqa", "v1.0.0")
	run(t, copied, "go", "run", "./internal/modpath", path)

	// A version that no cache has. The files of the module are removed from the cache again.
	version := fmt.Sprintf("v1.0.0-test.%d", time.Now().UnixNano())
	publish(t, copied, filepath.Join(dir, "proxy"), path, version)
	t.Setenv("GOPROXY", "file://"+filepath.Join(dir, "proxy")+","+run(t, dir, "go", "env", "GOPROXY"))
	t.Setenv("GONOSUMDB", "example.com")
	t.Setenv("GOFLAGS", "-mod=mod -modcacherw")
	t.Setenv("GOBIN", filepath.Join(dir, "bin"))
	cache := run(t, dir, "go", "env", "GOMODCACHE")
	t.Cleanup(func() {
		os.RemoveAll(filepath.Join(cache, path+"@"+version))
		os.RemoveAll(filepath.Join(cache, "cache", "download", path, "@v"))
	})

	run(t, dir, "go", "install", path+"/cmd/...@"+version)
	for _, command := range []string{"gqa-convert", "gqa-train", "gqa-eval"} {
		if help := run(t, dir, filepath.Join(dir, "bin", command), "--help"); !strings.Contains(help, command) {
			t.Errorf("%s --help says %q", command, help)
		}
	}

	consumer := filepath.Join(dir, "consumer")
	if err := os.CopyFS(consumer, os.DirFS("testdata/consumer")); err != nil {
		t.Fatal(err)
	}
	run(t, consumer, "go", "mod", "init", "example.com/consumer")
	run(t, consumer, "go", "get", path+"@"+version)
	t.Log(run(t, consumer, "go", "run", "."))
}

// run returns what a command in a folder writes, without white space around it.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// unpack extracts a module's zip.
func unpack(t *testing.T, data []byte, dir, path, version string) {
	t.Helper()
	file := dir + ".zip"
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := zip.Unzip(dir, module.Version{Path: path, Version: version}, file); err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Dir(dir), "chmod", "-R", "u+w", dir)
}

// publish makes a proxy that serves the module in dir.
func publish(t *testing.T, dir, proxy, path, version string) {
	t.Helper()
	var data bytes.Buffer
	if err := zip.CreateFromDir(&data, module.Version{Path: path, Version: version}, dir); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	served := filepath.Join(proxy, path, "@v")
	if err := os.MkdirAll(served, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"list": []byte(version + "\n"), version + ".info": fmt.Appendf(nil, `{"Version": %q}`, version), version + ".mod": mod, version + ".zip": data.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(served, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
