package simd

import "unsafe"

var amxKernels = AMXKernels{
	split: splitAMX, Prefetch: func(n int, l Prefetch) { prefetchAMX(n, l.Base, l.From, l.Stride) }, Dots: dotsAMX, Attend: attendAMX,
	Panels: panelsAMX, PackRow: packRowAMX, PackPairs: packPairsAMX,
}

func splitAMX(dst []float32, plane int, src []float32) {
	_ = dst[2*plane+len(src)/2-1]
	splitRowAMX(len(src), (*uint16)(unsafe.Pointer(&dst[0])), 4*plane, &src[0])
}

func dotsAMX(n, k, m int, w []uint16, ldw int, x, c []float32, next Prefetch) {
	_, _ = x[3*m*k/2-1], c[n*m-1]
	ld, row, tile, step := ldw, 2*ldw, 32*ldw, 2*AMXDepth
	if ldw == AMXPacked {
		ld, row, tile, step = k, 2*AMXDepth, 2*AMXRows*AMXDepth, 2*AMXRowBlock*AMXDepth
		_ = w[n*k-1]
	} else {
		_ = w[(n-1)*ldw+k-1]
	}
	whole := n / AMXRowBlock
	if whole > 0 {
		tileDots4AMX(whole, k/AMXDepth, &w[0], row, tile, step, 2*AMXRowBlock*ld, &x[0], 2*m*k, &c[0], 4*m,
			&dotShapes[m][0], next.Base, next.From, next.Stride)
	}
	if done := whole * AMXRowBlock; done < n {
		if ldw == AMXPacked {
			step = tile
		}
		tileDots1AMX((n-done)/AMXRows, k/AMXDepth, &w[done*ld], row, 0, step, 2*AMXRows*ld, &x[0], 2*m*k, &c[done*m], 4*m,
			&dotShapes[m][0], next.Base, next.From, next.Stride)
	}
}

// tileAhead is how many keys ahead attendAMX prefetches into the first-level cache. It prefetches four times as far ahead into the
// second-level cache.
const tileAhead = 32

// other returns where the scores of the next group of keys go.
func (t *AMXAttention) other() []float32 { return t.S[1-t.turn] }

func attendAMX(t *AMXAttention, rows, d, groups int, k []uint16, ldk int, v []uint16, ldv int, top, sum *Lanes, o []float32) int {
	n := groups * AMXDepth
	_, _, _ = k[(n-1)*ldk+d-1], v[(n-1)*ldv+d-1], o[rows*d-1]
	attend := attend16AMX
	if rows == 8 {
		attend = attend8AMX
	}
	next := k
	if groups > 1 {
		next = k[AMXDepth*ldk:]
	}
	left := attend(groups, d/AMXColumns, &t.Scores()[0], &t.other()[0], &t.Q[0], 2*rows*d, &next[0], 2*ldk, &v[0], 2*ldv,
		&t.P[0], &t.Pairs[0], &o[0], 4*d, &top[0], &t.Limit[0], &sum[0], &attendShapes[rows][0], tileAhead)
	t.turn ^= (groups - left) & 1
	return left
}

// tileShapes is the configuration of AMX: the bytes in a row and the rows of each tile.
type tileShapes [64]byte

// newTileShapes returns the configuration for shapes [rows, columns of 4 bytes] of tiles 0 to 3, 4, 5, 6 and 7.
func newTileShapes(sums, four, five, six, seven [2]int) (s tileShapes) {
	s[0] = 1 // the palette
	for t, shape := range [][2]int{sums, sums, sums, sums, four, five, six, seven} {
		s[16+2*t], s[48+t] = byte(4*shape[1]), byte(shape[0])
	}
	return s
}

// The shapes by the number of columns of the second factor, or rows of queries.
var dotShapes, attendShapes = func() (dots, attend [AMXRows + 1]tileShapes) {
	full := [2]int{16, 16}
	for m := 1; m <= AMXRows; m++ {
		columns, rows := [2]int{16, m}, [2]int{m, 16}
		dots[m] = newTileShapes(columns, full, columns, columns, columns)
		attend[m] = newTileShapes(rows, columns, columns, full, rows)
	}
	return dots, attend
}()

var blockShapes = func() tileShapes {
	full := [2]int{16, 16}
	return newTileShapes(full, full, full, full, full)
}()

func panelsAMX(panels, steps int, a, b, c []float32, ldc int, acc bool) {
	_, _, _ = a[steps*AMXBlockFloats-1], b[panels*steps*AMXBlockFloats-1], c[(AMXBlock-1)*ldc+panels*AMXBlock-1]
	blockPanelsAMX(panels, steps, &a[0], &b[0], &c[0], 4*ldc, acc, &blockShapes[0])
}

func packRowAMX(steps int, src, dst []float32, ahead int) {
	_, _ = src[steps*AMXBlock-1], dst[(steps-1)*AMXBlockFloats+4*16*AMXLine+AMXLine-1]
	blockRowAMX(steps, &src[0], (*uint16)(unsafe.Pointer(&dst[0])), 4*ahead)
}

func packPairsAMX(steps int, src []float32, ld int, alpha float32, dst []float32) {
	_, _ = src[(steps*AMXBlock-1)*ld+AMXBlock-1], dst[steps*AMXBlockFloats-1]
	blockPairsAMX(steps, &src[0], 4*ld, alpha, (*uint16)(unsafe.Pointer(&dst[0])))
}
