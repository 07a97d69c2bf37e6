package checkpoints

import (
	"strconv"

	"github.com/nlpodyssey/gopickle/types"
)

// torchDTypes maps PyTorch's names to dtypes. Those that safetensors lacks or that are not supported (complex,
// quantised) are left out.
var torchDTypes = map[string]DType{
	"float64": F64, "float32": F32, "float16": F16, "bfloat16": BF16, "float8_e4m3fn": F8E4M3, "float8_e5m2": F8E5M2,
	"int64": I64, "int32": I32, "int16": I16, "int8": I8, "uint64": U64, "uint32": U32, "uint16": U16, "uint8": U8, "bool": Bool,
}

// torchStorages maps PyTorch's storage classes to the dtypes of their elements.
var torchStorages = map[string]DType{
	"DoubleStorage": F64, "FloatStorage": F32, "HalfStorage": F16, "BFloat16Storage": BF16, "LongStorage": I64, "IntStorage": I32,
	"ShortStorage": I16, "CharStorage": I8, "ByteStorage": U8, "BoolStorage": Bool, "UntypedStorage": 0,
}

// storageClass stands for a storage class; dtype 0 means untyped bytes.
type storageClass struct{ dtype DType }

// torchClass returns the stand-in for a class or function in a pickle. Only those that tensors are made of are allowed.
func torchClass(module, name string) (any, error) {
	if build, ok := torchFunctions[module+"."+name]; ok {
		return build, nil
	}
	if module == "torch" || module == "torch.storage" {
		if d, ok := torchStorages[name]; ok {
			return storageClass{d}, nil
		}
		if d, ok := torchDTypes[name]; ok {
			return d, nil
		}
	}
	return nil, torchErrorf("it holds %s, which is not part of a tensor, and code in checkpoints is never run: save only model.state_dict()",
		oneLine(strconv.Quote(module+"."+name)))
}

// torchFunction stands for a PyTorch function that a pickle calls.
type torchFunction func(args []any) (any, bool)

// Call implements the Callable interface of the pickle machine.
func (f torchFunction) Call(args ...any) (any, error) {
	if v, ok := f(args); ok {
		return v, nil
	}
	return nil, torchErrorf("its pickle makes a tensor from something other than storage, offset, shape and strides")
}

var torchFunctions = map[string]torchFunction{
	"torch._utils._rebuild_tensor":               rebuildTensor,
	"torch._utils._rebuild_tensor_v2":            rebuildTensor,
	"torch._utils._rebuild_tensor_v3":            rebuildTyped,
	"torch._utils._rebuild_parameter":            rebuildParameter,
	"torch._utils._rebuild_parameter_with_state": rebuildParameter,
	"torch.Size": func(args []any) (any, bool) { return first(args), len(args) == 1 },
}

func first(args []any) any {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

// rebuildTensor takes storage, offset, shape and strides, and ignores the other arguments (requires_grad, hooks).
func rebuildTensor(args []any) (any, bool) {
	if len(args) < 4 {
		return nil, false
	}
	view, ok1 := args[0].(torchView)
	offset, ok2 := args[1].(int)
	shape, ok3 := ints(args[2])
	stride, ok4 := ints(args[3])
	return &torchTensor{view, int64(offset), shape, stride}, ok1 && ok2 && ok3 && ok4
}

// rebuildTyped is rebuildTensor for untyped storages: the dtype is the seventh argument.
func rebuildTyped(args []any) (any, bool) {
	if len(args) < 7 {
		return nil, false
	}
	dtype, ok := args[6].(DType)
	v, made := rebuildTensor(args)
	if !ok || !made {
		return nil, false
	}
	t := v.(*torchTensor)
	if t.dtype == 0 {
		t.elements /= int64(dtype.Size())
	}
	t.dtype = dtype
	return t, true
}

func rebuildParameter(args []any) (any, bool) {
	t, ok := first(args).(*torchTensor)
	return t, ok
}

func ints(v any) ([]int, bool) {
	t, ok := v.(*types.Tuple)
	if !ok {
		return nil, false
	}
	values := make([]int, t.Len())
	for i := range values {
		if values[i], ok = t.Get(i).(int); !ok {
			return nil, false
		}
	}
	return values, true
}

// view parses a persistent ID: ("storage", class, key, device, elements).
func (f *torchFile) view(id any) (torchView, *types.Tuple, error) {
	t, ok := id.(*types.Tuple)
	if !ok || t.Len() < 5 || t.Get(0) != "storage" {
		return torchView{}, nil, torchErrorf("its pickle refers to something that is not a storage")
	}
	class, ok1 := t.Get(1).(storageClass)
	key, ok2 := t.Get(2).(string)
	elements, ok3 := t.Get(4).(int)
	if !ok1 || !ok2 || !ok3 || elements < 0 {
		return torchView{}, nil, torchErrorf("its pickle refers to a storage without a class, key or size")
	}
	root := f.roots[key]
	if root == nil {
		root = &torchStorage{key: key, width: class.dtype.Size()}
		f.roots[key] = root
	}
	return torchView{torchStorage: root, dtype: class.dtype, elements: int64(elements)}, t, nil
}
