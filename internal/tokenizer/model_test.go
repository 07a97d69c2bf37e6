package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// naiveMerge is the reference for merger: as long as any merge applies, the lowest
// rank's leftmost pair is joined.
func naiveMerge(ids []int32, merges map[pair]merge) []int32 {
	for {
		at, best := -1, merge{rank: math.MaxInt32}
		for i := range len(ids) - 1 {
			if m, ok := merges[pair{ids[i], ids[i+1]}]; ok && m.rank < best.rank {
				at, best = i, m
			}
		}
		if at < 0 {
			return ids
		}
		ids = slices.Replace(ids, at, at+2, best.id)
	}
}

func TestMerger(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		merges := map[pair]merge{}
		for i := range 12 {
			left, right := r.Int32N(int32(4+i)), r.Int32N(int32(4+i))
			if _, ok := merges[pair{left, right}]; !ok {
				merges[pair{left, right}] = merge{int32(i), int32(4 + i)}
			}
		}
		var m merger
		var ids []int32
		for range r.IntN(40) {
			id := r.Int32N(4)
			ids = append(ids, id)
			m.add(id)
		}
		m.run(merges)
		want := naiveMerge(slices.Clone(ids), merges)
		if got := m.appendIDs(nil); !slices.Equal(got, want) {
			t.Fatalf("%v with %v\n got %v\nwant %v", ids, merges, got, want)
		}
	}
}

// A word of a megabyte, as in a text without a pre-tokenizer, does not take quadratic time.
func TestLongWord(t *testing.T) {
	b, err := newBPE(bpeFile{
		Vocab:  map[string]int32{"a": 0, "aa": 1, "aaaa": 2},
		Merges: mergeList{{"a", "a"}, {"aa", "aa"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := b.encode(nil, strings.Repeat("a", 1<<20+3))
	if len(got) != 1<<18+2 || got[0] != 2 || got[len(got)-1] != 0 || got[len(got)-2] != 1 {
		t.Errorf("%d ids, ending in %v", len(got), got[len(got)-3:])
	}
}

// bestScore tries every way to cut s into pieces of the vocabulary.
func bestScore(u *unigram, s string) float64 {
	if s == "" {
		return 0
	}
	best := math.Inf(-1)
	for end := 1; end <= len(s); end++ {
		if id, ok := u.ids[s[:end]]; ok {
			best = max(best, u.scores[id]+bestScore(u, s[end:]))
		}
	}
	return best
}

func TestUnigramIsBest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var pieces []string
		for _, s := range []string{"a", "b", "c", "ab", "bc", "ca", "abc", "bb", "aab"} {
			pieces = append(pieces, fmt.Sprintf(`[%q, %v]`, s, -1-9*r.Float64()))
		}
		m, _, err := parseUnigram(json.RawMessage(`{"vocab":[` + strings.Join(pieces, ",") + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		u, word := m.(*unigram), ""
		for range 8 {
			word += string("abc"[r.IntN(3)])
		}
		var got float64
		for _, id := range u.encode(nil, word) {
			got += u.scores[id]
		}
		if want := bestScore(u, word); math.Abs(got-want) > 1e-9 {
			t.Errorf("%q scores %v, want %v", word, got, want)
		}
	}
}

func TestTranslate(t *testing.T) {
	for in, want := range map[string]string{
		`a++b`:          `(?>a+)b`,
		`(?:ab)*+\d?+`:  `(?>(?:ab)*)(?>\d?)`,
		`[^a\]]?+x+?`:   `(?>[^a\]]?)x+?`,
		`é++`:           `(?>é+)`,
		`((a|b)c)++`:    `(?>((a|b)c)+)`,
		`[a[bc]d]`:      `[abcd]`,
		`[^(\s|[.,])]+`: `[^(\s|.,)]+`,
		`[]a]`:          `[\]a]`,
		`[^]a]`:         `[^\]a]`,
		`[[:digit:]x]`:  `[\p{Nd}x]`,
		`\h[\h]`:        `[0-9a-fA-F][0-9a-fA-F]`,
		`\p{L}{1,3}\+`:  `\p{L}{1,3}\+`,
		`(?<n>a)(?!\S)`: `(?<n>a)(?!\S)`,
		`a|b\\++`:       `a|b(?>\\+)`,
		`\`:             "",
		`[a&&b]`:        "",
		`[a[^b]]`:       "",
		`[ab`:           "",
	} {
		got, err := translate(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s becomes %s, %v, want %s", in, got, err, want)
		}
	}
}
