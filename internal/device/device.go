// Package device defines what engines compute with: buffers of numbers in a device's memory and the operations on them.
// Package device/cpu implements it for the CPU. Other devices keep their buffers elsewhere; a buffer is then an
// address.
//
// Operations run in the order in which they are called and may return before they are done. Memory.Host, a Number and
// operations that write to slices wait. Matrices are row-major without gaps unless leading dimensions are given.
package device

import (
	"context"
	"fmt"

	"gqa/internal/activation"
	"gqa/internal/units"
)

// Format is how a number is stored.
type Format uint8

// Formats.
const (
	F32 Format = iota
	BF16
	F16
	Rest // the difference between an F32 and a BF16 near it, in 16 bits; see Memory.Split
	Int8 // a byte, -127 to 127, times the scale of its row: for keys and values in a cache; see Heads
	Int4 // half a byte, -7 to 7, times the scale of its row

	// For the averages of optimizers: a byte that stands for a number, with a sign or without, times the scale of its block of
	// BlockOf; see optim.Codes in internal/cpu.
	Signed8
	Unsigned8
)

// BlockOf is the number of numbers of Signed8 and Unsigned8 that share a scale.
const BlockOf = 256

// Bits returns the size of a number in bits.
func (f Format) Bits() int {
	switch f {
	case F32:
		return 32
	case Int8, Signed8, Unsigned8:
		return 8
	case Int4:
		return 4
	}
	return 16
}

// Size returns the size of a number in bytes. Numbers of Int4 have less than one: see Bytes.
func (f Format) Size() int { return f.Bits() / 8 }

// Bytes returns the size of n numbers, an even number in Int4, without scales.
func (f Format) Bytes(n int) int { return n * f.Bits() / 8 }

// Scaled reports whether each row has a scale, of F32.
func (f Format) Scaled() bool { return f == Int8 || f == Int4 }

// Coded reports whether the numbers are codes, whose blocks have scales.
func (f Format) Coded() bool { return f == Signed8 || f == Unsigned8 }

// Buffer is a handle to numbers in a device's memory: copies of it refer to the same numbers. The zero Buffer refers to
// none; it stands for an operand that is omitted.
type Buffer struct {
	f32    []float32
	f16    []uint16
	bytes  []byte
	own    any
	addr   uintptr
	n      int
	format Format
}

// HostF32 returns a buffer of numbers in the memory of this process.
func HostF32(x []float32) Buffer { return Buffer{f32: x, n: len(x)} }

// Host16 is like HostF32 for 16-bit numbers.
func Host16(format Format, x []uint16) Buffer { return Buffer{f16: x, n: len(x), format: format} }

// HostBytes is like HostF32 for n numbers of Int8 or Int4, or codes.
func HostBytes(format Format, x []byte, n int) Buffer { return Buffer{bytes: x, n: n, format: format} }

// At returns a buffer of n numbers at an address in a device's own memory.
func At(addr uintptr, format Format, n int) Buffer {
	return Buffer{addr: addr, n: n, format: format}
}

// Own returns a buffer of n numbers that a device stores in its own form. It cannot be sliced.
func Own(form any, format Format, n int) Buffer { return Buffer{own: form, n: n, format: format} }

// Form returns the form passed to Own; nil for other buffers.
func (b Buffer) Form() any { return b.own }

// F32 returns the numbers of a buffer made by HostF32; nil for others.
func (b Buffer) F32() []float32 { return b.f32 }

// U16 returns the numbers of a buffer made by Host16; nil for others.
func (b Buffer) U16() []uint16 { return b.f16 }

// Bytes returns the numbers of a buffer made by HostBytes; nil for others.
func (b Buffer) Bytes() []byte { return b.bytes }

// Addr returns the address of a buffer made by At; 0 for others.
func (b Buffer) Addr() uintptr { return b.addr }

// Len returns the number of numbers in the buffer.
func (b Buffer) Len() int { return b.n }

// Format returns the format of the numbers.
func (b Buffer) Format() Format { return b.format }

// None reports whether the buffer is the zero Buffer, which stands for an omitted operand.
func (b Buffer) None() bool {
	return b.f32 == nil && b.f16 == nil && b.bytes == nil && b.own == nil && b.addr == 0
}

