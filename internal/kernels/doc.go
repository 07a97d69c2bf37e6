// Package kernels holds the loops of a transformer over plain float32 slices.
//
// Every kernel is defined by a function ending in Ref, the plain loop, often in float64; the one without the suffix
// must equal it up to rounding and is as fast as the processor allows. Matrices are row-major. No result depends on
// the number of threads: work is cut into blocks whose borders follow from the sizes alone, and sums over blocks are
// taken in a fixed order.
package kernels
