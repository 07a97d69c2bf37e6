package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/weights"
)

// neighbour writes a result with the tensors of another family whose class computes the same function. It first writes
// the family's own tensors, in f32, into a temporary folder and converts them from there.
type neighbour struct {
	own    *tensors
	layout Layout
	config []byte // the result's config.json, except for the dtype
}

// newNative lays r out for the class that loads it: the family's own or, if that does not support such KV heads, a
// neighbour's. If none does, it uses the family's own tensors.
func newNative(r Result) (Target, error) {
	own, err := newOwn(r, true)
	if err != nil {
		return nil, err
	}
	if layered(r.Arch) || r.Arch.Family.Grouping(r.Arch.KVHeads).Class != "" || r.Arch.KVHeads == r.Arch.Heads {
		return own, nil
	}
	to, config, _ := findNeighbour(r.Arch, r.Source.Config)
	if to == nil {
		return own, nil
	}
	n, err := newNeighbour(r, to, config)
	if err != nil {
		return nil, err
	}
	n.layout.Computed = own.layout.Computed
	return n, nil
}

// newNeighbour lays r out for the architecture to, with the config.json from findNeighbour.
func newNeighbour(r Result, to *configs.Arch, config []byte) (n *neighbour, err error) {
	dtype := r.DType
	if dtype == 0 {
		if dtype, err = KeyDType(r.Source); err != nil {
			return nil, err
		}
	}
	r.DType = checkpoints.F32
	n = &neighbour{config: config, layout: Layout{Arch: to, SideFiles: true, LoadsIn: loadsOwn(r.Source, to, true)}}
	if n.own, err = newOwn(r, false); err != nil {
		return nil, err
	}
	all, err := to.Tensors()
	for _, x := range all {
		n.layout.Specs = append(n.layout.Specs, checkpoints.Spec{Name: x.Name, DType: dtype, Shape: x.Shape})
	}
	n.layout.Work = n.own.layout.Work + bytesOf(n.layout.Specs)
	return n, err
}

// Layout describes the files.
func (n *neighbour) Layout() *Layout { return &n.layout }

// Write writes the weights and config.json. Temporary files are removed before it returns.
func (n *neighbour) Write(ctx context.Context, dir string, r Reader, progress func(bytes int64)) (err error) {
	temporary := filepath.Join(dir, "."+string(Own))
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	if err := os.Mkdir(temporary, 0o777); err != nil {
		return err
	}
	if err := n.own.Write(ctx, temporary, strict{r}, progress); err != nil {
		return err
	}
	return n.recast(ctx, dir, temporary, progress)
}

// recast writes the weights of the checkpoint in the folder own, and config.json.
func (n *neighbour) recast(ctx context.Context, dir, own string, progress func(bytes int64)) error {
	src, err := weights.Open(own, weights.Options{})
	if err != nil {
		return err
	}
	defer src.Close()
	c, err := newRecast(src, n.layout.Arch)
	if err != nil {
		return err
	}
	if err := checkpoints.Write(dir, n.layout.Specs, n.own.writeOptions(), reporting(ctx, progress, c.writeTensor)); err != nil {
		return err
	}
	dtype := n.layout.Specs[0].DType
	config, err := weights.RewriteConfig(n.config, func(keys map[string]any) { weights.SetDType(keys, dtype) })
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666)
}

// strict is a Reader for a result whose tensors are all used in a computation, none merely copied.
type strict struct{ Reader }

// Check returns an error if the tensor is not finite.
func (s strict) Check(ctx context.Context, t *checkpoints.Tensor, _ bool) error {
	return s.Reader.Check(ctx, t, true)
}

// findNeighbour returns the first of the family's neighbours that can hold the architecture a, and its config.json. a is
// the architecture of source's config.json, possibly with fewer KV heads. If no neighbour can hold it, findNeighbour
// returns nil and the reasons.
func findNeighbour(a *configs.Arch, source []byte) (to *configs.Arch, config []byte, why []error) {
	families, err := configs.Families()
	if err != nil {
		return nil, nil, []error{err}
	}
	for _, name := range a.Family.Neighbours {
		to, config, err := a.Recast(families[name], source)
		if err == nil {
			return to, config, nil
		}
		why = append(why, err)
	}
	return nil, nil, why
}

// Loader returns the class of transformers that loads a natively, its family's or a neighbour's. It is empty if only this
// toolkit does; the errors then say why no neighbour can hold a. config is the source's config.json.
func Loader(a *configs.Arch, config []byte) (class string, why []error) {
	if class := a.Family.Grouping(a.KVHeads).Loader(); class != "" {
		return class, nil
	}
	to, _, why := findNeighbour(a, config)
	if to == nil {
		return "", why
	}
	return to.Family.Grouping(to.KVHeads).Loader(), nil
}

// KeyDType returns the dtype of the weights of keys, or of latents, which is usually that of the KV cache.
func KeyDType(src *weights.Source) (checkpoints.DType, error) {
	params, err := src.Arch.Params()
	if err != nil {
		return 0, err
	}
	for _, p := range params {
		if t, ok := src.Tensor(p.Tensor); ok && (p.Role == configs.K || p.Role == configs.LatentKV) {
			return t.DType, nil
		}
	}
	return 0, fmt.Errorf("family %s has no key projection", src.Arch.Family.Name)
}
