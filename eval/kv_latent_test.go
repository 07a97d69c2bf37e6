package eval

import (
	"fmt"
	"slices"
	"testing"

	"gqa/configs/hardware"
)

// A model's conversions to latent attention stand behind the groups whose cache is as large. The sizes of their weights are those that
// gqa-convert writes, without norms.
func TestLatentRows(t *testing.T) {
	s, err := ShapeOfModel("../checkpoints/sample/gopher-4m")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := KVRows(s, KVOptions{Memory: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%d %d+%d: %d, %d", r.Groups, r.KVRank, r.RopeDim, r.KVBytesPerToken, r.WeightBytes))
		if r.Latent != (r.Groups == 0) || r.Published != (r.Groups == 8) || *r.MaxBatch != (1<<30-r.WeightBytes)/r.KVBytes {
			t.Errorf("%+v", r)
		}
	}
	const norms = (2*4 + 1) * 256
	want := []string{
		"8 0+0: 4096, 7471104", "4 0+0: 2048, 6946816", fmt.Sprintf("0 192+64: 2048, %d", 2*(4393216-norms)), "2 0+0: 1024, 6684672",
		fmt.Sprintf("0 96+32: 1024, %d", 2*(3803392-norms)), "1 0+0: 512, 6553600", fmt.Sprintf("0 48+16: 512, %d", 2*(3508480-norms)),
		fmt.Sprintf("0 24+8: 256, %d", 2*(3289344-norms)),
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	rows, err = KVRows(s, KVOptions{KVDType: "int4"})
	if last := rows[len(rows)-1]; err != nil || len(rows) != 6 || last.Groups != 1 {
		t.Errorf("4 bits hold latents of a multiple of 32 numbers only: %+v, %v", rows, err)
	}
}

// A decode step attends to the latent itself, and a prefill to the keys and values made of it.
func TestPredictConversions(t *testing.T) {
	s := Shape{
		Name: "s", Layers: 2, Heads: 32, KVHeads: 8, HeadDim: 128, Dim: 4096, FFN: 64, Vocab: 100, Context: 4096,
		latents: [][2]int{{768, 256}, {512, 64}},
	}
	h, err := hardware.Load("h200")
	if err != nil {
		t.Fatal(err)
	}
	o := PredictOptions{Batches: []int{4}, Contexts: []int{1000}, PromptLen: 100, Weights: "bf16", Cache: "bf16"}
	rows, err := Predict(s, h, o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		if r.Groups <= 8 {
			got = append(got, fmt.Sprintf("%s %v %d %v", r.groupsText(), r.CommonKernels, r.KVBytesPerToken, r.TensorParallel))
		}
	}
	want := []string{
		"8 true 8192 [1 2 4 8]", "4 true 4096 [1 2 4]", "MLA, 768 + 256 false 4096 [1]", "MLA, 512 + 64 true 2304 [1]", "2 false 2048 [1 2]", "1 false 1024 [1]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	p, err := newPredictor(s, h, o)
	if err != nil {
		t.Fatal(err)
	}
	q := p.latents[1]
	decode, prefill := q.step(latent, 4, 1000), q.prefill(latent, 4, 100)
	if want := 4.0 * 2 * 2 * 32 * (512 + 64 + 512) * 1000; decode.attention != want {
		t.Errorf("a step takes %g operations of attention, want %g", decode.attention, want)
	}
	if want := 4.0 * 2 * 2 * 32 * (128 + 64 + 128) * 100 * 50; prefill.attention != want {
		t.Errorf("a prefill takes %g operations of attention, want %g", prefill.attention, want)
	}
	// q, latent and rotary key, keys and values, o
	attention := 4096*32*(128+64) + 4096*(512+64) + 512*32*(128+128) + 4096*32*128
	if want := 2 * float64(2*(attention+2*4096*64)+100*4096); decode.bytes != want+4*1000*2304 {
		t.Errorf("a step reads %g bytes, want weights of %g and the cache", decode.bytes, want)
	}
}
