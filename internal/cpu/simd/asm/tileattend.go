package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tileAttend is the kernel of attention by AMX for a number of rows, in work. It takes 32 keys at a time, as many as a tile's
// rows hold: while their scores become weights, the scores of the 32 behind them are computed. So tile and vector instructions
// take turns every few hundred cycles at most. That overlaps them, and it has to be: a matrix unit that was idle for a quarter
// of a microsecond is slow to start again.
type tileAttend struct {
	isa
	rows       int
	top, total reg.VecVirtual
	upper      reg.VecVirtual // of the bits of a number
	left       Mem            // blocks of columns
	soon       Mem            // keys to prefetch first
}

// The general registers: tile instructions take none but given ones.
const (
	// The tiles: 0 to 3 are sums of four times 16 columns of the result.
	tileScores, tileQuery, tileCache, tileWeights = 4, 5, 6, 7
)

var (
	scores, key, keyStride, query        = reg.RSI, reg.RBX, reg.RCX, reg.RDX
	queryRow, valueAhead, value, valRow  = reg.R8, reg.R9, reg.RDI, reg.R10
	pairs, line, spare, walk, blocksLeft = reg.R11, reg.R12, reg.R13, reg.R15, reg.RAX
)

func newTileAttend(rows int) *tileAttend {
	return &tileAttend{isa: amx, rows: rows, top: ZMM(), total: ZMM(), upper: ZMM()}
}

func (t *tileAttend) generate() {
	t.text(fmt.Sprintf("attend%d", t.rows), "func(groups, blocks int, s, other *float32, q *float32, plane int, k *uint16, ldk int, v *uint16, ldv int, "+
		"p, pairs *float32, o *float32, ldo int, top, limit, sum *float32, shapes *byte, ahead int) (left int)",
		fmt.Sprintf("%%s is AMXKernels.Attend for %d rows. All strides are in bytes; blocks is how many times 64 elements a row has.", t.rows))
	t.left, t.soon = AllocLocal(8), AllocLocal(8)
	t.load()
	Label("group")
	t.check()
	for half := range 2 {
		label := fmt.Sprint(half)
		t.score("a"+label, func() { tileZero(tileScores) })
		t.exponentials()
		t.pair("a" + label)
		t.score("b"+label, func() { t.storeScores(half) })
		t.exponentials()
		t.pair("b" + label)
	}
	t.weights()
	t.multiply()
	t.next()
	Label("stop")
	VMOVUPS(t.total, Mem{Base: t.param("sum", spare)})
	Load(Param("groups"), spare)
	Store(spare, ReturnIndex(0))
	tileRelease()
	VZEROUPPER()
	RET()
}

// param loads an argument.
func (t *tileAttend) param(name string, r reg.GPPhysical) reg.GPPhysical {
	Load(Param(name), r)
	return r
}

func (t *tileAttend) load() {
	tileConfig(t.param("shapes", reg.R13))
	t.param("s", scores)
	t.param("k", key)
	t.param("ldk", keyStride)
	t.param("v", value)
	t.param("ldv", valRow)
	t.param("pairs", pairs)
	MOVQ(I32(64), line)
	MOVQ(I32(4*t.rows), queryRow)
	MOVQ(keyStride, spare)
	IMULQ(address("ahead"), spare)
	ADDQ(key, spare)
	MOVQ(spare, t.soon)
	MOVQ(valRow, valueAhead)
	IMULQ(address("ahead"), valueAhead)
	VMOVUPS(Mem{Base: t.param("top", spare)}, t.top)
	VMOVUPS(Mem{Base: t.param("sum", spare)}, t.total)
	VPBROADCASTD(upper, t.upper)
}

// check stops where a score is above the limit.
func (t *tileAttend) check() {
	const greater = 14
	var most [4]reg.VecVirtual
	for i := range most {
		most[i] = ZMM()
		VMOVUPS(Mem{Base: scores, Disp: 64 * i}, most[i])
	}
	for i := 4; i < 2*t.rows; i++ {
		VMAXPS(Mem{Base: scores, Disp: 64 * i}, most[i%4], most[i%4])
	}
	above := K()
	VCMPPS(U8(greater), Mem{Base: t.param("limit", spare)}, t.combine(most[:], VMAXPS), above)
	KORTESTW(above, above)
	JNE(LabelRef("stop"))
}

// score adds half of the elements of a row to the scores of 16 keys of the next group, between steps that zero or store them.
func (t *tileAttend) score(label string, step func()) {
	CMPQ(address("groups"), U8(1))
	JE(LabelRef("skip" + label))
	if label[0] == 'a' {
		step()
		t.param("q", query)
	}
	t.param("blocks", blocksLeft)
	Label("score" + label)
	tileLoad(tileCache, key, keyStride)
	MOVQ(query, spare)
	for range 3 {
		tileLoad(tileQuery, spare, queryRow)
		tileDot(tileScores, tileCache, tileQuery)
		ADDQ(address("plane"), spare)
	}
	ADDQ(U32(64*t.rows), query)
	MOVQ(t.soon, spare)
	MOVQ(keyStride, walk)
	IMULQ(address("ahead"), walk)
	for i := range 16 {
		t.prefetch(Mem{Base: spare, Disp: 64 * i}, walk)
	}
	ADDQ(U32(1024), t.soon)
	ADDQ(U32(64), key)
	DECQ(blocksLeft)
	JNZ(LabelRef("score" + label))
	if label[0] == 'b' {
		step()
	}
	Label("skip" + label)
}