// Slice returns the numbers [lo, hi) of the buffer.
func (b Buffer) Slice(lo, hi int) Buffer {
	b.n = hi - lo
	switch {
	case b.f32 != nil:
		b.f32 = b.f32[lo:hi:hi]
	case b.f16 != nil:
		b.f16 = b.f16[lo:hi:hi]
	case b.bytes != nil:
		lo, hi = b.format.Bytes(lo), b.format.Bytes(hi)
		b.bytes = b.bytes[lo:hi:hi]
	case b.addr != 0:
		b.addr += uintptr(b.format.Bytes(lo))
	}
	return b
}

// From returns the numbers of the buffer from lo on.
func (b Buffer) From(lo int) Buffer { return b.Slice(lo, b.n) }

// Device holds buffers and runs operations. It must be used by one goroutine at a time.
type Device interface {
	Memory
	Elementwise
	Products
	Norms
	Positions
	Attention
	Tables
	Losses
	Optimizers
	Systems

	// Until makes the device skip expensive operations once ctx is done. Results are meaningless from then on; the caller checks
	// ctx.
	Until(ctx context.Context)
	// Activations returns the format of activations and of their gradients that an engine should use: F32 or BF16. Biases, the
	// weights of norms and their gradients, the optimizer's state and what is summed over are F32 on every device. Matrices may have
	// copies or parts in this format, and gradients in it.
	Activations() Format
	// LogitsAtOnce returns the number of logits that a loss should compute at a time.
	LogitsAtOnce() int
	// Err returns the first error of an operation; nil if there was none. After an error nothing more is computed.
	Err() error
}

// Memory allocates and frees buffers.
type Memory interface {
	// New returns a buffer of n numbers with unspecified values.
	New(f Format, n int) Buffer
	// Free frees a buffer returned by New. Operations already called may still use it.
	Free(Buffer)
	// Put returns a buffer that holds x. If the device uses the process's memory, the buffer shares x.
	Put(x []float32) Buffer
	// Unload frees a buffer returned by Put or Load, unless it shares the caller's memory. Operations already called may still use
	// it.
	Unload(Buffer)
	// Load is Put for a weight [rows, cols] in a format. A weight that is only used by Multiply may be stored in the
	// device's own form.
	Load(f Format, x []float32, rows, cols int, multiplied bool) Buffer
	// Write writes x to a buffer of any format, rounding as needed.
	Write(dst Buffer, x []float32)
	// Split stores the F32 numbers of x in two parts: in high, of format BF16, numbers near them, and in rest, of format Rest, the
	// differences. One NaN may become another.
	Split(high, rest, x Buffer)
	// Join restores the numbers that Split was given.
	Join(x, high, rest Buffer)
	// Host returns the numbers of an F32 buffer, read-only. If the device uses the process's memory, they are shared.
	Host(Buffer) []float32
}

// Rows is a matrix in a buffer: row i starts at number i·LD.
type Rows struct {
	Buffer
	LD int
}

// Elementwise is the set of elementwise operations. Operands have equal lengths and, except in Copy and ScaleBy, the same format;
// dst may be one of them.
type Elementwise interface {
	Copy(dst, x Buffer) // of any formats
	Clear(dst Buffer)
	Add(dst, x, y Buffer)
	Axpy(s float32, x, dst Buffer)  // dst += s·x
	Scale(dst Buffer, s float32)    // dst *= s
	ScaleBy(dst, s Buffer)          // dst *= s[0]
	Shift(dst, x Buffer, s float32) // dst = x + s
	Clip(dst, x Buffer, m float32)  // dst = x clipped to ±m
	ClipBackward(dx, dy, x Buffer, m float32)
	Lerp(dst, x Buffer, s float32) // dst = (1-s)·dst + s·x
	Swap(x, y Buffer)

	Activate(act activation.Func, y, x Buffer) // y = act(x)
	ActivateBackward(act activation.Func, dx, dy, x Buffer)

	// The following operate on matrices [rows, dim]. y and dy have no gaps.

	CopyRows(dst, x Rows, rows, dim int)
	Gate(act activation.Func, y Buffer, gate, up Rows, rows, dim int) // y = act(gate)·up
	GateBackward(act activation.Func, dgate, dup Rows, dy Buffer, gate, up Rows, rows, dim int)
	// JoinHeads joins the parts of heads: each head of y [rows, heads, m+n] is that of a [rows, heads, m], then that of b [rows, heads,
	// n]. If shared is true, b is [rows, n] and the same for all heads. What is omitted of a and b is zero.
	JoinHeads(y, a, b Rows, rows, heads, m, n int, shared bool)
	// SplitHeads is the reverse: it writes a and b, of which either may be omitted. A shared b is the sum over the heads.
	SplitHeads(a, b, y Rows, rows, heads, m, n int, shared bool)
}

