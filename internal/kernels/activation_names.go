package kernels

// ActivationOf returns the activation of that name ("silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2"); any other
// is Identity.
func ActivationOf(name string) Activation {
	switch name {
	case "silu":
		return SiLU
	case "gelu":
		return GELU
	case "gelu_tanh":
		return GELUTanh
	case "quick_gelu":
		return QuickGELU
	case "relu":
		return ReLU
	case "relu2":
		return ReLU2
	}
	return Identity
}
