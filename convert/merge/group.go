package merge

import (
	"context"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"gqa/internal/cpu/pool"
)

// contiguous returns groups of adjacent heads.
func contiguous(heads, groups int) [][]int {
	all := make([][]int, groups)
	for h := range heads {
		g := h * groups / heads
		all[g] = append(all[g], h)
	}
	return all
}

// searchWork is the maximum number of multiplications of small matrices in an exhaustive search: a few seconds.
const searchWork = 4e9

// Search finds the groups of heads that keep the most energy, as a fraction of the total: for one module, or summed
// over several that must share one order of heads. If there are few partitions, it finds the optimum; otherwise it uses
// annealing on the sum over pairs, for which only the energies of pairs are needed.
type Search struct {
	Method Method
	Groups int
	Seed   uint64 // random seed for annealing

	heads, size int
	sets        []uint32 // sets of heads, as bits, whose energies are used; nil: only pairs
	energies    []float64
	pair        [][]float64
}

// Add adds a module, with the moments of its inputs. All modules must have the same number of KV heads.
func (s *Search) Add(ctx context.Context, a *Attention, in Inputs) error {
	_, _, err := s.add(ctx, a, in)
	return err
}

func (s *Search) add(ctx context.Context, a *Attention, in Inputs) (k, v *projection, err error) {
	if s.heads == 0 {
		s.begin(a.KVHeads, a.HeadDim)
	}
	if s.size == 1 || s.Groups == 1 {
		return a.projections(ctx, in, s.Parts())
	}
	if k, v, err = a.projections(ctx, in, contiguous(a.KVHeads, 1)); err != nil {
		return nil, nil, err
	}
	s.count(k, v)
	return k, v, ctx.Err()
}

// count adds the energies of sets of heads.
func (s *Search) count(k, v *projection) {
	if s.Method == Calibrated {
		k.findRoots()
		v.findRoots()
	}
	kTotal, vTotal := math.Max(k.total(), math.SmallestNonzeroFloat64), math.Max(v.total(), math.SmallestNonzeroFloat64)
	energy := func(members []int) float64 {
		if k.stopped() {
			return 0
		}
		return k.energy(s.Method, members)/kTotal + v.energy(s.Method, members)/vTotal
	}
	if s.sets == nil {
		addPairs(s.pair, energy)
		return
	}
	pool.For(len(s.sets), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			s.energies[i] += energy(members(s.sets[i]))
		}
	})
}

// begin decides which energies to use, given the number of partitions.
func (s *Search) begin(heads, headDim int) {
	s.heads, s.size = heads, heads/s.Groups
	if work := binomial(heads, s.size) * math.Pow(float64(s.size*headDim), 3); heads <= 16 && work <= searchWork {
		s.sets = subsets(heads, s.size)
		s.energies = make([]float64, len(s.sets))
		return
	}
	s.pair = make([][]float64, heads)
	for i := range s.pair {
		s.pair[i] = make([]float64, heads)
	}
}

// Parts returns the groups found, by KV heads.
func (s *Search) Parts() [][]int {
	switch {
	case s.size == 1 || s.Groups == 1:
		return contiguous(s.heads, s.Groups)
	case s.sets != nil:
		return partition(s.heads, s.size, s.sets, s.energies)
	}
	return anneal(s.heads, s.size, s.pair, s.Seed)
}

func binomial(n, k int) float64 {
	b := 1.0
	for i := range k {
		b *= float64(n-i) / float64(i+1)
	}
	return b
}

