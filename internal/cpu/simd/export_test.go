package simd

// Choose returns the name of the path that GQA_KERNELS chooses if it has this value.
func Choose(name string) string { return choose(name).name }

// MicroRef is the definition of GemmKernels.Micro.
var MicroRef = microRef

// Infinity returns the bits of +Inf.
func (h Half) Infinity() uint16 { return h.infinity() }

// Magnitude returns the value of bits without a sign, taking infinity for the number that would come next.
func (h Half) Magnitude(bits uint16) float64 { return h.magnitude(bits) }
