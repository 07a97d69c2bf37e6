// Package activation names the activation functions of the transformers in use. Family files, forward passes, devices and kernels
// share these names.
package activation

// Func is an elementwise activation function.
type Func uint8

// The activation functions. Hugging Face calls GELUTanh gelu_new, gelu_pytorch_tanh or gelu_fast.
const (
	Identity  Func = iota
	ReLU           // max(x, 0)
	SiLU           // x·sigmoid(x)
	GELU           // x·Φ(x), Φ the normal distribution (Hendrycks & Gimpel, arXiv 1606.08415)
	GELUTanh       // x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
	QuickGELU      // x·sigmoid(1.702·x)
	ReLU2          // max(x, 0)² (So et al., arXiv 2109.08668)
)

var names = [...]string{
	Identity: "identity", ReLU: "relu", SiLU: "silu", GELU: "gelu", GELUTanh: "gelu_tanh", QuickGELU: "quick_gelu", ReLU2: "relu2",
}

// String returns the name that family files use.
func (f Func) String() string { return names[f] }