// Product is y [rows, N] = x·wᵀ, one of several products with the same x [rows, k].
type Product struct {
	N    int
	Y, W Buffer // W [N, k] may have any format or form
}

// Products is the set of matrix products and related operations.
type Products interface {
	// Multiply computes products with the same x, with at least the precision of Gemm.
	Multiply(rows, k int, x Buffer, ps []Product)
	// Gemm computes c = alpha·op(a)·op(b) + beta·c with op(a) [m, k], op(b) [k, n]; ta and tb transpose. If beta is 0,
	// c is not read.
	Gemm(ta, tb bool, m, n, k int, alpha float32, a Buffer, lda int, b Buffer, ldb int, beta float32, c Buffer, ldc int)
	// MultiplyHeads multiplies each head of x by a matrix of its own: y = x·w, with the rows of x [k] long, those of y [n], and w [heads,
	// k, n]; or y = x·wᵀ with w [heads, n, k] if trans is true. x and y have the format of activations, w any format. Seq is ignored: row
	// t of a head starts at h·Head + t·Row.
	MultiplyHeads(trans bool, heads, rows, n, k int, y, x Heads, w Buffer)
	AddRows(y, bias Buffer, rows, dim int)   // adds bias [dim] to every row of y
	SumRows(dbias, dy Buffer, rows, dim int) // adds every row of dy to dbias [dim]
}

// Norms normalise rows [rows, dim]. w and b are [dim], or [heads, dim]: row r then uses that of head r mod heads. They may be omitted.
//
// The backward operations write dx, or add to it if add is set. They add to dw and db.
type Norms interface {
	RMSNorm(y, inv, x, w Buffer, rows, dim int, eps float32)
	RMSNormBackward(dx, dw, dy, x, w, inv Buffer, rows, dim int, add bool)
	LayerNorm(y, mean, inv, x, w, b Buffer, rows, dim int, eps float32)
	LayerNormBackward(dx, dw, db, dy, x, w, mean, inv Buffer, rows, dim int, add bool)

	// The following write sum = x + z and normalise sum. sum may be x or z.

	AddRMSNorm(y, inv, sum, x, z, w Buffer, rows, dim int, eps float32)
	AddLayerNorm(y, mean, inv, sum, x, z, w, b Buffer, rows, dim int, eps float32)
}

// Rope is a device's table of rotations for rotary position embedding.
type Rope interface {
	Positions() int // number of positions in the table; 0 if the device failed or was stopped before it was written
}

// Positions is the set of operations that depend on token positions.
type Positions interface {
	// NewRope returns the table for positions from 0 on; see nn.NewRopeTable in internal/cpu.
	NewRope(invFreq []float64, positions int, scale float64, interleaved bool) Rope
	FreeRope(r Rope) // frees its memory; operations already called may still use it
	// Rotate rotates each head of row r of x [len(pos), heads, headDim] to position pos[r], into y, which may be x; inverse
	// rotates back.
	Rotate(r Rope, y, x Rows, pos []int32, heads, headDim int, inverse bool)
	// RelativeBias computes y[h,i,j] = table[bucket[j-i+queries-1],h]: y [heads, queries, keys], table [buckets, heads], bucket
	// [queries+keys-1].
	RelativeBias(y, table Buffer, bucket []int32, heads, queries, keys int)
	RelativeBiasBackward(dtable, dy Buffer, bucket []int32, heads, queries, keys int) // adds to dtable
}

