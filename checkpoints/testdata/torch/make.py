"""Writes what TestTorchReference reads, into the folder of this file: small state dicts as torch.save writes them, and the
same tensors as safetensors. Needs torch and safetensors:

    python make.py
"""

import collections
import os

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
          torch.uint8, torch.bool]
NEW_DTYPES = ["float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"]


def write(name, save, tensors):
    """save: file name to what torch.save gets and its options; tensors: the same as a plain dict."""
    for file, (value, options) in save.items():
        torch.save(value, os.path.join(HERE, file), **options)
    twin = {key: t.detach().clone().contiguous() for key, t in tensors.items()}
    save_file(twin, os.path.join(HERE, name + ".safetensors"))


ZIP = {}
LEGACY = {"_use_new_zipfile_serialization": False}


def both(name, value, tensors):
    write(name, {name + ".bin": (value, ZIP), name + ".legacy.bin": (value, LEGACY)}, tensors)


def main():
    torch.manual_seed(1)
    numbers = torch.arange(24).remainder(7)

    dtypes = {str(d).removeprefix("torch."): numbers.to(d) for d in DTYPES}
    both("dtypes", collections.OrderedDict(dtypes), dtypes)

    new = {d: (torch.arange(8).to(torch.float32) if d.startswith("float8") else torch.arange(8)).to(getattr(torch, d))
           for d in NEW_DTYPES if hasattr(torch, d)}
    write("newdtypes", {"newdtypes.bin": (new, ZIP)}, new)

    base = torch.randn(6, 8)
    views = {
        "all": base, "transposed": base.t(), "rows": base[2:4], "columns": base[:, 1:4], "every_second": base[::2, ::3],
        "permuted": base.view(2, 3, 8).permute(2, 0, 1), "expanded": base[0:1, :].expand(3, 8), "scalar": base[1, 1],
        "empty": base[:0], "vector": base[:, 2], "unsqueezed": base.t().unsqueeze(1),
    }
    both("views", dict(views), views)

    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 5, bias=False))
    model[2].weight = model[0].weight  # tied
    state = model.state_dict()  # an OrderedDict with _metadata
    both("tied", state, state)
    both("parameters", dict(model.named_parameters(remove_duplicate=False)), state)
    both("wrapped", {"epoch": 3, "state_dict": state, "lr": 0.1, "best": None, "shape": base.shape}, state)

    for protocol in (4, 5):
        name = f"protocol{protocol}"
        write(name, {name + ".bin": (state, {"pickle_protocol": protocol}),
                     name + ".legacy.bin": (state, {"pickle_protocol": protocol, **LEGACY})}, state)


if __name__ == "__main__":
    main()
