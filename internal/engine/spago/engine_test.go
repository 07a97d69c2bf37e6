package spago

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nlpodyssey/spago/mat"

	"gqa/configs"
	"gqa/internal/cpu/pool"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// trial is a model in training, large enough for its kernels to share their work between threads.
type trial struct {
	params *Params
	model  *model.Model[mat.Tensor]
	engine *Engine
	batch  ops.Batch
	next   []int32 // targets
}

const (
	llamaConfig = `{"model_type": "llama", "vocab_size": 600, "hidden_size": 128, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 320, "max_position_embeddings": 96}`
	gptConfig = `{"model_type": "gpt2", "vocab_size": 600, "n_embd": 128, "n_layer": 2, "n_head": 4, "num_key_value_heads": 1,
		"n_positions": 96}`
)

func newTrial(t *testing.T, config string) *trial { return newTrialOf(t, config, false) }

// newTrialOf is newTrial with joint weights or without.
func newTrialOf(t *testing.T, config string, together bool) *trial {
	t.Helper()
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	list, err := arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	all := map[string][]float32{}
	for _, p := range list {
		w := make([]float32, p.Size())
		for i := range w {
			w[i] = float32(r.NormFloat64()) / 10
		}
		all[p.Name] = w
	}
	d := cpu.New()
	var joined map[string]*joint
	if together {
		joined = joints(d, list)
	}
	params, err := loadParams(d, arch, model.FromMap(arch, all), loading{joined: joined})
	if err != nil {
		t.Fatal(err)
	}
	var seqs [][]int32
	r = rand.New(rand.NewPCG(3, 4))
	for range 4 {
		seq := make([]int32, 64)
		for i := range seq {
			seq[i] = r.Int32N(int32(arch.Vocab))
		}
		seqs = append(seqs, seq)
	}
	b := ops.NewBatch(seqs...)
	return &trial{params, params.Model(arch), New(d), b, slices.Concat(b.IDs[1:], []int32{-1})}
}

func (x *trial) loss() mat.Tensor {
	return x.engine.LinearCrossEntropy(x.model.Hidden(x.engine, x.batch), x.model.Head(), x.next, 1).Tensor
}

// step returns the loss and every gradient.
func (x *trial) step(t *testing.T) (loss float64, gradients [][]float32) {
	t.Helper()
	for _, p := range x.params.List {
		p.ZeroGrad()
	}
	l := x.loss()
	loss = l.Item().F64()
	if err := x.engine.Backward(l); err != nil {
		t.Fatal(err)
	}
	return loss, grads(x.params.List)
}

// Gradients are bitwise identical regardless of scheduling and the number of threads.
func TestDeterminism(t *testing.T) {
	defer pool.SetThreads(0)
	for _, config := range []string{llamaConfig, gptConfig} {
		x := newTrial(t, config)
		pool.SetThreads(1)
		loss, want := x.step(t)
		if math.IsNaN(loss) || loss < 1 {
			t.Fatalf("the loss is %v", loss)
		}
		for _, threads := range []int{1, 2, 3, 3, 2} {
			pool.SetThreads(threads)
			again, got := x.step(t)
			if again != loss {
				t.Errorf("%d threads: the loss is %v, want %v", threads, again, loss)
			}
			for i := range want {
				if !slices.Equal(got[i], want[i]) {
					t.Errorf("%d threads: another gradient of %s", threads, x.params.Names[i])
				}
			}
		}
	}
}

// A step reuses the matrices of earlier steps: only the graph is allocated.
func TestSteadyStepAllocatesLittle(t *testing.T) {
	for _, config := range []string{llamaConfig, gptConfig} {
		x := newTrial(t, config)
		step := func() {
			for _, p := range x.params.List {
				p.ZeroGrad()
			}
			if err := x.engine.Backward(x.loss()); err != nil {
				t.Fatal(err)
			}
		}
		bytes := func() uint64 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.TotalAlloc
		}
		start := bytes()
		step()
		first := bytes() - start
		steady := first
		for range 4 { // the kernels' scratch is kept per processor, and collections take it back: the best of a few counts
			start = bytes()
			step()
			steady = min(steady, bytes()-start)
		}
		if steady > 1<<20 || first < 4<<20 {
			t.Errorf("the first step allocates %d bytes, a later one %d; want millions, then less than one", first, steady)
		}
	}
}

// Reset discards a forward pass completely.
func TestReset(t *testing.T) {
	x := newTrial(t, llamaConfig)
	loss, want := x.step(t)
	x.model.Hidden(x.engine, x.batch)
	x.engine.Reset()
	again, got := x.step(t)
	if again != loss || !slices.EqualFunc(got, want, slices.Equal[[]float32]) {
		t.Errorf("after a reset the loss is %v, want %v, with the same gradients", again, loss)
	}
}

// A tied head is the embedding: one parameter, whose gradient is the sum of both uses.
func TestTiedParameter(t *testing.T) {
	tied := strings.Replace(llamaConfig, `"llama",`, `"llama", "tie_word_embeddings": true,`, 1)
	x, y := newTrial(t, llamaConfig), newTrial(t, tied)
	embed, head := slices.Index(x.params.Names, "embed.weight"), slices.Index(x.params.Names, "head.weight")
	if embed < 0 || head < 0 || slices.Contains(y.params.Names, "head.weight") {
		t.Fatalf("parameters %v, tied %v", x.params.Names, y.params.Names)
	}
	for i, name := range y.params.Names { // the same weights in both models
		copy(Data(x.params.List[slices.Index(x.params.Names, name)]).F32(), Data(y.params.List[i]).F32())
	}
	copy(Data(x.params.List[head]).F32(), Data(x.params.List[embed]).F32())
	_, apart := x.step(t)
	_, together := y.step(t)
	for i, got := range together[slices.Index(y.params.Names, "embed.weight")] {
		want := float64(apart[embed][i]) + float64(apart[head][i])
		if !near(got, want) {
			t.Fatalf("value %d: gradient %v, want %v", i, got, want)
		}
	}
}

// ropes counts tables of rotations.
type ropes struct {
	*cpu.Device
	made, freed int
}

func (r *ropes) NewRope(invFreq []float64, positions int, scale float64, interleaved bool) device.Rope {
	r.made++
	return r.Device.NewRope(invFreq, positions, scale, interleaved)
}

func (r *ropes) FreeRope(device.Rope) { r.freed++ }

// A table that a larger one has replaced is freed once the backward pass cannot need it.
func TestOutgrownTablesAreFreed(t *testing.T) {
	dev := &ropes{Device: cpu.New()}
	e, r := New(dev), &ops.Rope{InvFreq: []float64{1, 0.1}, Scale: 1, Positions: 4}
	e.rope(r, []int32{3})
	e.rope(r, []int32{9})
	if dev.made != 2 || dev.freed != 0 {
		t.Errorf("%d tables made and %d freed, want 2 and 0", dev.made, dev.freed)
	}
	if e.Reset(); dev.freed != 1 {
		t.Errorf("%d tables freed by Reset, want 1", dev.freed)
	}
	if e.Close(); dev.freed != 2 {
		t.Errorf("%d tables freed by Close, want 2", dev.freed)
	}
}
