package recipe

import (
	"fmt"
	"slices"
	"strings"

	"gqa/configs"
)

// Train selects the weights that a run changes. The others keep their values, bit for bit.
type Train string

// Values of Train.
const (
	TrainAll       Train = "all"
	TrainAttention Train = "attention" // the projections of attention and their biases, which are what a conversion changes
	TrainLoRA      Train = "lora"      // a low-rank change of some projections (Hu et al. 2021, arXiv 2106.09685), which is added to them in the result
)

// LoRA describes the change of a projection W [out, in] that Train "lora" learns: Alpha/Rank · B·A with A [Rank, in] and B [out, Rank].
type LoRA struct {
	Rank        int     `yaml:"rank"`
	Alpha       float64 `yaml:"alpha"`
	Projections string  `yaml:"projections"` // roles of the projections, such as q,k,v,o,gate,up,down
}

// Scale returns the factor of B·A.
func (l LoRA) Scale() float64 { return l.Alpha / float64(l.Rank) }

// Roles returns the roles of the projections, in the order in which they are named.
func (l LoRA) Roles() ([]configs.Role, error) {
	var roles []configs.Role
	for name := range strings.SplitSeq(l.Projections, ",") {
		role := configs.Role(strings.TrimSpace(name))
		switch {
		case !slices.Contains(configs.Projections, role):
			return nil, fmt.Errorf("lora.projections is %q: want some of %s", shorten(l.Projections), names(configs.Projections))
		case slices.Contains(roles, role):
			return nil, fmt.Errorf("lora.projections is %q: %s occurs twice", shorten(l.Projections), role)
		}
		roles = append(roles, role)
	}
	return roles, nil
}

func names(roles []configs.Role) string {
	var all []string
	for _, r := range roles {
		all = append(all, string(r))
	}
	return strings.Join(all, ",")
}

// Trains reports whether the run changes a weight of the forward pass.
func (r *Recipe) Trains(p configs.Param) bool {
	switch r.Train {
	case TrainAttention:
		return p.Role.IsAttention()
	case TrainLoRA:
		roles, _ := r.LoRA.Roles() // validated
		return p.Hidden() && slices.Contains(roles, p.Role)
	}
	return true
}

func (r *Recipe) validateTrain() error {
	if _, err := r.LoRA.Roles(); err != nil {
		return err
	}
	return check([]limit{
		oneOf("train", r.Train, TrainAll, TrainAttention, TrainLoRA),
		{"lora.alpha", r.LoRA.Alpha, r.LoRA.Alpha > 0 && finite(r.LoRA.Alpha), "more than 0"},
	})
}
