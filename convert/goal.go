package convert

import (
	"fmt"
	"slices"
	"strings"

	"gqa/configs"
)

// Goal is the number of KV heads that the attention of a checkpoint is converted to: one number for every converted site
// ([Groups]), or one for each layer ([GroupsPerLayer]), or else latent attention ([LatentAttention]). The zero Goal is not valid.
type Goal struct {
	groups  int
	byLayer []int
	latent  *LatentGoal
}

// Groups returns the goal of n KV heads at every converted site. n must divide the KV heads of the source.
func Groups(n int) Goal { return Goal{groups: n} }

// GroupsPerLayer returns the goal of heads[i] KV heads in layer i. Each number must divide the layer's current number of
// KV heads. It is for models with one kind of attention.
func GroupsPerLayer(heads ...int) Goal { return Goal{byLayer: slices.Clone(heads)} }

// Groups returns the number of KV heads; if layers differ, the largest; 0 for latent attention.
func (g Goal) Groups() int {
	if len(g.byLayer) > 0 {
		return slices.Max(g.byLayer)
	}
	return g.groups
}

// PerLayer returns the number of KV heads of each layer, or nil if all layers have the same.
func (g Goal) PerLayer() []int { return slices.Clone(g.byLayer) }

// String returns the numbers in command-line form, 4 or 8,4,2, or those of latent attention: 512+64.
func (g Goal) String() string {
	switch {
	case g.byLayer != nil:
		return list(g.byLayer)
	case g.latent != nil:
		return fmt.Sprintf("%d+%d", g.latent.Rank, g.latent.RopeDim)
	}
	return fmt.Sprint(g.groups)
}

// arch returns a with the KV heads of the goal.
func (g Goal) arch(a *configs.Arch, sites []configs.Site) *configs.Arch {
	if g.byLayer != nil {
		return a.WithLayerKVHeads(g.byLayer)
	}
	return a.WithKVHeads(g.groups, sites...)
}

// check returns an error that wraps ErrGroups if a cannot have the goal's KV heads.
func (g Goal) check(a *configs.Arch, sites []configs.Site) error {
	switch {
	case g.latent != nil:
		return g.latent.check(a)
	case a.IsLatent() && (g.byLayer != nil || g.groups != a.Heads):
		return errLatent(a)
	case g.byLayer != nil:
		return g.checkLayers(a)
	}
	legal := a.LegalGroups(sites...)
	switch {
	case slices.Contains(legal, g.groups):
		return nil
	case a.KVHeads == 1 && len(a.Sites()) == 1:
		return fmt.Errorf("%w is %d, but the checkpoint's %d heads share one KV head already (multi-query): there is nothing to merge",
			ErrGroups, g.groups, a.Heads)
	case a.LayerKVHeads != nil:
		err := fmt.Errorf("%w is %d, want what divides the KV heads of every layer (%s): one of %v", ErrGroups, g.groups, list(a.LayerKVHeads), legal)
		return OptionError{Err: err, Give: []Setting{{OptionGroupsPerLayer, list(a.LayerKVHeads)}}}
	}
	return fmt.Errorf("%w is %d, want a divisor of the checkpoint's %s (%d heads): one of %v", ErrGroups, g.groups, kvHeadsText(a, sites), a.Heads, legal)
}

// errLatent returns an error that wraps ErrGroups: heads have no keys and values of their own to merge.
func errLatent(a *configs.Arch) error {
	return fmt.Errorf("%w cannot be other than the %d heads: the checkpoint has latent attention, which caches %d numbers per token and layer for all heads",
		ErrGroups, a.Heads, a.Latent.CacheDim())
}

// errLayers is ErrGroups for the option that sets the KV heads of each layer.
var errLayers = fmt.Errorf("%w-per-layer", ErrGroups)

func (g Goal) checkLayers(a *configs.Arch) error {
	switch {
	case len(a.Sites()) > 1:
		return fmt.Errorf("%w is for models with one kind of attention; family %s has %v", errLayers, a.Family.Name, a.Sites())
	case len(g.byLayer) != a.Layers:
		return fmt.Errorf("%w has %d numbers, want %d, one for each layer", errLayers, len(g.byLayer), a.Layers)
	}
	for i, groups := range g.byLayer {
		if legal := divisors(a.LayerKV(i)); !slices.Contains(legal, groups) {
			return fmt.Errorf("%w has %d for layer %d, want a divisor of its %d KV heads: one of %v", errLayers, groups, i, a.LayerKV(i), legal)
		}
	}
	return nil
}

// kvHeadsText describes the KV heads of a at the sites: 8 KV heads and 4 at encoder_self.
func kvHeadsText(a *configs.Arch, sites []configs.Site) string {
	text := fmt.Sprintf("%d KV heads", a.SiteKVHeads(sites[0]))
	for _, s := range sites[1:] {
		if kv := a.SiteKVHeads(s); kv != a.SiteKVHeads(sites[0]) {
			text += fmt.Sprintf(" and %d at %s", kv, s)
		}
	}
	return text
}

// list returns numbers separated by commas, in command-line form.
func list(numbers []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ","), "[]")
}

// divisors lists the divisors of n in increasing order.
func divisors(n int) (all []int) {
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			all = append(all, d)
		}
	}
	return all
}
