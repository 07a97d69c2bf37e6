// Package estimate computes, before anything is trained, how much memory and arithmetic training takes.
//
// The formulas count what the training engine keeps: see docs/gpu.md. Against the memory that one H200 showed for models of 1.1, 1.4 and
// 5.9 billion parameters they are within 3%.
package estimate

import (
	"strings"

	"gqa/configs"
	"gqa/configs/recipe"
)

// Setting is how a run computes.
type Setting struct {
	Recompute string // none, attention or layer, as in a recipe
	Windows   int    // computed at once
	BF16      bool   // activations, and what products read, in bfloat16
	OwnMemory bool   // a GPU's, beside whose libraries and work space a run must fit
	Exact     bool   // frozen weights are exact in bfloat16, as those of a checkpoint in that dtype
	GPUs      int    // 0: one
	Sharding  Sharding
	Logits    int // that a loss computes at a time
}

// Sharding is what the GPUs of a run divide among them, as ZeRO does (Rajbhandari et al. 2019, arXiv 1910.02054).
type Sharding string

// Values of Sharding, each with what those before it divide.
const (
	ShardNone      Sharding = "none"      // of one GPU
	ShardOptimizer Sharding = "optimizer" // the optimizer's state, ZeRO-1
	ShardGradients Sharding = "gradients" // ZeRO-2
	// ShardParameters divides weights too, ZeRO-3.
	ShardParameters Sharding = "parameters"
)

// Shardings lists the values, from the fastest to the one that takes least memory.
var Shardings = []Sharding{ShardNone, ShardOptimizer, ShardGradients, ShardParameters}

// Memory is the memory of one GPU, in bytes.
type Memory struct {
	Weights     float64 `json:"weights"`     // with what the optimizer needs to update them, and averages
	State       float64 `json:"state"`       // the optimizer's averages
	Gradients   float64 `json:"gradients"`   // of weights
	Teacher     float64 `json:"teacher"`     // its weights
	Activations float64 `json:"activations"` // kept for the backward pass, and gradients on their way through a layer
	Work        float64 `json:"work"`        // logits, layers that are whole where they are divided, work space of products, and the libraries

	rest  float64 // of Weights: what only those GPUs need that update them
	whole float64 // of Gradients: of weights whose update needs them whole
}

// Held returns what is there between steps.
func (m Memory) Held() float64 { return m.Weights + m.State + m.Teacher }

// Step returns what a step takes besides.
func (m Memory) Step() float64 { return m.Gradients + m.Activations + m.Work }

// All returns the sum.
func (m Memory) All() float64 { return m.Held() + m.Step() }

// Of estimates the memory of training arch by a recipe.
func Of(arch *configs.Arch, r *recipe.Recipe, s Setting) (Memory, error) {
	params, err := arch.Params()
	if err != nil {
		return Memory{}, err
	}
	var m Memory
	added := r.Accumulate*((r.Batch+s.Windows-1)/max(1, s.Windows)) > 1
	for _, p := range params {
		w := weight{param: p, recipe: r, setting: s, added: added}
		w.add(&m)
	}
	if r.Distill.Teacher != "" && r.Distill.Cache == "" {
		for _, p := range params { // about as many
			m.Teacher += float64(p.Size()) * s.width()
		}
	}
	shard(&m, r, s, params, added)
	m.Activations += activations(arch, r, s)
	m.Work += work(arch, r, s)
	return m, nil
}

// width returns the bytes of a number of an activation.
func (s Setting) width() float64 {
	if s.BF16 {
		return 2
	}
	return 4
}

// weight is a weight of a model in training.
type weight struct {
	param   configs.Param
	recipe  *recipe.Recipe
	setting Setting
	added   bool // gradients of several micro-batches are added up
}

func (w weight) add(m *Memory) {
	n, matrix := float64(w.param.Size()), w.param.Hidden() || len(w.param.Shape) == 2 && !w.param.IsNorm()
	half := w.setting.BF16 && matrix
	switch r := w.recipe; {
	case r.Trains(w.param) && r.Train == recipe.TrainLoRA:
		w.frozen(m, n, half)
		parts := float64(r.LoRA.Rank * (w.param.Shape[0] + w.param.Shape[1]))
		w.trained(m, parts, half, false, []int{r.LoRA.Rank, w.param.Shape[1]})
	case r.Trains(w.param):
		w.trained(m, n, half, r.Optimizer.Name != recipe.Muon && r.Optimizer.Average == 0, w.param.Shape)
	default:
		w.frozen(m, n, half)
	}
}

// frozen adds n numbers that are not trained.
func (w weight) frozen(m *Memory, n float64, half bool) {
	if half && w.setting.Exact {
		m.Weights += 2 * n
		return
	}
	m.Weights += 4 * n // in bfloat16 in two parts
}

// trained adds n numbers that are. If split, those that products read in bfloat16 have no copy in F32.
func (w weight) trained(m *Memory, n float64, half, split bool, shape []int) {
	o := w.recipe.Optimizer
	m.Weights += 4 * n
	switch {
	case half && split:
		m.rest += 2 * n
	case half:
		m.Weights += 2 * n
	}
	if o.Average > 0 {
		m.Weights += 4 * n
	}
	muon := o.Name == recipe.Muon && w.param.Hidden()
	gradients := 4 * n
	if half && !w.added && !muon {
		gradients = 2 * n
	}
	m.Gradients += gradients
	if muon || o.Name == recipe.Adafactor {
		m.whole += gradients
	}
	switch {
	case o.Name == recipe.Adafactor && len(shape) == 2:
		m.State += 4 * float64(shape[0]+shape[1])
	case o.Name == recipe.Adafactor || muon:
		m.State += 4 * n
	case o.Moments == recipe.MomentsBF16:
		m.State += 4 * n
	case o.Moments == recipe.Moments8:
		m.State += (2 + 8./256) * n
	default:
		m.State += 8 * n
	}
}