// Heads locates the rows of heads in a buffer: row t of head h of sequence s starts at s·Seq + h·Head + t·Row. In Int8 and Int4,
// Row is the head dim, and the scale of a row is number (its start)/Row of Scales, an F32 buffer. A row of Int4 consists of blocks of
// 32 numbers in 16 bytes: byte i has number i, plus 8, in its lower half and number i+16, plus 8, in its upper half. The last block
// may have fewer numbers, an even number n: then the upper half of byte i has number i+n/2.
type Heads struct {
	Buffer
	Seq, Head, Row int
	Scales         Buffer
}

// Scores describes a grouped-query attention (Ainslie et al., arXiv 2305.13245). Query head h reads KV head
// h / (Heads/KVHeads).
type Scores struct {
	Batch, Queries, Keys    int   // number of sequences, and query and key rows per sequence
	KeyLens                 []int // if not nil, the number of keys of each sequence, at most Keys
	Heads, KVHeads, HeadDim int
	ValueDim                int       // width of values and results; 0: HeadDim, which is that of queries and keys
	Scale                   float32   // factor for q·k
	Causal                  bool      // query i sees the keys j <= i + (keys of the sequence) - Queries
	Window                  int       // if not 0, only the last Window of the visible keys
	Firsts                  []int32   // [Batch, Queries], if not nil, only the visible keys from these on, which never decrease within a sequence
	Sinks                   int       // with Window, the first Sinks of the visible keys too; AttendBackward ignores it. See Sinker
	SinkQueries             Heads     // the queries for the first Sinks keys, equal to the others where the window has some of these; may be omitted
	Slopes                  []float32 // [Heads], ALiBi's (Press et al., arXiv 2108.12409); nil: none
	CoarseSlopes            float32   // if not 0, ALiBi is computed in bfloat16, as in Falcon, times this
	Bias                    Buffer    // [Heads, Queries, Keys], added to scaled scores; may be omitted
}

// Attention is the set of grouped-query attention operations.
type Attention interface {
	// Attend writes out and, unless lse is omitted, the logarithms of the sums of exponentials, lse [Batch, Heads,
	// Queries].
	Attend(s Scores, out Heads, lse Buffer, q, k, v Heads)
	// AttendBackward writes the gradients of q, k and v, and adds the gradient of Scores.Bias to dbias unless it is
	// omitted.
	AttendBackward(s Scores, dq, dk, dv Heads, dbias Buffer, dout, out Heads, lse Buffer, q, k, v Heads)
	// Store stores keys and values in any format: k and v [seqs·tokens, heads·headDim] become the rows from first on of
	// each sequence's heads. A row of integers is x·(n/m) in float32, rounded to nearest, ties to even, where m is the row's largest
	// magnitude and n is 127 for Int8, 7 for Int4; its scale is m/n. If m is less than 2^-100, all are 0. If a number is not finite,
	// the scale is NaN. values and v may be omitted, both.
	Store(keys, values Heads, first int, k, v Buffer, seqs, tokens, headDim int)
}

// Tables is the set of operations on selected rows of a matrix.
type Tables interface {
	Gather(y, table Buffer, ids []int32, dim int)       // y[i] = table[ids[i]]
	ScatterAdd(dtable, dy Buffer, ids []int32, dim int) // dtable[ids[i]] += dy[i]
	// ClearRows clears the rows of y [len(ids), dim] whose ID is id.
	ClearRows(y Buffer, ids []int32, id int32, dim int)
}

// Soft holds a teacher's predictions for some rows: all its logits, or its K most probable tokens.
type Soft struct {
	Logits Buffer // [rows, vocab]; if omitted, IDs and LogP are used

	K    int
	IDs  []int32   // [rows, K], distinct within a row
	LogP []float32 // [rows, K], log-probabilities at Distillation's temperature
}

// Distillation is the loss for learning from a teacher (Hinton et al. 2015, arXiv 1503.02531, section 2):
//
//	(1-Weight)·CE(target) + Weight·Temperature²·KL(teacher || student), both softmaxes of logits/Temperature in KL
type Distillation struct {
	Weight      float32 // 0 to 1
	Temperature float32 // more than 0
}

// Preciser is implemented by devices that can also sum in float64, slowly, wherever a forward pass with f32 weights
// rounds.
type Preciser interface{ Precise() Device }

