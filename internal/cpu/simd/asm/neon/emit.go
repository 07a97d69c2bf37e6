package main

import (
	"bytes"
	"fmt"
	"strings"
)

// gp is a general register, vec a vector register of 4 float32.
type (
	gp  int
	vec int
)

func (r gp) String() string { return fmt.Sprintf("R%d", int(r)) }

// f is the register as a scalar operand of Go's assembler; s4, h8 and b16 are it as lanes.
func (v vec) f() string   { return fmt.Sprintf("F%d", int(v)) }
func (v vec) s4() string  { return fmt.Sprintf("V%d.S4", int(v)) }
func (v vec) h8() string  { return fmt.Sprintf("V%d.H8", int(v)) }
func (v vec) b16() string { return fmt.Sprintf("V%d.B16", int(v)) }

// asm is the assembly under way, and the Go declarations that go with it.
type asm struct {
	text, stubs bytes.Buffer
	// Of the current kernel: the places of its parameters, and the registers that are taken.
	offsets map[string]int
	gps     gp
	vecs    vec
}

func (a *asm) op(format string, args ...any) { fmt.Fprintf(&a.text, "\t"+format+"\n", args...) }

func (a *asm) label(name string) { fmt.Fprintf(&a.text, "%s:\n", name) }

// kernel begins a function. Parameters are written as in Go, each with its type.
func (a *asm) kernel(name, parameters, result, doc string) {
	name += "NEON"
	a.offsets, a.gps, a.vecs = map[string]int{}, 0, 0
	size := a.layOut(parameters)
	if result != "" {
		size = (size + 7) &^ 7
		a.offsets["ret"] = size
		size += 4
		result = " " + result
	}
	fmt.Fprintf(&a.text, "\n// func %s(%s)%s\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", name, parameters, result, name, size)
	fmt.Fprintf(&a.stubs, "\n// %s is %s.\n//\n//go:noescape\nfunc %s(%s)%s\n", name, doc, name, parameters, result)
}

// layOut assigns places to the parameters, and returns the bytes that they take.
func (a *asm) layOut(parameters string) (size int) {
	for parameter := range strings.SplitSeq(parameters, ", ") {
		name, kind, _ := strings.Cut(parameter, " ")
		switch {
		case strings.HasPrefix(kind, "[]"):
			size = (size + 7) &^ 7
			a.offsets[name+"_base"], a.offsets[name+"_len"] = size, size+8
			size += 24
		case kind == "float32":
			size = (size + 3) &^ 3
			a.offsets[name] = size
			size += 4
		case kind == "bool":
			a.offsets[name] = size
			size++
		default:
			size = (size + 7) &^ 7
			a.offsets[name] = size
			size += 8
		}
	}
	return size
}

func (a *asm) address(parameter string) string {
	at, ok := a.offsets[parameter]
	if !ok {
		panic("no parameter " + parameter)
	}
	return fmt.Sprintf("%s+%d(FP)", parameter, at)
}

// gp gives a general register away: not R18, which systems keep, nor those from R27 on, which Go does.
func (a *asm) gp() gp {
	if a.gps == 18 {
		a.gps++
	}
	if a.gps > 26 {
		panic("no general register left")
	}
	a.gps++
	return a.gps - 1
}

func (a *asm) vec() vec {
	if a.vecs > 31 {
		panic("no vector register left")
	}
	a.vecs++
	return a.vecs - 1
}

func (a *asm) group(n int) []vec {
	g := make([]vec, n)
	for i := range g {
		g[i] = a.vec()
	}
	return g
}

// arg loads a parameter of 8 bytes.
func (a *asm) arg(parameter string) gp {
	r := a.gp()
	a.reload(parameter, r)
	return r
}

func (a *asm) reload(parameter string, r gp) { a.op("MOVD %s, %v", a.address(parameter), r) }

// stride loads a stride of elements so large in bytes.
func (a *asm) stride(parameter string, size int) gp {
	r := a.arg(parameter)
	a.op("LSL $%d, %v, %v", size/2, r, r)
	return r
}

func (a *asm) length(slice string) gp { return a.arg(slice + "_len") }

func (a *asm) base(slice string) gp { return a.arg(slice + "_base") }

// spread loads a float32 parameter into all lanes.
func (a *asm) spread(parameter string) vec {
	v := a.vec()
	a.op("FMOVS %s, %s", a.address(parameter), v.f())
	a.op("VDUP V%d.S[0], %s", v, v.s4())
	return v
}

func (a *asm) zero(v vec) { a.op("VEOR %s, %s, %s", v.b16(), v.b16(), v.b16()) }

func (a *asm) move(from, to vec) { a.op("VMOV %s, %s", from.b16(), to.b16()) }

func (a *asm) ret() { a.op("RET") }

// giveBack returns the lowest lane of v.
func (a *asm) giveBack(v vec) {
	a.op("FMOVS %s, %s", v.f(), a.address("ret"))
	a.ret()
}

// moves are the instructions that load and store so many float32: Go's names for a part of a register.
var moves = map[int]string{1: "FMOVS", 2: "FMOVD", 4: "FMOVQ"}

// load loads n elements, 1, 2 or 4, into the lowest lanes; the others become zero.
func (a *asm) load(n int, r gp, disp int, v vec) { a.op("%s %d(%v), %s", moves[n], disp, r, v.f()) }

func (a *asm) store(n int, v vec, r gp, disp int) { a.op("%s %s, %d(%v)", moves[n], v.f(), disp, r) }

// loadOn is load, and moves on to what follows.
func (a *asm) loadOn(n int, r gp, v vec) { a.op("%s.P %d(%v), %s", moves[n], 4*n, r, v.f()) }

// loop runs body while n, of which each run takes so many, has enough left; the remainder stays in n.
func (a *asm) loop(name string, n gp, step int, body func()) {
	a.op("SUBS $%d, %v, %v", step, n, n)
	a.op("BLT %s_end", name)
	a.label(name)
	body()
	a.op("SUBS $%d, %v, %v", step, n, n)
	a.op("BGE %s", name)
	a.label(name + "_end")
	a.op("ADD $%d, %v, %v", step, n, n)
}

// part is some elements of every slice in work: n of them, 4 or 1, from so many bytes behind the pointers on.
type part struct{ n, disp int }

// each runs body over n elements, unroll registers at a time while it can, then one, then one element; u is the number of
// the register. The pointers move on.
func (a *asm) each(n gp, unroll int, body func(p part, u int), pointers ...gp) {
	group := func(name string, count, width int) {
		a.loop(name, n, count*width, func() {
			for u := range count {
				body(part{width, 4 * width * u}, u)
			}
			for _, r := range pointers {
				a.op("ADD $%d, %v, %v", 4*count*width, r, r)
			}
		})
	}
	if unroll > 1 {
		group("unrolled", unroll, 4)
	}
	group("vector", 1, 4)
	group("single", 1, 1)
}

func (a *asm) loadPart(p part, r gp, v vec) { a.load(p.n, r, p.disp, v) }

func (a *asm) storePart(p part, v vec, r gp) { a.store(p.n, v, r, p.disp) }
