package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gqa/checkpoints/sample"
)

// setShards makes shards small.
func setShards(t *testing.T, tokens int) {
	before := shardTokens
	shardTokens = tokens
	t.Cleanup(func() { shardTokens = before })
}

// manyFiles writes a corpus of several formats with bad rows, and returns its folder.
func manyFiles(t *testing.T) string {
	t.Helper()
	txt, err := sample.Corpus("val")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	docs := strings.Split(string(txt), separator)
	for i := 0; i+5 < len(docs) && i < 60; i += 5 {
		var rows []any
		for _, d := range docs[i : i+5] {
			rows = append(rows, map[string]string{"text": d})
		}
		rows = append(rows, map[string]int{"bad": i})
		files[fmt.Sprintf("%02d.jsonl", i)] = jsonLines(t, rows)
	}
	return tree(t, files)
}

func loadCached(ctx context.Context, t *testing.T, root, cache string, o Options) (*Tokens, error) {
	t.Helper()
	o.Cache = cache
	return LoadTokens(ctx, root, gopher, 2048, o)
}

// The tokens in a cache are those in memory, however often the encoding is interrupted and in whatever shards, and they are not encoded
// again.
func TestCache(t *testing.T) {
	setShards(t, 16384)
	setMaxPart(t, 1<<14)
	root, cache := manyFiles(t), t.TempDir()
	for _, documents := range []bool{false, true} {
		want, err := LoadTokens(t.Context(), root, gopher, 2048, Options{Documents: documents})
		if err != nil {
			t.Fatal(err)
		}
		if len(want.IDs) < 5*shardTokens {
			t.Fatalf("only %d tokens", len(want.IDs))
		}
		for tries := 1; ; tries++ { // each is interrupted after about a shard
			ctx, cancel := context.WithCancel(t.Context())
			log := logged(t)
			stop := watch(cache, func(shards int) {
				if shards >= tries {
					cancel()
				}
			})
			got, err := loadCached(ctx, t, root, cache, Options{Documents: documents})
			stop()
			cancel()
			if errors.Is(err, context.Canceled) && tries < 100 {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.IDs, want.IDs) || got.CRC32C() != want.CRC32C() {
				t.Fatalf("%d tokens in the cache, %d in memory", len(got.IDs), len(want.IDs))
			}
			if !strings.Contains(log.String(), "rows=11") {
				t.Errorf("the log is %s", log)
			}
			break
		}
		log := logged(t)
		got, err := loadCached(t.Context(), t, root, cache, Options{Documents: documents})
		if err != nil || !slices.Equal(got.IDs, want.IDs) || strings.Contains(log.String(), "encoding") || !strings.Contains(log.String(), "rows=11") {
			t.Errorf("%v, the log is %s", err, log)
		}
		if _, err := loadCached(t.Context(), t, root, cache, Options{Documents: documents, BadRows: 10}); err == nil || !strings.Contains(err.Error(), "11 rows cannot be used, and the limit") {
			t.Errorf("error %v", err)
		}
	}
	if folders, err := filepath.Glob(cache + "/*"); err != nil || len(folders) != 2 {
		t.Errorf("%v, %v", folders, err)
	}
}

// watch calls f, until it is stopped, with the number of shards in the newest folder of a cache.
func watch(cache string, f func(shards int)) (stop func()) {
	done := make(chan bool)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			most := 0
			states, _ := filepath.Glob(cache + "/*/" + stateFile)
			for _, path := range states {
				var s cacheState
				if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &s) == nil && !s.Done {
					most = len(s.Shards)
				}
			}
			f(most)
			time.Sleep(time.Millisecond)
		}
	})
	return func() { close(done); wait.Wait() }
}