// MemoryError reports that the memory of a device other than the processor is exhausted.
type MemoryError struct {
	Device            string
	Wanted, Held, All uint64 // in bytes: this request, allocated by this process, and total of the device
}

// Error returns a description with the three sizes.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("out of memory on %s: %s wanted beside %s of its %s", e.Device,
		units.Bytes(int64(e.Wanted)), units.Bytes(int64(e.Held)), units.Bytes(int64(e.All)))
}

// Rounder is implemented by devices whose products are faster if they round factors of F32 to bfloat16 on their way; sums are in float32.
type Rounder interface {
	Round(on bool) // from now on
}

// Rounding calls f while d's products may round their factors.
func Rounding(d Device, f func()) {
	if r, ok := d.(Rounder); ok {
		r.Round(true)
		defer r.Round(false)
	}
	f()
}

// Recoverer is implemented by devices that can go on after a MemoryError.
type Recoverer interface {
	// Recover forgets a MemoryError and reports whether there was one. Buffers allocated since then are not usable.
	Recover() bool
}

// Roomy is implemented by devices with memory of their own.
type Roomy interface {
	Room() uint64 // bytes that are not in use
}

// Trimmer is implemented by devices that keep memory for reuse by buffers of the same size.
type Trimmer interface {
	Trim() // returns memory that is not in use
}

// Closer is implemented by devices with memory of their own.
type Closer interface {
	// Close frees all memory of the device, which cannot be used any more.
	Close()
}

// Close frees a device's memory, if it has memory of its own. d may be nil.
func Close(d Device) {
	if c, ok := d.(Closer); ok {
		c.Close()
	}
}

// Queuer is implemented by devices whose operations return before they are done, so that what follows should be requested before
// a Number is waited for.
type Queuer interface{ Queues() }

// Noter is implemented by devices that compute some operations in a way that users should know.
type Noter interface {
	// Notes returns the notes made since the last call. Each is made once.
	Notes() []string
}

// Replay is a sequence of operations that is requested repeatedly, as for each decoded token. Only the contents of the following
// change from one time to the next, where operations are given these very slices.
type Replay struct {
	IDs, Pos []int32 // for Gather, Rotate and RotateStore
	Shift    []int32 // other positions
	Lens     []int   // for Scores.KeyLens
	First    int     // the first of Store and RotateStore, where they are given this number
	State    any     // the device's
}

// Replayer is implemented by devices that can run operations again without their being requested one by one.
type Replayer interface {
	// Replay runs the operations that f requests. It may run what f requested earlier instead of calling f, so f must request the
	// same each time. The buffers that f uses must not be freed before Forget.
	Replay(r *Replay, f func())
	// Forget frees what is kept for r.
	Forget(r *Replay)
	// NextBias is RelativeBias for the one query at r.First: y[h,j] = table[bucket[keys-1-max(r.First-j, 0)],h] with y [heads, keys]
	// and bucket [keys].
	NextBias(r *Replay, y, table Buffer, bucket []int32, heads, keys int)
}

// Fused is implemented by devices on which one operation takes less time than the several that it stands for.
type Fused interface {
	// RotateStore is Rotate of q in place and of k, and then Store of k, rotated, and v. It does not change k. With 0 heads there is no q.
	RotateStore(r Rope, q, k, v Rows, pos []int32, heads, headDim int, keys, values Heads, first, tokens int)
	// MultiplyGate computes y [rows, n] = act(x·gateᵀ)·(x·upᵀ) from x [rows, k]. It returns false, and does nothing, if that is not
	// faster than Multiply and Gate.
	MultiplyGate(act activation.Func, y, x, gate, up Buffer, rows, n, k int) bool
}

// Quantizer is implemented by devices whose Attend and Store take keys and values of Int8 and Int4. Other devices must not be given any.
type Quantizer interface{ Quantizes() }

// Sinker is implemented by devices whose Attend takes Scores.Sinks. Other devices must not be given any.
type Sinker interface{ Sinks() }

// Namer is implemented by devices other than the processor.
type Namer interface{ Name() string }