// partition returns the partition of at most 16 heads into sets with the largest sum of energies, by dynamic
// programming: for each set of remaining heads, the best group for its first head.
func partition(heads, size int, sets []uint32, energies []float64) [][]int {
	byFirst := make([][]int, heads) // indices of sets, by their first head
	for i, s := range sets {
		first := bits.TrailingZeros32(s)
		byFirst[first] = append(byFirst[first], i)
	}
	value, choice := make([]float64, 1<<heads), make([]uint32, 1<<heads)
	for left := uint32(1); left < 1<<heads; left++ {
		if bits.OnesCount32(left)%size != 0 {
			continue
		}
		for _, i := range byFirst[bits.TrailingZeros32(left)] {
			s := sets[i]
			// The first set that fits is always chosen, whatever its energy: otherwise the walk back below would not
			// end.
			if sum := energies[i] + value[left&^s]; s&^left == 0 && (choice[left] == 0 || sum > value[left]) {
				value[left], choice[left] = sum, s
			}
		}
	}
	var groups [][]int
	for left := uint32(1)<<heads - 1; left != 0; left &^= choice[left] {
		groups = append(groups, members(choice[left]))
	}
	return groups
}

// subsets returns the sets of size heads, as bits.
func subsets(heads, size int) []uint32 {
	var sets []uint32
	for s := uint32(0); s < 1<<heads; s++ {
		if bits.OnesCount32(s) == size {
			sets = append(sets, s)
		}
	}
	return sets
}

func members(set uint32) []int {
	var all []int
	for ; set != 0; set &= set - 1 {
		all = append(all, bits.TrailingZeros32(set))
	}
	return all
}

// addPairs adds the energy of every pair of heads to pair.
func addPairs(pair [][]float64, energy func([]int) float64) {
	heads := len(pair)
	pool.For(heads*heads, 1, func(lo, hi int) {
		for n := lo; n < hi; n++ {
			if i, j := n/heads, n%heads; i < j {
				pair[i][j] += energy([]int{i, j})
				pair[j][i] = pair[i][j]
			}
		}
	})
}

// anneal swaps heads between groups to increase the sum of pairs' energies, accepting losses ever more rarely
// (Kirkpatrick et al. 1983). The same seed gives the same groups.
func anneal(heads, size int, pair [][]float64, seed uint64) [][]int {
	r := rand.New(rand.NewPCG(seed, 0))
	order := make([]int, heads) // groups of size heads, one after the other
	for i := range order {
		order[i] = i
	}
	best, bestGain, gain := append([]int(nil), order...), 0.0, 0.0
	steps := 2000 * heads
	hot := spread(pair)
	for step := range steps {
		i, j := r.IntN(heads), r.IntN(heads)
		if i/size == j/size {
			continue
		}
		d := swapGain(order, size, pair, i, j)
		heat := hot * math.Pow(1e-4, float64(step)/float64(steps))
		if d < 0 && r.Float64() >= math.Exp(d/heat) {
			continue
		}
		order[i], order[j] = order[j], order[i]
		if gain += d; gain > bestGain+1e-12 {
			bestGain = gain
			copy(best, order)
		}
	}
	return sorted(best, size)
}

// swapGain returns the increase in the sum over pairs within groups when the heads at i and j are swapped.
func swapGain(order []int, size int, pair [][]float64, i, j int) float64 {
	a, b := order[i], order[j]
	d := 0.0
	for k := range size {
		if x := order[i/size*size+k]; x != a {
			d += pair[b][x] - pair[a][x]
		}
		if x := order[j/size*size+k]; x != b {
			d += pair[a][x] - pair[b][x]
		}
	}
	return d
}

// spread returns the difference between the best and the worst pair, never zero.
func spread(pair [][]float64) float64 {
	low, high := math.Inf(1), math.Inf(-1)
	for i := range pair {
		for j := range i {
			low, high = min(low, pair[i][j]), max(high, pair[i][j])
		}
	}
	return max(high-low, 1e-300)
}

// sorted splits order into groups, with ascending members, sorted by first member.
func sorted(order []int, size int) [][]int {
	var groups [][]int
	for g := range slices.Chunk(order, size) {
		g = slices.Clone(g)
		slices.Sort(g)
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b []int) int { return a[0] - b[0] })
	return groups
}
