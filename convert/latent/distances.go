package latent

import (
	"math"
	"math/cmplx"
)

// distances is how often a query attends to a key at each distance: in inverse proportion to it, so that all orders of magnitude are
// equally frequent. That is near what trained decoders do.
type distances struct {
	spans []span
	known map[float64]complex128
}

// span is a range of distances and its share.
type span struct{ first, n, share float64 }

// spanWidth is the reciprocal of the width of a span relative to its distance.
const spanWidth = 16

func newDistances(context int) *distances {
	d, total := &distances{known: map[float64]complex128{}}, 0.0
	for first := 0; first < context; {
		n := min(max(1, first/spanWidth), context-first)
		share := float64(n) / (float64(first) + float64(n+1)/2)
		d.spans, total = append(d.spans, span{float64(first), float64(n), share}), total+share
		first += n
	}
	for i := range d.spans {
		d.spans[i].share /= total
	}
	return d
}

// turn returns the mean of exp(-iωΔ) over the distances Δ: what is left on average of a number that is rotated.
func (d *distances) turn(omega float64) complex128 {
	if mean, ok := d.known[omega]; ok {
		return mean
	}
	var sum complex128
	for _, s := range d.spans {
		within := 1.0 // mean over the span, relative to its middle
		if half := math.Sin(omega / 2); s.n > 1 && math.Abs(half) > 1e-12 {
			within = math.Sin(omega*s.n/2) / (s.n * half)
		}
		sum += cmplx.Rect(s.share*within, -omega*(s.first+(s.n-1)/2))
	}
	d.known[omega] = sum
	return sum
}

// unit is one number that does not depend on the distance, or two that are rotated by it.
type unit struct {
	at, with int // rows; with is -1 for a single number
	freq     float64
}

func single(at int) unit { return unit{at, -1, 0} }

// average replaces the products m [left's rows, cols] of two vectors by their mean over the distances, if both are rotated.
func (d *distances) average(m []float64, cols int, left, right []unit) {
	for _, l := range left {
		for _, r := range right {
			switch {
			case l.with < 0 && r.with < 0:
			case r.with < 0:
				rotate(&m[l.at*cols+r.at], &m[l.with*cols+r.at], d.turn(l.freq))
			case l.with < 0:
				rotate(&m[l.at*cols+r.at], &m[l.at*cols+r.with], d.turn(r.freq))
			default:
				d.averagePlanes(m, cols, l, r)
			}
		}
	}
}

// averagePlanes is average for two pairs x and y. With X = x₀+ix₁ and Y = y₀+iy₁, their products follow from X·conj(Y), which turns by
// the difference of the angles, and X·Y, which turns by their sum.
func (d *distances) averagePlanes(m []float64, cols int, l, r unit) {
	a, b := &m[l.at*cols+r.at], &m[l.at*cols+r.with]
	c, e := &m[l.with*cols+r.at], &m[l.with*cols+r.with]
	u := complex(*a+*e, *c-*b) * d.turn(l.freq-r.freq)
	w := complex(*a-*e, *c+*b) * d.turn(l.freq+r.freq)
	*a, *e = (real(u)+real(w))/2, (real(u)-real(w))/2
	*c, *b = (imag(u)+imag(w))/2, (imag(w)-imag(u))/2
}

// averageOf replaces a vector by its mean over the distances.
func (d *distances) averageOf(v []float64, units []unit) {
	for _, u := range units {
		if u.with >= 0 {
			rotate(&v[u.at], &v[u.with], d.turn(u.freq))
		}
	}
}

// rotate multiplies the complex number re + i·im by c.
func rotate(re, im *float64, c complex128) {
	z := complex(*re, *im) * c
	*re, *im = real(z), imag(z)
}
