package nn

import (
	"cmp"
	"math"
	"unsafe"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/simd"
)

// View locates the rows of heads in a slice: row t of head h of sequence b begins at Data[b·Seq+h·Head+t·Row]. Attend
// also reads k and v from Half, in the same way, if Format says so, and from Bytes if Ints does.
type View struct {
	Data           []float32
	Seq, Head, Row int
	Half           []uint16 // instead of Data unless Format is F32
	Format         simd.Half
	Ints           simd.Ints
	Bytes          []byte    // instead of Data if Ints is not 0; number i is at byte Ints.Bytes(i)
	Scales         []float32 // of Bytes: that of the row that starts at number i is at i/Row
}

// bytes returns the bytes from row t of a head on, and the scales.
func (v View) bytes(b, h, t int) ([]byte, []float32) {
	i := v.index(b, h, t)
	return v.Bytes[v.Ints.Bytes(i):], v.Scales[i/v.Row:]
}

func (v View) index(b, h, t int) int { return b*v.Seq + h*v.Head + t*v.Row }

func (v View) at(b, h, t int) []float32 { return v.Data[v.index(b, h, t):] }

// ahead returns the rows from t on in steps of 16 elements if they have no gaps, else only the start of row t.
func (v View) ahead(b, h, t, d int) simd.Prefetch {
	i := v.index(b, h, t)
	l := simd.Prefetch{}
	switch {
	case v.Ints != 0:
		l.Base, l.Stride = &v.Bytes[v.Ints.Bytes(i)], v.Ints.Bytes(16)
	case v.Format == simd.F32:
		l.Base, l.Stride = (*byte)(unsafe.Pointer(&v.Data[i])), 64
	default:
		l.Base, l.Stride = (*byte)(unsafe.Pointer(&v.Half[i])), 32
	}
	if v.Row != d {
		l.Stride = 0
	}
	return l
}

// rows returns n rows of the width d from row t, and the distance between them: those in memory, or a converted copy in the
// scratch.
func (v View) rows(scratch *[]float32, b, h, t, n, d int) ([]float32, int) {
	if v.Format == simd.F32 && v.Ints == 0 {
		return v.at(b, h, t), v.Row
	}
	*scratch = memory.Grow(*scratch, n*d)
	if v.Ints != 0 {
		bytes, scales := v.bytes(b, h, t)
		v.Ints.DecodeRows(*scratch, bytes, v.Ints.Bytes(v.Row), scales, n, d)
		return *scratch, d
	}
	v.Format.DecodeRows(*scratch, v.Half[v.index(b, h, t):], v.Row, n, d)
	return *scratch, d
}

// Attention describes a grouped-query attention (Ainslie et al., arXiv 2305.13245). Query head h reads KV head
// h/(Heads/KVHeads).
type Attention struct {
	Batch, Queries, Keys int // sequences, query rows and key rows per sequence
	// KeyLens, if not nil, holds how many keys each sequence has, at most Keys.
	KeyLens                 []int
	Heads, KVHeads, HeadDim int
	ValueDim                int     // width of values and results; 0: HeadDim, the width of queries and keys
	Scale                   float32 // of the scores q·k
	// Causal lets query i see the keys j <= i + (keys of the sequence) - Queries: the last query sees all.
	Causal bool
	// Window, if not 0, leaves a query the last Window of those keys: itself and those before it.
	Window int
	// Firsts [Batch, Queries], if not nil, leaves a query only the keys from Firsts[b·Queries+i] on. They do not decrease within a
	// sequence. The first of them is where CoarseSlopes counts from.
	Firsts []int32
	// Sinks, if not 0, leaves a query also the first Sinks of those keys, beside the Window (Xiao et al., arXiv 2309.17453).
	// AttendBackward ignores it.
	Sinks int
	// SinkQueries, if it has Data, are the queries for the first Sinks keys, in the place of the others.
	SinkQueries View
	// Slopes [Heads], if not nil, adds Slopes[h]·(j - i) to the scaled score of query i for key j, where i counts from
	// the sequence's start: ALiBi (Press et al., arXiv 2108.12409).
	Slopes []float32
	// CoarseSlopes, if not 0, adds CoarseSlopes·bf16(bf16(Slopes[h])·j) instead, j from the sequence's start: a bias in
	// bfloat16, as Falcon computes it.
	CoarseSlopes float32
	// Bias [Heads, Queries, Keys], if not nil, is added to the scaled scores of every sequence: T5's relative positions.
	Bias []float32
	// BiasGrad, of the shape of Bias, if not nil, is what AttendBackward adds the gradient of Bias to.
	BiasGrad []float32
	// Stop, if not nil, is called between tasks. Once it returns true the call ends early, and its results mean nothing.
	Stop func() bool
}

func (a *Attention) stopped() bool { return a.Stop != nil && a.Stop() }

func (a *Attention) group() int { return a.Heads / a.KVHeads }

// valueDim returns the width of values and results.
func (a *Attention) valueDim() int { return cmp.Or(a.ValueDim, a.HeadDim) }

func (a *Attention) keys(b int) int {
	if a.KeyLens == nil {
		return a.Keys
	}
	return a.KeyLens[b]
}

// visible returns the keys [first,end) that query i of sequence b sees.
func (a *Attention) visible(b, i int) (first, end int) {
	end = a.keys(b)
	if a.Causal {
		end = min(max(i+1+end-a.Queries, 0), end)
	}
	if a.Window > 0 {
		first = max(end-a.Window, 0)
	}
	return max(first, a.start(b, i)), end
}

// start returns the first key of the text that query i of sequence b belongs to.
func (a *Attention) start(b, i int) int {
	if a.Firsts == nil {
		return 0
	}
	return int(a.Firsts[b*a.Queries+i])
}

// seen returns visible as positions [lo,hi) among the n keys from j.
func (a *Attention) seen(b, i, j, n int) (lo, hi int) {
	first, end := a.visible(b, i)
	hi = min(max(end-j, 0), n)
	return min(max(first-j, 0), hi), hi
}

// sinkQueries returns the queries for sinks, given the others.
func (a *Attention) sinkQueries(q View) View {
	if a.SinkQueries.Data == nil {
		return q
	}
	return a.SinkQueries
}

// addBias adds what depends only on positions to the scaled scores s of query i and head h for the keys from j.
func (a *Attention) addBias(s []float32, b, h, i, j int) {
	switch {
	case a.Slopes != nil && a.CoarseSlopes != 0:
		slope, start := bf16(a.Slopes[h]), a.start(b, i)
		for x := range s {
			s[x] += a.CoarseSlopes * bf16(slope*float32(j+x-start))
		}
	case a.Slopes != nil:
		slope, at := a.Slopes[h], i+a.keys(b)-a.Queries
		simd.Axpy(slope, ramp[:len(s)], s)
		simd.Affine(s, s, 1, slope*float32(j-at))
	}
	if a.Bias != nil {
		simd.Add(s, s, a.Bias[(h*a.Queries+i)*a.Keys+j:][:len(s)])
	}
}

// bf16 rounds a finite number to bfloat16, ties to even.
func bf16(x float32) float32 {
	bits := math.Float32bits(x)
	return math.Float32frombits((bits + 0x7fff + bits>>16&1) &^ 0xffff)
}

// ramp is 0, 1, 2 … for a block of keys.
var ramp = func() (r [keyBlock]float32) {
	for i := range r {
		r[i] = float32(i)
	}
	return r
}()