// How many layers are whole at a time where they are divided: their gradients, one that is being computed and those that are being summed,
// and their weights, one that computes and one that is on its way.
const (
	wholeGradients = 4
	wholeWeights   = 2
)

// largestUnit returns the largest sum of numbers of those weights that are gathered together: a layer's, or what is in none.
func largestUnit(params []configs.Param, numbers func(configs.Param) int) float64 {
	units, most := map[string]int{}, 0
	for _, p := range params {
		name := strings.TrimSuffix(p.Name, configs.ParamName(p.Role, -1, p.Bias))
		if p.Layer < 0 {
			name += string(p.Role)
		}
		units[name] += numbers(p)
		most = max(most, units[name])
	}
	return float64(most)
}

// trainedOf returns how many numbers are trained of a weight, or of its change.
func trainedOf(r *recipe.Recipe, p configs.Param) int {
	switch {
	case !r.Trains(p):
		return 0
	case r.Train == recipe.TrainLoRA:
		return r.LoRA.Rank * (p.Shape[0] + p.Shape[1])
	}
	return p.Size()
}

// shard divides what several GPUs divide among them. added says that gradients are added up, in F32.
func shard(m *Memory, r *recipe.Recipe, s Setting, params []configs.Param, added bool) {
	n := float64(max(1, s.GPUs))
	if n == 1 || s.Sharding == ShardNone || s.Sharding == "" {
		return
	}
	m.State /= n
	if s.Sharding != ShardOptimizer {
		width := s.width()
		if added {
			width = 4
		}
		m.Work += min(m.Gradients, wholeGradients*width*largestUnit(params, func(p configs.Param) int { return trainedOf(r, p) }))
	}
	if s.Sharding == ShardParameters {
		m.Weights, m.Gradients = m.Weights/n, m.Gradients/n
		m.Work += wholeWeights * s.width() * largestUnit(params, configs.Param.Size)
		return
	}
	m.Weights += m.rest/n - m.rest
	if s.Sharding == ShardGradients {
		m.Gradients = (m.Gradients-m.whole)/n + m.whole
	}
}

// layerNumbers returns how many numbers of a token a layer keeps for the backward pass: its inputs, those of its products and norms, and
// what attention returns.
func layerNumbers(a *configs.Arch, layer int, recompute string) float64 {
	dim, ffn := float64(a.Dim), float64(a.FFN)
	q, kv := float64(a.Heads*a.HeadDim), float64(a.LayerKV(layer)*a.HeadDim)
	if recompute == "layer" {
		return dim
	}
	hidden := 2 * ffn
	if a.MLP == configs.Gated {
		hidden = 3 * ffn
	}
	rest := 6*dim + hidden // inputs, sums, norms and results of attention and MLP
	if a.Residual == configs.Parallel {
		rest += dim // the sum of both
	}
	if recompute == "attention" {
		return rest
	}
	return rest + 2*q + 2*kv
}

func activations(a *configs.Arch, r *recipe.Recipe, s Setting) (bytes float64) {
	tokens := float64(s.Windows) * float64(r.SeqLen)
	most := 0.0 // a layer without recomputation, whose gradients are on their way, and which is computed again
	for layer := range a.Layers {
		bytes += layerNumbers(a, layer, s.Recompute) * tokens * s.width()
		most = max(most, layerNumbers(a, layer, "none")*tokens*s.width())
	}
	if e := a.Encoder(); e != nil {
		for layer := range e.Layers {
			bytes += layerNumbers(e, layer, s.Recompute) * tokens * s.width()
		}
	}
	if a.Position == configs.PositionT5 { // scores' biases, and their gradients
		bytes += 2 * 4 * float64(a.Heads) * float64(r.SeqLen) * float64(r.SeqLen)
	}
	bytes += most
	if s.Recompute == "layer" {
		bytes += most
	}
	return bytes + 2*float64(a.Dim)*tokens*s.width() // the embedding and the last norm
}

// Sizes, in bytes, beside what a run computes with on a GPU.
const (
	workSpace = 64 << 20  // of products
	libraries = 512 << 20 // the driver's context, and code
)

// work returns the memory for logits, the gradient of the head in F32, and what a GPU's libraries take.
func work(a *configs.Arch, r *recipe.Recipe, s Setting) float64 {
	logits := float64(s.Windows) * float64(r.SeqLen) * float64(a.Vocab)
	bytes := min(logits, float64(s.Logits))*s.width() + 4*float64(a.Vocab)*float64(a.Dim)
	if s.OwnMemory {
		bytes += workSpace + libraries
	}
	return bytes
}

// FLOPs returns the operations that training takes for each token of windows: 6 for each weight of a product, and those of attention. Those
// for computing something twice are not counted, as usual.
func FLOPs(a *configs.Arch, seqLen int) (float64, error) {
	params, err := a.Params()
	if err != nil {
		return 0, err
	}
	flops := 0.0
	for _, p := range params {
		if p.Hidden() {
			flops += 6 * float64(p.Size())
		}
	}
	flops += 6 * float64(a.Vocab) * float64(a.Dim) // the head
	seen := float64(seqLen)                        // keys of a query
	if a.Causal {
		seen /= 2
	}
	return flops + 12*seen*float64(a.Layers+a.EncoderLayers)*float64(a.Heads*a.HeadDim), nil
}
