"""The obvious way to mean-pool a Llama's K/V heads: all of it in memory, by torch. convert.py MODEL OUT GROUPS"""
import glob
import json
import os
import sys

from safetensors.torch import load_file, save_file

model, out, groups = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs(out)
config = json.load(open(model + "/config.json"))
heads = config.get("num_key_value_heads") or config["num_attention_heads"]
tensors, shards = {}, {}
for file in sorted(glob.glob(model + "/*.safetensors")):
    shards[file] = load_file(file)
    tensors.update(shards[file])
for name, w in tensors.items():
    if name.endswith(("k_proj.weight", "v_proj.weight")):
        dim = w.shape[0] // heads
        pooled = w.float().view(groups, heads // groups, dim, -1).mean(1)
        tensors[name] = pooled.reshape(groups * dim, -1).to(w.dtype)
for file, names in shards.items():
    save_file({n: tensors[n] for n in names}, os.path.join(out, os.path.basename(file)), metadata={"format": "pt"})
json.dump({**config, "num_key_value_heads": groups}, open(out + "/config.json", "w"))