// Losses compare logits [rows, vocab] with targets. Rows with a negative target are ignored. The loss of each row is
// written to a buffer [rows].
type Losses interface {
	CrossEntropy(ce, logits Buffer, targets []int32, rows, vocab int)
	// CrossEntropyGradient also replaces logits by scale times the gradient.
	CrossEntropyGradient(ce, logits Buffer, targets []int32, scale float32, rows, vocab int)
	// Argmax writes the index of the largest logit of each row, the lowest index in case of a tie.
	Argmax(best []int32, logits Buffer, rows, vocab int)
	// Distill also replaces logits by scale times the gradient of the loss.
	Distill(ce, kl, logits Buffer, targets []int32, soft Soft, d Distillation, scale float32, rows, vocab int)
	// TopLogP writes the k largest log-probabilities of each row, at a temperature, and their IDs, largest first.
	TopLogP(ids []int32, logP []float32, logits Buffer, temperature float32, rows, vocab, k int)
	// Total writes scale·Σ terms to dst, a single number. Sums are in float64, in an order that depends only on counts.
	Total(dst Buffer, scale float32, terms ...Term)
	// Sum returns Σ terms, in float64.
	Sum(terms ...Term) Number
}

// Term is Weight times the sum of X's numbers, or of their squares.
type Term struct {
	X       Buffer
	Weight  float64
	Squares bool
}

// Number waits for a number that a device is computing, and returns it.
type Number func() float64

// AdamW holds the settings of one step; see optim.AdamW in internal/cpu.
type AdamW struct {
	LR, Beta1, Beta2, Eps float64
	Decay                 float64 // weight decay, applied as p *= 1 - LR·Decay
}

// Muon holds the settings of one step; see optim.Muon in internal/cpu.
type Muon struct {
	LR, Size, Momentum, Decay float64
}

// MuonStep is the part of a step for one matrix.
type MuonStep struct {
	Muon
	P, G, M    Buffer
	Rows, Cols int
}

// Adafactor holds the settings of one step; see optim.Adafactor in internal/cpu.
type Adafactor struct {
	LR, Rate, Threshold float64
	Decay               float64 // weight decay, applied as p *= 1 - rate·Decay
	Scale               bool    // rates are relative to the size of the parameter
}

// AdafactorStep is the part of a step for one parameter P: a matrix [Rows, Cols] with the averages Row and Col, or a vector with the
// average V. G, P and Copy are as in AdamWStep.
type AdafactorStep struct {
	Adafactor
	P, G        Buffer
	Row, Col, V Buffer
	Copy        Buffer
	Rows, Cols  int
}

// AdamWStep is the part of a step for one parameter P with the averages M and V. G may have the format of activations. If P has
// the format Rest, it is one part of the parameter, and Copy is the other. M and V are F32, BF16, or Signed8 and Unsigned8 with scales.
type AdamWStep struct {
	AdamW
	P, G, M, V       Buffer
	MScales, VScales Buffer // F32, one for each block; omitted if M and V are not codes
	Copy             Buffer // receives P in its own format; may be omitted
}

// Optimizers perform steps on parameters, with gradient G·scale[0]. If that is NaN, nothing is changed.
type Optimizers interface {
	// ClipScale writes to scale[0] the factor that torch.nn.utils.clip_grad_norm_ applies to gradients whose norm is √Σ terms: 1 if limit
	// is 0, and NaN if the norm is not finite. It returns the norm.
	ClipScale(scale Buffer, limit float64, terms ...Term) Number
	// AdamW performs step t, counted from 1, of several parameters.
	AdamW(steps []AdamWStep, scale Buffer, t int)
	// Encode stores the F32 numbers of x as codes, and Decode restores them. What was decoded is encoded as the same codes.
	Encode(codes, scales, x Buffer)
	Decode(x, codes, scales Buffer)
	// Adafactor performs step t, counted from 1, of several parameters.
	Adafactor(steps []AdafactorStep, scale Buffer, t int)
	// Muon performs the steps of several matrices. It overwrites their gradients.
	Muon(steps []MuonStep, scale Buffer)
}

// Systems solves systems of linear equations.
type Systems interface {
	// Solve returns the X [m, n] with X·(S + damp·I) = C, for a symmetric S [n, n] and C [m, n], computed in float64. It returns nil
	// if S + damp·I is not positive definite, or if the device failed or was stopped.
	Solve(s, c []float32, n int, damp float64) []float64
}
