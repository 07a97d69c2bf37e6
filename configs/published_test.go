package configs

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var update = flag.Bool("update", false, "write the tables of published checkpoints in docs/families.md")

// published is a published checkpoint with the relevant keys of its config.json.
type published struct {
	Name, From string
	Config     map[string]any
}

// row is the row of docs/families.md for checkpoints of the same sizes.
type row struct {
	names  []string
	arch   *Arch
	fewer  int    // the most KV heads up to eight that a conversion can have
	loader string // of such a conversion
}

func (r row) same(s row) bool {
	return r.arch.Family.Name == s.arch.Family.Name && slices.Equal(sizesOfCache(r.arch), sizesOfCache(s.arch)) && r.loader == s.loader
}

func sizesOfCache(a *Arch) []int { return []int{a.Layers, a.Heads, a.KVHeads, a.HeadDim} }

// TestPublished resolves the published checkpoints, and compares the tables of docs/families.md with the result.
func TestPublished(t *testing.T) {
	checkpoints := readPublished(t)
	var multi, grouped []row
	for _, c := range checkpoints {
		r := rowOf(t, c)
		rows := &multi
		if r.arch.KVHeads < r.arch.Heads {
			rows = &grouped
		}
		if n := len(*rows); n > 0 && (*rows)[n-1].same(r) {
			(*rows)[n-1].names = append((*rows)[n-1].names, c.Name)
		} else {
			*rows = append(*rows, r)
		}
	}
	tables := map[string]string{"published": multiTable(multi), "grouped": groupedTable(grouped), "sources": sources(checkpoints)}

	const path = "../docs/families.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for name, table := range tables {
		region := regexp.MustCompile(`(?s)(<!-- table: ` + name + ` -->\n).*?(<!-- end -->)`)
		if n := len(region.FindAllString(text, -1)); n != 1 {
			t.Fatalf("%s has %d regions %q, want one", path, n, name)
		}
		text = region.ReplaceAllString(text, "${1}"+strings.ReplaceAll(table, "$", "$$")+"${2}")
	}
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	} else if text != string(page) {
		t.Error("the tables of published checkpoints are out of date: go test ./configs -run TestPublished -update")
	}
}

// TestPublishedUnsupported checks that the checkpoints listed as unsupported in docs/families.md have no family.
func TestPublishedUnsupported(t *testing.T) {
	for _, modelType := range []string{"codegen", "gpt_neo", "bart", "xglm"} {
		_, err := Resolve([]byte(`{"model_type": "`+modelType+`"}`), "")
		wantError(t, err, modelType, "not a family")
	}
}

func readPublished(t *testing.T) []published {
	t.Helper()
	data, err := os.ReadFile("testdata/published.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []published
	if err := yaml.UnmarshalWithOptions(data, &all, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return all
}

// rowOf resolves a checkpoint.
func rowOf(t *testing.T, c published) row {
	t.Helper()
	if c.Name == "" || c.From == "" {
		t.Fatalf("a checkpoint without a name, or without a source: %v", c)
	}
	config, err := json.Marshal(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	a := resolve(t, string(config))
	if len(a.Unknown) > 0 {
		t.Errorf("%s: keys %v are unknown to family %s", c.Name, a.Unknown, a.Family.Name)
	}
	r := row{names: []string{c.Name}, arch: a, fewer: 1}
	for _, g := range a.LegalGroups() {
		if g <= 8 && g < a.KVHeads {
			r.fewer = g
		}
	}
	r.loader = cmp.Or(loader(t, a, r.fewer, config), "this toolkit")
	if one := loader(t, a, 1, config); one != "" && one != r.loader {
		r.loader += "; with 1 KV head: " + one
	}
	return r
}

// loader returns the class that loads a native conversion of a to so many KV heads, and its library, or "" if there is none.
func loader(t *testing.T, a *Arch, groups int, config []byte) string {
	t.Helper()
	families, err := Families()
	if err != nil {
		t.Fatal(err)
	}
	found := a.Family.Grouping(groups)
	for _, name := range a.Family.Neighbours {
		if b, _, err := a.WithKVHeads(groups).Recast(families[name], config); found.Class == "" && err == nil {
			found = b.Family.Grouping(groups)
		}
	}
	return strings.TrimPrefix(found.Loader(), "transformers ")
}

// cache returns the size of a token in a bfloat16 KV cache.
func cache(a *Arch) string {
	bytes := a.KVBytesPerToken(2)
	if bytes == 0 {
		return "–"
	}
	if bytes%1024 != 0 {
		return fmt.Sprintf("%g KiB", float64(bytes)/1024)
	}
	return fmt.Sprintf("%d KiB", bytes/1024)
}

func multiTable(rows []row) string {
	var b strings.Builder
	b.WriteString("| checkpoint | family | layers | heads | head dim | KV cache per token | with fewer KV heads | loads in |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		a := r.arch
		fewer := a.WithKVHeads(r.fewer)
		with := fmt.Sprintf("%d: %s", r.fewer, cache(fewer))
		if !a.Causal {
			with = fmt.Sprint(r.fewer)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s | %s | %s |\n",
			strings.Join(r.names, ", "), a.Family.Name, a.Layers, a.Heads, a.HeadDim, cache(a), with, r.loader)
	}
	return b.String()
}

func groupedTable(rows []row) string {
	var b strings.Builder
	b.WriteString("| checkpoint | family | heads / KV heads | KV cache per token | possible KV heads |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		a := r.arch
		legal := slices.DeleteFunc(a.LegalGroups(), func(g int) bool { return g == a.KVHeads })
		slices.Reverse(legal)
		possible := strings.Trim(strings.ReplaceAll(fmt.Sprint(legal), " ", ", "), "[]")
		fmt.Fprintf(&b, "| %s | %s | %d / %d | %s | %s |\n",
			strings.Join(r.names, ", "), a.Family.Name, a.Heads, a.KVHeads, cache(a), cmp.Or(possible, "none: it is multi-query"))
	}
	return b.String()
}

// sources returns the sources of the sizes.
func sources(checkpoints []published) string {
	var repositories, pages []string
	for _, c := range checkpoints {
		if page, ok := strings.CutPrefix(c.From, "the model page "); ok {
			pages = append(pages, c.Name+": "+page)
		} else {
			repositories = append(repositories, c.From)
		}
	}
	slices.Sort(repositories)
	slices.Sort(pages)
	return "- Repositories: " + strings.Join(slices.Compact(repositories), ", ") + ".\n- `config.json` on model pages: " + strings.Join(pages, "; ") + ".\n"
}
