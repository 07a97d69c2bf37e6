package train

import (
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"gqa/configs"
	"gqa/internal/golden"
	"gqa/internal/model"
)

func TestJoinCRC(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		text := make([]byte, r.IntN(300))
		for i := range text {
			text[i] = byte(r.Uint32())
		}
		at := r.IntN(len(text) + 1)
		first, second := crc32.Checksum(text[:at], castagnoli), crc32.Checksum(text[at:], castagnoli)
		if got, want := joinCRC(first, second, int64(len(text)-at)), crc32.Checksum(text, castagnoli); got != want {
			t.Fatalf("%d and %d bytes: %08x, want %08x", at, len(text)-at, got, want)
		}
	}
}

// The sum is that of the weights in the order of their names, as caches of earlier versions have it.
func TestModelSum(t *testing.T) {
	arch, all := golden.TinyModel(t, golden.Tiny["gpt2"])
	want := crc32.Checksum([]byte("config"), castagnoli)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		want = updateCRC(crc32.Update(want, castagnoli, []byte(name)), all[name])
	}
	got := modelSum{config: []byte("config")}
	received := 0
	err := got.through(model.FromMap(arch, all))(func(configs.Param, []float32) error { received++; return nil })
	if err != nil || received != len(all) || got.crc() != want {
		t.Errorf("%08x of %d weights, want %08x of %d (%v)", got.crc(), received, want, len(all), err)
	}
}