// Several processes that need the same corpus encode it once.
func TestCacheShared(t *testing.T) {
	setShards(t, 16384)
	root, cache := manyFiles(t), t.TempDir()
	log := logged(t)
	var wait sync.WaitGroup
	sums := make([]uint32, 4)
	for i := range sums {
		wait.Go(func() {
			got, err := loadCached(t.Context(), t, root, cache, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			sums[i] = got.CRC32C()
		})
	}
	wait.Wait()
	if slices.Max(sums) != slices.Min(sums) || strings.Count(log.String(), "encoding the corpus once") != 1 {
		t.Errorf("%x: %s", sums, log)
	}
}

// What is damaged, or another corpus's, is not used.
func TestDamagedCache(t *testing.T) {
	setShards(t, 16384)
	root := manyFiles(t)
	for _, c := range []struct {
		name, want string
		damage     func(dir string) error
	}{
		{"a bit", "is damaged: its checksum is", func(dir string) error {
			path := filepath.Join(dir, "00001.tokens")
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content[77] ^= 1
			return errors.Join(os.WriteFile(path, content, 0o644), os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)))
		}},
		{"a part", "bytes, want 65536", func(dir string) error { return os.Truncate(filepath.Join(dir, "00001.tokens"), 100) }},
		{"a file", "no such file", func(dir string) error { return os.Remove(filepath.Join(dir, "00001.tokens")) }},
		{"the state", "is damaged or another corpus's", func(dir string) error { return os.WriteFile(filepath.Join(dir, stateFile), []byte("{}"), 0o644) }},
	} {
		cache := t.TempDir()
		if _, err := loadCached(t.Context(), t, root, cache, Options{}); err != nil {
			t.Fatal(err)
		}
		dirs, err := filepath.Glob(cache + "/*")
		if err == nil {
			err = c.damage(dirs[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := loadCached(t.Context(), t, root, cache, Options{}); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dirs[0]) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	cache := t.TempDir()
	before, err := loadCached(t.Context(), t, root, cache, Options{})
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "00.jsonl"), []byte(`"another text"`), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	after, err := loadCached(t.Context(), t, root, cache, Options{})
	if err != nil || len(after.IDs) >= len(before.IDs) {
		t.Errorf("%d tokens, then %d, %v", len(before.IDs), len(after.IDs), err)
	}
}

// Files whose sizes and times are those recorded are not read to open a cache, and others once. What is damaged nevertheless is found when it
// is read.
func TestOpenCache(t *testing.T) {
	setShards(t, 16384)
	root, cache := manyFiles(t), t.TempDir()
	var last *Tokens
	open := func(checks bool) uint32 {
		t.Helper()
		log := logged(t)
		got, err := loadCached(t.Context(), t, root, cache, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log.String(), "checking the corpus") != checks {
			t.Errorf("checked: %v", !checks)
		}
		last = got
		return got.CRC32C()
	}
	want := open(false)
	states, err := filepath.Glob(cache + "/*/" + stateFile)
	if err != nil || len(states) != 1 {
		t.Fatal(states, err)
	}
	path := filepath.Join(filepath.Dir(states[0]), "00001.tokens")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err == nil {
		damaged := slices.Clone(content)
		damaged[4*(blockTokens+5)] ^= 1 // in the second block
		err = errors.Join(os.WriteFile(path, damaged, 0o644), os.Chtimes(path, time.Time{}, info.ModTime()))
	}
	if got := open(false); err != nil || got != want {
		t.Errorf("CRC-32C %08x, want %08x, %v", got, want, err)
	}
	first := shardTokens + blockTokens // token of the damaged block
	for _, r := range [][2]int{{0, first}, {first + blockTokens, len(last.IDs)}, {first, first}, {5, 5}} {
		if last.Read(r[0], r[1]); last.Err() != nil {
			t.Errorf("tokens %v: error %v", r, last.Err())
		}
	}
	for _, r := range [][2]int{{first - 1, first + 1}, {first + 7, first + 8}, {0, 1}} {
		if last.Read(r[0], r[1]); last.Err() == nil || !strings.Contains(last.Err().Error(), path+": is damaged: the checksum of the tokens from 4096 on is") {
			t.Errorf("tokens %v: error %v", r, last.Err())
		}
	}
	s, err := NewMixture([]Component{{last, 1}}, 512, 1)
	if err != nil || s.Err() == nil {
		t.Errorf("%v, %v", s.Err(), err)
	}
	spread := Dataset{Tokens: last, Window: 100}
	if spread.Spread(3); spread.Err() == nil {
		t.Error("the error is gone")
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, when := range []time.Time{time.Unix(1e9, 0), info.ModTime()} { // as after copying the folder
		if err := os.Chtimes(path, time.Time{}, when); err != nil {
			t.Fatal(err)
		}
		for _, checks := range []bool{true, false} {
			if got := open(checks); got != want {
				t.Errorf("CRC-32C %08x, want %08x", got, want)
			}
		}
	}
	for _, text := range [][]byte{nil, []byte("else"), make([]byte, 4*4)} { // of the checksums of blocks
		if err := os.WriteFile(sumsFile(path), text, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, checks := range []bool{true, false} {
			if got := open(checks); got != want {
				t.Errorf("checksums %q: CRC-32C %08x, want %08x", text, got, want)
			}
		}
	}
	if last.Read(0, len(last.IDs)); last.Err() != nil {
		t.Error(last.Err())
	}
	forgotten(t, states[0])
	for _, checks := range []bool{true, false} {
		if got := open(checks); got != want {
			t.Errorf("of an earlier version: CRC-32C %08x, want %08x", got, want)
		}
	}
	cache = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	stop := watch(cache, func(shards int) {
		if shards >= 2 {
			cancel()
		}
	})
	_, err = loadCached(ctx, t, root, cache, Options{})
	stop()
	cancel()
	if states, _ = filepath.Glob(cache + "/*/" + stateFile); !errors.Is(err, context.Canceled) || len(states) != 1 {
		t.Skipf("it was not interrupted: %v", err)
	}
	forgotten(t, states[0])
	for _, checks := range []bool{true, false} {
		if got := open(checks); got != want {
			t.Errorf("of an earlier version, interrupted: CRC-32C %08x, want %08x", got, want)
		}
	}
}

// forgotten makes the state of a cache one that an earlier version wrote.
func forgotten(t *testing.T, path string) {
	t.Helper()
	var s cacheState
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	for i := range s.Shards {
		s.Shards[i].All, s.Shards[i].Sums, s.Shards[i].Time = 0, 0, 0
	}
	if err == nil {
		text, err = json.Marshal(s)
	}
	if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Pages that were read are given back, and windows drawn before remain valid.
func TestForget(t *testing.T) {
	setShards(t, 16384)
	before := resident
	resident = 1 << 18
	defer func() { resident = before }()
	got, err := loadCached(t.Context(), t, manyFiles(t), t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	forgot, forget := 0, got.mapped.forget
	got.mapped.forget = func() { forgot++; forget() }
	s, err := NewMixture([]Component{{got, 1}}, 512, 1)
	if err != nil {
		t.Fatal(err)
	}
	var windows, copies [][]int32
	for _, w := range s.Batch(0, 40) {
		windows, copies = append(windows, w), append(copies, slices.Clone(w))
	}
	if forgot == 0 || !slices.EqualFunc(windows, copies, slices.Equal) {
		t.Errorf("pages were given back %d times", forgot)
	}
}

// looped is a text that repeats to a size.
type looped struct {
	text []byte
	left int
	at   int
}

func (l *looped) Read(p []byte) (n int, err error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n = copy(p[:min(len(p), l.left)], l.text[l.at:])
	l.left, l.at = l.left-n, (l.at+n)%len(l.text)
	return n, nil
}

func (l *looped) Close() error { return nil }

// A corpus that is larger than what its encoding keeps is encoded shard by shard: what is in memory does not grow with it.
func TestCacheMemory(t *testing.T) {
	setShards(t, 16384)
	setMaxPart(t, 1<<16)
	const size = 7 << 20
	txt, err := sample.Corpus("val")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // its name and time are in the key
		t.Fatal(err)
	}
	open := func([]string) (io.ReadCloser, error) { return &looped{text: txt, left: size}, nil }
	c := &textCorpus{name: path, files: []source{{name: path, kind: ".txt", size: size, open: open}}}
	cache, live := t.TempDir(), map[int]uint64{}
	stop := watch(cache, func(shards int) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		live[shards] = max(live[shards], m.HeapAlloc)
	})
	m, err := c.cached(t.Context(), &encoder{tok: loadGopher(t)}, gopher, cache)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	early, late, last := uint64(0), uint64(0), len(m.ids)/shardTokens
	for shards, bytes := range live {
		switch {
		case shards > 0 && shards <= last/4:
			early = max(early, bytes)
		case shards > last/4:
			late = max(late, bytes)
		}
	}
	if grown := int64(late) - int64(early); 4*len(m.ids) < 6<<20 || early == 0 || late == 0 || grown > 3<<20 {
		t.Errorf("%d bytes of tokens: %d bytes live at first and %d later", 4*len(m.ids), early, late)
	}
}
