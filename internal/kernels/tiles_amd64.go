package kernels

import "unsafe"

var tilesAMX = tilePath{
	split: splitAMX, ask: func(n int, l lookahead) { askAMX(n, l.base, l.from, l.stride) }, dots: dotsAMX, attend: attendAMX,
	panels: panelsAMX, packRow: packRowAMX, packPairs: packPairsAMX,
}

func splitAMX(dst []float32, plane int, src []float32) {
	_ = dst[2*plane+len(src)/2-1]
	splitRowAMX(len(src), (*uint16)(unsafe.Pointer(&dst[0])), 4*plane, &src[0])
}

func dotsAMX(n, k, m int, w []uint16, ldw int, x, c []float32, next lookahead) {
	_, _ = x[3*m*k/2-1], c[n*m-1]
	ld, row, tile, step := ldw, 2*ldw, 32*ldw, 2*tileDepth
	if ldw == packedRows {
		ld, row, tile, step = k, 2*tileDepth, 2*tileSize*tileDepth, 2*tileBlock*tileDepth
		_ = w[n*k-1]
	} else {
		_ = w[(n-1)*ldw+k-1]
	}
	whole := n / tileBlock
	if whole > 0 {
		tileDots4AMX(whole, k/tileDepth, &w[0], row, tile, step, 2*tileBlock*ld, &x[0], 2*m*k, &c[0], 4*m,
			&dotShapes[m][0], next.base, next.from, next.stride)
	}
	if done := whole * tileBlock; done < n {
		if ldw == packedRows {
			step = tile
		}
		tileDots1AMX((n-done)/tileSize, k/tileDepth, &w[done*ld], row, 0, step, 2*tileSize*ld, &x[0], 2*m*k, &c[done*m], 4*m,
			&dotShapes[m][0], next.base, next.from, next.stride)
	}
}

// tileAhead is how many keys before they are read attendAMX asks for them to come to the first-level cache. It asks for them to
// come to the second four times as long before.
const tileAhead = 32

// other is where the scores of the next group of keys go.
func (t *tileState) other() []float32 { return t.s[1-t.turn] }

func attendAMX(t *tileState, rows, d, groups int, k []uint16, ldk int, v []uint16, ldv int, top, sum *lanes, o []float32) int {
	n := groups * tileDepth
	_, _, _ = k[(n-1)*ldk+d-1], v[(n-1)*ldv+d-1], o[rows*d-1]
	attend := attend16AMX
	if rows == 8 {
		attend = attend8AMX
	}
	next := k
	if groups > 1 {
		next = k[tileDepth*ldk:]
	}
	left := attend(groups, d/tileColumns, &t.scores()[0], &t.other()[0], &t.q[0], 2*rows*d, &next[0], 2*ldk, &v[0], 2*ldv,
		&t.p[0], &t.pairs[0], &o[0], 4*d, &top[0], &t.limit[0], &sum[0], &attendShapes[rows][0], tileAhead)
	t.turn ^= (groups - left) & 1
	return left
}

// tileShapes is the configuration of AMX: of each tile, bytes in a row and rows.
type tileShapes [64]byte

// newTileShapes has a shape [rows, columns of 4 bytes] for tiles 0 to 3, 4 and so on.
func newTileShapes(sums, four, five, six, seven [2]int) (s tileShapes) {
	s[0] = 1 // the palette
	for t, shape := range [][2]int{sums, sums, sums, sums, four, five, six, seven} {
		s[16+2*t], s[48+t] = byte(4*shape[1]), byte(shape[0])
	}
	return s
}

// The shapes by the number of columns of the second factor, or rows of queries.
var dotShapes, attendShapes = func() (dots, attend [tileSize + 1]tileShapes) {
	full := [2]int{16, 16}
	for m := 1; m <= tileSize; m++ {
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
	_, _, _ = a[steps*blockFloat-1], b[panels*steps*blockFloat-1], c[(blockSize-1)*ldc+panels*blockSize-1]
	blockPanelsAMX(panels, steps, &a[0], &b[0], &c[0], 4*ldc, acc, &blockShapes[0])
}

func packRowAMX(steps int, src, dst []float32, ahead int) {
	_, _ = src[steps*blockSize-1], dst[(steps-1)*blockFloat+4*16*tileLine+tileLine-1]
	blockRowAMX(steps, &src[0], (*uint16)(unsafe.Pointer(&dst[0])), 4*ahead)
}

func packPairsAMX(steps int, src []float32, ld int, alpha float32, dst []float32) {
	_, _ = src[(steps*blockSize-1)*ld+blockSize-1], dst[steps*blockFloat-1]
	blockPairsAMX(steps, &src[0], 4*ld, alpha, (*uint16)(unsafe.Pointer(&dst[0])))
}
