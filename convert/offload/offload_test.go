package offload_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"

	"gqa/convert/offload"
)

// TestStore keeps slices below, across and above the limit, changes them, and checks that nothing is left.
func TestStore(t *testing.T) {
	for _, limit := range []int64{0, 40, 1 << 20} {
		dir := t.TempDir()
		s := offload.New(dir, limit)
		want := map[string][]float32{}
		put := func(name string, values ...float32) {
			t.Helper()
			want[name] = values
			if err := s.Put(name, slices.Clone(values)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 8 {
			put(fmt.Sprint(i), float32(i), float32(i*i), -1)
		}
		put("empty")
		put("0", 9, 8, 7)
		put("7", 5, 4, 3)
		for name, values := range want {
			got, ok, err := s.Get(name)
			if err != nil || !ok || !slices.Equal(got, values) {
				t.Errorf("limit %d: %s is %v, %v, %v, want %v", limit, name, got, ok, err, values)
			}
			if !s.Has(name) {
				t.Errorf("limit %d: Has(%q) is false", limit, name)
			}
		}
		if s.Has("none") {
			t.Errorf("limit %d: Has reports what was never put", limit)
		}
		if _, ok, err := s.Get("none"); ok || err != nil {
			t.Errorf("limit %d: what was never put is there (%v)", limit, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 && runtime.GOOS != "windows" {
			t.Errorf("limit %d: %v would be left by a kill", limit, entries)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("limit %d: %v is left", limit, entries)
		}
	}
}

// TestPutOtherLength checks for an error rather than overlapping slices in the file.
func TestPutOtherLength(t *testing.T) {
	s := offload.New(t.TempDir(), 0)
	defer s.Close()
	if err := s.Put("x", make([]float32, 3)); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("x", make([]float32, 4)); err == nil {
		t.Error("four values went in the place of three")
	}
}
