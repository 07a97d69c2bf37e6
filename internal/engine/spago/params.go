package spago

import (
	"math"
	"slices"

	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/model"
)

// Params are a model's trainable weights, as spago's nn.Param, each listed once (a tied head is the embedding).
type Params struct {
	nn.Module
	List  []*nn.Param
	Names []string // the forward pass's names, parallel to List

	shards *shards // if they keep the weights; otherwise nil
}

// NewParams loads weights to a device, one at a time. On the CPU they are not copied: training modifies them in place.
func NewParams(d device.Device, arch *configs.Arch, weights model.Weights) (*Params, error) {
	return newParams(d, arch, weights, loading{})
}

// newTrained is NewParams for weights of which a recipe trains some. AdamW and Adafactor can update weights in two parts, which take less memory
// than a float with a copy in bfloat16.
func newTrained(d device.Device, r *recipe.Recipe, among Sharing, arch *configs.Arch, weights model.Weights) (*Params, error) {
	how := loading{split: r.Optimizer.Name != recipe.Muon && r.Optimizer.Average == 0, recipe: r}
	if among.Group != nil && among.Parameters {
		how.shards = newUnits(d, among)
	}
	return newParams(d, arch, weights, how)
}

func newParams(d device.Device, arch *configs.Arch, weights model.Weights, how loading) (*Params, error) {
	shapes, err := arch.Params()
	if err != nil {
		return nil, err
	}
	if d.Activations() != device.F32 {
		how.joined = joints(d, shapes)
	}
	if r := how.recipe; r != nil && r.Train == recipe.TrainLoRA {
		if err := checkAdapted(r.LoRA, shapes); err != nil {
			return nil, err
		}
	}
	return loadParams(d, arch, weights, how)
}

// loading says how weights are stored.
type loading struct {
	joined map[string]*joint // by the names of their members
	split  bool              // matrices are stored in two parts, of which products read one
	recipe *recipe.Recipe    // says which are trained; nil: all
	shards *shards           // keep a part of each; nil: they are whole
}

func loadParams(d device.Device, arch *configs.Arch, weights model.Weights, how loading) (*Params, error) {
	p := &Params{shards: how.shards}
	err := weights(func(w configs.Param, data []float32) error {
		rows, cols := w.Shape[0], len(data)/w.Shape[0]
		var v *value
		if j := how.joined[w.Name]; j != nil && len(j.parts) < len(j.members) && j.members[len(j.parts)] == w.Name {
			v = j.place(rows, data)
		} else {
			v = newValue(d, d.Load(device.F32, data, rows, cols, false), rows, cols)
			if len(w.Shape) == 2 && w.Role != configs.Distances && !w.IsNorm() {
				v.addCompute()
			}
		}
		switch r := how.recipe; {
		case r == nil || r.Trains(w) && r.Train != recipe.TrainLoRA:
			if how.split {
				v.split()
			}
		default:
			v.freeze(data)
			if r.Trains(w) {
				v.adapter = newAdapter(d, r.LoRA, r.Seed, w)
			}
		}
		v.padded, v.padding = w.Role == configs.Embed && arch.Padding >= 0, int32(arch.Padding)
		p.List = append(p.List, &nn.Param{Matrix: v})
		p.Names = append(p.Names, w.Name)
		p.divide(v, w, how.recipe)
		return nil
	})
	if err == nil && p.shards != nil {
		p.shards.units.loaded()
		if t, ok := d.(device.Trimmer); ok { // whole weights were there, of sizes that training does not need
			t.Trim()
		}
	}
	return p, err
}

// divide passes the weight that was added last to the shards that keep it.
func (p *Params) divide(v *value, w configs.Param, r *recipe.Recipe) {
	if p.shards == nil {
		return
	}
	whole := r != nil && stepsWhole(r.Optimizer, w)
	p.shards.units.add(member{name: w.Name, param: p.List[len(p.List)-1]}, whole && !v.frozen)
	if v.adapter != nil {
		for _, part := range v.adapter.parts(w.Name) {
			p.shards.units.add(member{name: part.name, param: part.param}, whole)
		}
	}
}

// Model returns the forward pass over the parameters.
func (p *Params) Model(arch *configs.Arch) *model.Model[mat.Tensor] {
	byName := make(map[string]mat.Tensor, len(p.List))
	for i, name := range p.Names {
		byName[name] = p.List[i]
	}
	return model.New(arch, func(name string) (mat.Tensor, bool) {
		t, ok := byName[name]
		return t, ok
	})
}

// Data returns a parameter's values; omitted if they are stored in two parts.
func Data(p *nn.Param) device.Buffer { return valueOf(p).data }

// Grad returns the gradient accumulated since the parameter's last ZeroGrad; omitted if there is none.
func Grad(p *nn.Param) device.Buffer {
	if v := valueOf(p); !v.fresh {
		return v.grad
	}
	return device.Buffer{}
}

// addCompute gives a weight a copy in the format of activations, if that is another.
func (v *value) addCompute() {
	if f := v.device.Activations(); f != v.data.Format() {
		v.compute = v.device.New(f, v.Size())
		v.updateCompute()
	}
}

// split stores a weight in two parts, if it has a copy in bfloat16.
func (v *value) split() {
	if v.compute.Format() != device.BF16 || v.compute.None() {
		return
	}
	v.rest = v.device.New(device.Rest, v.Size())
	v.device.Split(v.compute, v.rest, v.data)
	v.device.Free(v.data)
	v.data = device.Buffer{}
}

// freeze makes a weight with these numbers one that is not trained. If they are exact in bfloat16 and products read them so, they are
// stored once.
func (v *value) freeze(numbers []float32) {
	v.frozen = true
	if v.compute.Format() != device.BF16 || v.compute.None() {
		return
	}
	if slices.ContainsFunc(numbers, func(x float32) bool { return math.Float32bits(x)&0xffff != 0 }) {
		v.split()
		return
	}
	v.device.Free(v.data)
	v.data = device.Buffer{}
}

// set replaces the numbers of a frozen weight.
func (v *value) set(numbers []float32) {
	if v.unit != nil {
		v.bucket.set(v, numbers)
		return
	}
	if v.data.None() {
		v.device.Free(v.rest)
		v.rest, v.data = device.Buffer{}, v.device.New(device.F32, len(numbers))
	}
	v.device.Write(v.data, numbers)
	v.updateCompute()
	v.freeze(numbers)
}

// updateCompute makes the copy follow the weight.
func (v *value) updateCompute() {
	if !v.compute.None() && !v.data.None() {
		v.device.Copy(v.compute, v.data)
	}
}
