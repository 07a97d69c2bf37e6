package convert

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"gqa/convert/merge"
)

// Method is the way in which the K (or V) heads of a group become one: see [merge.Method].
type Method = merge.Method

// The methods, as package merge describes them.
const (
	Mean       = merge.Mean
	First      = merge.First
	Random     = merge.Random
	Align      = merge.Align
	Calibrated = merge.Calibrated
)

// MethodLatent is the method of conversions to latent attention, as package latent describes it: the only one for that goal.
const MethodLatent Method = "mla"

// Methods lists the methods for a goal of KV heads.
var Methods = merge.Methods

// Pool computes the K (or V) head of a group from those of its members, which have equal sizes: the weights [headDim,
// modelDim] or the biases [headDim] of a head. It must not retain or change them.
type Pool func(dst []float32, members [][]float32)

// Grouping determines which heads form a group.
type Grouping string

// The groupings.
const (
	Contiguous Grouping = "contiguous" // neighbouring heads, as in the paper
	Similar    Grouping = "similar"    // heads whose merge loses the least
)

// Groupings lists the groupings.
var Groupings = []string{string(Contiguous), string(Similar)}

// poolWith pools with the caller's function.
func poolWith(f Pool, heads []float32, count, groups int) []float32 {
	if groups == count {
		return heads
	}
	size, members := len(heads)/count, count/groups
	pooled := make([]float32, groups*size)
	for g := range groups {
		var group [][]float32
		for m := range members {
			group = append(group, heads[(g*members+m)*size:][:size])
		}
		f(pooled[g*size:][:size], group)
	}
	return pooled
}

// pool turns heads [heads, size] into [groups, size], where contiguous heads share a group. size is the number of
// elements of a head: headDim*dim for a weight, headDim for a bias. name and seed determine the numbers that Random
// draws.
func pool(m Method, heads []float32, count, groups int, bias bool, name string, seed uint64) []float32 {
	if groups == count {
		return heads
	}
	size, members := len(heads)/count, count/groups
	pooled := make([]float32, groups*size)
	if m == Random {
		if !bias {
			fillNormal(pooled, deviation(heads), name, seed)
		}
		return pooled
	}
	for g := range groups {
		dst, first := pooled[g*size:(g+1)*size], heads[g*members*size:]
		copy(dst, first[:size])
		if m == Mean {
			addMean(dst, first[size:members*size], members)
		}
	}
	return pooled
}

// addMean completes dst, which holds the first member, to the mean of members: sums in order, then divides, as torch
// does.
func addMean(dst, others []float32, members int) {
	for ; len(others) > 0; others = others[len(dst):] {
		for i := range dst {
			dst[i] += others[i]
		}
	}
	for i := range dst {
		dst[i] /= float32(members)
	}
}

func deviation(x []float32) float64 {
	var sum, squares float64
	for _, v := range x {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	mean := sum / float64(len(x))
	return math.Sqrt(math.Max(0, squares/float64(len(x))-mean*mean))
}

func fillNormal(dst []float32, deviation float64, name string, seed uint64) {
	h := fnv.New64a()
	h.Write([]byte(name))
	r := rand.New(rand.NewPCG(seed, h.Sum64()))
	for i := range dst {
		dst[i] = float32(r.NormFloat64() * deviation)
	}
}