// prefetch prefetches in two steps: a line that is needed soon into the first-level cache, and one four times the distance behind it
// into the second-level cache, which can wait for more lines at a time.
func (t *tileAttend) prefetch(near Mem, distance reg.Register) {
	PREFETCHT0(near)
	near.Index, near.Scale = distance, 4
	PREFETCHT1(near)
}

// storeScores stores those of 16 keys and moves on to the next keys.
func (t *tileAttend) storeScores(half int) {
	t.param("other", spare)
	ADDQ(U32(half*64*t.rows), spare)
	tileStore(tileScores, spare, queryRow)
	MOVQ(keyStride, spare)
	SHLQ(U8(4), spare)
	ADDQ(spare, key)
	t.param("blocks", spare)
	SHLQ(U8(7), spare)
	SUBQ(spare, key)
}

// exponentials replaces the scores of 8 keys by exp(s - top) and adds them to the sums.
func (t *tileAttend) exponentials() {
	for i := range t.rows / 2 {
		at, x := Mem{Base: scores, Disp: 64 * i}, ZMM()
		VMOVUPS(at, x)
		VSUBPS(t.top, x, x)
		t.exp(x)
		VADDPS(x, t.total, t.total)
		VMOVUPS(x, at)
	}
	ADDQ(U32(64*t.rows/2), scores)
}

// pair shuffles neighbouring rows of 8 values into one, as the second operand of tileDot wants them: 64 columns become four
// tiles, whose columns come out in the order of unshuffle.
func (t *tileAttend) pair(label string) {
	t.param("blocks", blocksLeft)
	MOVQ(pairs, spare)
	Label("pair" + label)
	MOVQ(value, walk)
	for pair := range 4 {
		var x [2][2]reg.VecVirtual
		for i := range x {
			for half := range 2 {
				x[i][half] = ZMM()
				VMOVUPS(Mem{Base: walk, Disp: 64 * half}, x[i][half])
				t.prefetch(Mem{Base: walk, Index: valueAhead, Scale: 1, Disp: 64 * half}, valueAhead)
			}
			ADDQ(valRow, walk)
		}
		for half := range 2 {
			both := ZMM()
			VPUNPCKLWD(x[1][half], x[0][half], both)
			VMOVUPS(both, Mem{Base: spare, Disp: 1024*2*half + 64*pair})
			VPUNPCKHWD(x[1][half], x[0][half], x[0][half])
			VMOVUPS(x[0][half], Mem{Base: spare, Disp: 1024*(2*half+1) + 64*pair})
		}
	}
	ADDQ(U32(128), value)
	ADDQ(U32(4096), spare)
	DECQ(blocksLeft)
	JNZ(LabelRef("pair" + label))
	ADDQ(U32(256), pairs)
	t.param("blocks", spare)
	SHLQ(U8(7), spare)
	SUBQ(spare, value)
	LEAQ(Mem{Base: value, Index: valRow, Scale: 8}, value)
}

// weights turns the exponentials of a group, four rows at a time, and splits them in three: a pair of keys makes a word.
func (t *tileAttend) weights() {
	SUBQ(U32(128*t.rows), scores)
	t.param("p", spare)
	row := func(odd int) func(i int) Mem {
		return func(i int) Mem { return Mem{Base: scores, Disp: 4 * t.rows * (2*i + odd)} }
	}
	for r := 0; r < t.rows; r += 4 {
		even, odd := transpose4(ZMM, row(0), 4*r), transpose4(ZMM, row(1), 4*r)
		for i := range 4 {
			splitWords(t.upper, even[i], odd[i], func(plane int) Mem {
				return Mem{Base: spare, Disp: 64 * (r + i + t.rows*plane)}
			})
		}
	}
}

// multiply adds the weighted values of a group to the result.
func (t *tileAttend) multiply() {
	SUBQ(U32(1024), pairs)
	t.param("blocks", spare)
	MOVQ(spare, t.left)
	MOVQ(pairs, walk)
	t.param("ldo", blocksLeft)
	t.param("o", spare)
	Label("multiply")
	for i := range 4 {
		tileLoad(i, spare, blocksLeft)
		ADDQ(U32(64), spare)
	}
	for i := range 4 {
		tileLoad(tileCache, walk, line)
		ADDQ(U32(1024), walk)
		t.param("p", query)
		for range 3 {
			tileLoad(tileWeights, query, line)
			tileDot(i, tileWeights, tileCache)
			ADDQ(U32(64*t.rows), query)
		}
	}
	SUBQ(U32(256), spare)
	for i := range 4 {
		tileStore(i, spare, blocksLeft)
		ADDQ(U32(64), spare)
	}
	DECQ(t.left)
	JNZ(LabelRef("multiply"))
}

// next takes the scores that were computed for those to work on.
func (t *tileAttend) next() {
	t.param("other", spare)
	MOVQ(scores, address("other"))
	MOVQ(spare, scores)
	DECQ(address("groups"))
	JNZ(LabelRef("group"))
}
