package spago

import (
	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/model"
)

// Params are a model's trainable weights, as spago's nn.Param, each listed once (a tied head is the embedding).
type Params struct {
	nn.Module
	List  []*nn.Param
	Names []string // the forward pass's names, parallel to List
}

// NewParams loads weights to a device, one at a time. On the CPU they are not copied: training modifies them in place.
func NewParams(d device.Device, arch *configs.Arch, weights model.Weights) (*Params, error) {
	var joined map[string]*joint
	if d.Activations() != device.F32 {
		shapes, err := arch.Params()
		if err != nil {
			return nil, err
		}
		joined = joints(d, shapes)
	}
	return loadParams(d, arch, weights, joined)
}

// loadParams is NewParams with the given joints by the names of their members.
func loadParams(d device.Device, arch *configs.Arch, weights model.Weights, joined map[string]*joint) (*Params, error) {
	p := &Params{}
	err := weights(func(w configs.Param, data []float32) error {
		rows, cols := w.Shape[0], len(data)/w.Shape[0]
		var v *value
		if j := joined[w.Name]; j != nil && len(j.parts) < len(j.members) && j.members[len(j.parts)] == w.Name {
			v = j.place(rows, data)
		} else {
			v = newValue(d, d.Load(device.F32, data, rows, cols, false), rows, cols)
			if v.rows > 1 && v.cols > 1 {
				v.addCompute()
			}
		}
		v.padded, v.padding = w.Role == configs.Embed && arch.Padding >= 0, int32(arch.Padding)
		p.List = append(p.List, &nn.Param{Matrix: v})
		p.Names = append(p.Names, w.Name)
		return nil
	})
	return p, err
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

// Data returns a parameter's values.
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

// updateCompute makes the copy follow the weight.
func (v *value) updateCompute() {
	if !v.compute.None() {
		v.device.Copy(v.compute, v.data)
	}
}
