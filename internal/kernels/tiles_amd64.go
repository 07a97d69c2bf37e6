package kernels

import "unsafe"

var tilesAMX = tilePath{
	split: splitBy(splitRowAMX), splitPairs: splitBy(splitPairsAMX),
	dots: dotsAMX, weigh: weighAMX,
	panels: panelsAMX, packRow: packRowAMX, packPairs: packPairsAMX,
}

// splitBy wraps the assembly, which must not leave the slices.
func splitBy(split func(n int, dst *uint16, plane int, src *float32)) func(dst []float32, plane int, src []float32) {
	return func(dst []float32, plane int, src []float32) {
		_ = dst[2*plane+len(src)/2-1]
		split(len(src), (*uint16)(unsafe.Pointer(&dst[0])), 4*plane, &src[0])
	}
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

func weighAMX(n, rows int, p []float32, ldp int, v []uint16, ldv int, o []float32, ldo int, scratch *tileScratch, next lookahead) {
	_, _, _ = p[(2*rows*ldp+(rows-1)*ldp+n)/2-1], v[(n-1)*ldv+tileColumns-1], o[(rows-1)*ldo+tileColumns-1]
	tileWeighAMX(n/tileDepth, &p[0], 2*ldp, 2*rows*ldp, &v[0], 2*ldv, &o[0], 4*ldo, &weighShapes[rows][0], scratch.aligned(),
		next.base, next.from, next.stride)
}

// aligned is where the two blocks begin: at a multiple of their size together.
func (s *tileScratch) aligned() *float32 {
	const size = 8 << 10
	return &s[-uintptr(unsafe.Pointer(s))%size/4]
}

// tileShapes is the configuration of AMX: of each tile, bytes in a row and rows.
type tileShapes [64]byte

// newTileShapes has a shape [rows, columns of 4 bytes] for tiles 0 to 3 (sums), 4 and so on.
func newTileShapes(sums, four, five, six, seven [2]int) (s tileShapes) {
	s[0] = 1 // the palette
	for t, shape := range [][2]int{sums, sums, sums, sums, four, five, six, seven} {
		s[16+2*t], s[48+t] = byte(4*shape[1]), byte(shape[0])
	}
	return s
}

// The shapes by the number of columns or rows of the second factor.
var dotShapes, weighShapes = func() (dots, weigh [tileSize + 1]tileShapes) {
	full := [2]int{16, 16}
	for m := 1; m <= tileSize; m++ {
		x, p := [2]int{16, m}, [2]int{m, 16}
		dots[m] = newTileShapes(x, full, x, x, x)
		weigh[m] = newTileShapes(p, p, p, p, full)
	}
	return dots, weigh
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
