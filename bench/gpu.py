"""What bench/gpu.sh needs besides PyTorch's side (gpu_torch.py): models and data, turns of ours, and tables. The standard library suffices.

    gpu.py make MODEL WORK                      a checkpoint of random bf16 weights, and tokens
    gpu.py time MODEL WORK SIDE BATCH FILE      a turn of ours, appended to FILE
    gpu.py best FILE SIDE                       the batch of the most tokens per second
    gpu.py table MODEL FILE
    gpu.py losses FOLDER FAMILY                 the losses of ours, beside those that gpu_torch.py wrote
    gpu.py losses-table FOLDER
    gpu.py cards                                how many GPUs there are
    gpu.py scale MODEL WORK CARDS FILE          a turn on several GPUs
    gpu.py scale-one MODEL WORK CARDS FILE      the losses of one GPU with the windows of several
    gpu.py scale-plan MODEL WORK CARDS FILE [SHARDING]    a turn as gqa-train plan says
    gpu.py scale-table MODEL FILE
"""
import array
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from statistics import median

PEAK = 989.5e12  # FLOP/s of an H100 or H200 in dense bf16
WARM = 4  # steps before those that are timed
MODELS = {
    "llama-1b": dict(family="llama", dim=2048, layers=16, heads=32, kv=8, ffn=8192, vocab=32000, length=2048),
    "neox-1b": dict(family="gpt_neox", dim=2048, layers=24, heads=16, kv=16, ffn=8192, vocab=50304, length=2048),
    "llama-7b": dict(family="llama", dim=4096, layers=32, heads=32, kv=8, ffn=11008, vocab=32000, length=2048, steps=0.5, recompute=True),
    "llama-13b": dict(family="llama", dim=5120, layers=40, heads=40, kv=8, ffn=13824, vocab=32000, length=2048, steps=0.5),
    "llama-34b": dict(family="llama", dim=8192, layers=48, heads=64, kv=8, ffn=22016, vocab=32000, length=2048, steps=0.5),
    "llama-98m": dict(family="llama", dim=768, layers=12, heads=12, kv=12, ffn=2048, vocab=16384, length=1024, steps=4, tied=True),
    "gopher-4m": dict(family="llama", dim=256, layers=4, heads=8, kv=8, ffn=704, vocab=2048, length=512, steps=4, tied=True),
}
SAMPLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "checkpoints/sample/gopher-4m")
FAMILIES = ["llama", "gpt_neox", "qwen2", "gpt2", "t5"]
RATE, LOSSES = 3e-4, 50  # of the comparison of losses: learning rate, steps
DEVICE = os.environ.get("DEVICE", "cuda")


def timed_steps(s):
    return max(4, int(float(os.environ.get("STEPS") or 12) * s.get("steps", 1)))


def layer_weights(s):
    """Weights of a layer's matrices, and the names and shapes of all its tensors."""
    dim, ffn, kv = s["dim"], s["ffn"], s["dim"] // s["heads"] * s["kv"]
    if s["family"] == "gpt_neox":
        linear = {"attention.query_key_value": (3 * dim, dim), "attention.dense": (dim, dim),
                  "mlp.dense_h_to_4h": (ffn, dim), "mlp.dense_4h_to_h": (dim, ffn)}
        tensors = {name + ".weight": shape for name, shape in linear.items()}
        tensors |= {name + ".bias": shape[:1] for name, shape in linear.items()}
        for norm in "input_layernorm", "post_attention_layernorm":
            tensors |= {norm + ".weight": (dim,), norm + ".bias": (dim,)}
    else:
        tensors = {"self_attn.q_proj.weight": (dim, dim), "self_attn.k_proj.weight": (kv, dim), "self_attn.v_proj.weight": (kv, dim),
                   "self_attn.o_proj.weight": (dim, dim), "mlp.gate_proj.weight": (ffn, dim), "mlp.up_proj.weight": (ffn, dim),
                   "mlp.down_proj.weight": (dim, ffn), "input_layernorm.weight": (dim,), "post_attention_layernorm.weight": (dim,)}
    return sum(a[0] * a[1] for a in tensors.values() if len(a) == 2), tensors


def flops(s):
    """Operations per token: six per weight of a product (not of the lookup in the embeddings), and 6·T·d per layer for causal attention."""
    return 6 * (s["layers"] * layer_weights(s)[0] + s["dim"] * s["vocab"]) + s["layers"] * 6 * s["length"] * s["dim"]


def parameters(s):
    return sum(product(shape) for _, shape in tensors(s))


def product(shape):
    return shape[0] * (shape[1] if len(shape) == 2 else 1)


def tensors(s):
    neox, table = s["family"] == "gpt_neox", (s["vocab"], s["dim"])
    base = "gpt_neox." if neox else "model."
    yield base + ("embed_in" if neox else "embed_tokens") + ".weight", table
    for i in range(s["layers"]):
        for name, shape in layer_weights(s)[1].items():
            yield f"{base}layers.{i}.{name}", shape
    yield base + ("final_layer_norm" if neox else "norm") + ".weight", (s["dim"],)
    if neox:
        yield base + "final_layer_norm.bias", (s["dim"],)
    if not s.get("tied"):
        yield ("embed_out" if neox else "lm_head") + ".weight", table


def config(s):
    """config.json. The keys are also the arguments of transformers' configurations."""
    common = dict(hidden_size=s["dim"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"], intermediate_size=s["ffn"],
                  vocab_size=s["vocab"], max_position_embeddings=s["length"], tie_word_embeddings=s.get("tied", False))
    if s["family"] == "gpt_neox":
        return dict(common, rotary_pct=0.25, layer_norm_eps=1e-5, use_parallel_residual=True, hidden_act="gelu", hidden_dropout=0.0,
                    attention_dropout=0.0, attention_bias=True)
    return dict(common, num_key_value_heads=s["kv"], rms_norm_eps=1e-5, hidden_act="silu")


def model_dir(name, work):
    return SAMPLE if name == "gopher-4m" else f"{work}/{name}"


def write_safetensors(path, entries, chunks):
    """entries are names, dtypes, shapes and sizes in bytes; chunks are their bytes, in that order."""
    header, at = {}, 0
    for name, dtype, shape, size in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for chunk in chunks:
            f.write(chunk)


def fill(all):
    """Bytes of bf16: norms are 1, biases 0, matrices of either sign between 2⁻⁷ and 2⁻⁵, from one block over and over."""
    size = 2 * 33554393  # of a prime number of weights, so that no two matrices are equal
    bits = int.from_bytes(random.Random(1).randbytes(size), "little")
    bits = bits & int.from_bytes(b"\xff\x80" * (size // 2), "little") | int.from_bytes(b"\x00\x3c" * (size // 2), "little")
    block, at = memoryview(bits.to_bytes(size, "little")), 0
    for name, shape in all:
        left = 2 * product(shape)
        if len(shape) == 1:
            yield (b"\x00\x00" if name.endswith("bias") else b"\x80\x3f") * (left // 2)
            continue
        while left:
            part = block[at:at + left]
            yield part
            left, at = left - len(part), (at + len(part)) % size


def make(name, work):
    s, path = MODELS[name], model_dir(name, work)
    os.makedirs(work, exist_ok=True)
    if not os.path.exists(f"{work}/{name}.safetensors"):
        tokens = random.Random(2)
        ids = array.array("i", [x % s["vocab"] for x in array.array("H", tokens.randbytes(8 << 20))])
        shape = [len(ids) // s["length"], s["length"]]
        write_safetensors(f"{work}/{name}.safetensors", [("input_ids", "I32", shape, 4 * len(ids))], [ids.tobytes()])
    if os.path.exists(path + "/config.json"):
        return
    all = list(tensors(s))
    need, free = 2 * parameters(s), shutil.disk_usage(work).free
    if free < need * 1.1:
        sys.exit(f"{path} takes {need / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free there: set WORK or TMPDIR")
    os.makedirs(path, exist_ok=True)
    write_safetensors(path + "/model.safetensors", [(n, "BF16", list(shape), 2 * product(shape)) for n, shape in all], fill(all))
    names = {"llama": "LlamaForCausalLM", "gpt_neox": "GPTNeoXForCausalLM"}
    with open(path + "/config.json", "w") as f:
        json.dump(dict(config(s), architectures=[names[s["family"]]], model_type=s["family"], dtype="bfloat16"), f, indent=2)


def visible():
    """The GPUs that may be used, by number; none if nvidia-smi does not say."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if chosen:
        return chosen.split(",")
    try:
        return [str(i) for i, _ in enumerate(subprocess.check_output(["nvidia-smi", "-L"], text=True).splitlines())]
    except (OSError, subprocess.CalledProcessError):
        return []


def asked(what, cards):
    """A figure of the first so many GPUs, in GiB; none if nvidia-smi does not say."""
    try:
        text = subprocess.check_output(["nvidia-smi", "-i", ",".join((visible() or ["0"])[:cards]), f"--query-gpu={what}",
                                        "--format=csv,noheader,nounits"], text=True)
        return [float(line) / 1024 for line in text.split()]
    except (OSError, ValueError, subprocess.CalledProcessError):
        return []


def used(cards=1):
    """GiB in use on the GPU that uses most, None if nvidia-smi does not say."""
    return max(asked("memory.used", cards), default=None)


def append(path, row):
    with open(path, "a") as f:
        f.write(json.dumps(row) + "\n")
    print(row, flush=True)


def metrics(out):
    """The whole lines of a run's metrics."""
    try:
        with open(out + "/metrics.jsonl") as f:
            text = f.read()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]


def run(out, model, data, steps, *more):
    """Command of a run in bf16."""
    shutil.rmtree(out, ignore_errors=True)
    return [os.environ["GQA_TRAIN"], "run", "--model", model, "--data", data, "-o", out, "--steps", str(steps), "--device", DEVICE,
            "--set", "precision=bf16", "--log-every", "1000", "--save-every", "0", "--valid-every", "0", *more]


def time_ours(name, work, side, batch, file, cards=1, accumulate=1, more=(), **also):
    """The run is killed after the last step that counts, as its checkpoint would be of many GB. Its memory is read just before: it keeps
    what it has once taken."""
    s, out, before = MODELS[name], f"{work}/run", used(cards)
    total, windows = WARM + timed_steps(s), batch * accumulate
    more = ["--batch", str(batch), "--seq-len", str(s["length"]), "--lr", "1e-4", *more]
    more += ["--set", f"deterministic={'true' if side == 'ours-deterministic' else 'false'}"]
    more += ["--set", "recompute=layer"] if s.get("recompute") else []
    more += ["--set", f"accumulate={accumulate}"] if accumulate > 1 else []
    more += ["--gpus", str(cards)] if cards > 1 else []
    command = run(out, model_dir(name, work), f"{work}/{name}.safetensors", total + 10000, *more)
    print(*command, flush=True)
    process, seen, now = subprocess.Popen(command, stdin=subprocess.DEVNULL), 0, {}
    try:
        while seen < total:
            if process.poll() is not None:
                sys.exit(1)  # it has said why
            time.sleep(0.002 if seen >= WARM - 1 else 0.05)
            seen = len(metrics(out))
            now.setdefault(seen, time.monotonic())
        after = used(cards)
    finally:
        process.kill()
        process.wait()
    lines = metrics(out)[WARM:total]
    first = min(n for n in now if n >= WARM)
    row = dict(side=side, batch=batch, ms=[1000 * windows * s["length"] / line["tokens_per_s"] for line in lines], used=rise(before, after),
               wall_ms=1000 * (now[seen] - now[first]) / max(1, seen - first), losses=[line["loss"] for line in lines],
               cards=cards, windows=windows, **also)
    shutil.rmtree(out, ignore_errors=True)
    append(file, row)
    end = time.monotonic() + 20  # the processes that it had started end soon after it
    while before is not None and used(cards) > before + 1 and time.monotonic() < end:
        time.sleep(0.2)


def rise(before, after):
    return None if before is None or after is None else after - before


def read(file):
    with open(file) as f:
        return [json.loads(line) for line in f]


def best(file, side):
    """Prints the batch, and all of them on stderr."""
    rows = [(r["batch"] / median(r["ms"]), r["batch"]) for r in read(file) if r["side"] == side]
    if rows:
        print(f"{os.path.basename(file)}, {side}: relative speed", *(f"{b}: {v / max(rows)[0]:.3f}" for v, b in rows), file=sys.stderr)
        print(max(rows)[1])


def describe(name):
    s = MODELS[name]
    label = {"llama": "Llama", "gpt_neox": "GPT-NeoX"}[s["family"]]
    if name == "gopher-4m":
        label = "gopher-4m, a Llama"
    heads = f"{s['heads']} heads" + (f", {s['kv']} KV heads" if s["kv"] != s["heads"] else "")
    return (f"{label} of {parameters(s) / 1e6:,.0f} million parameters (dim {s['dim']}, {s['layers']} layers, {heads}, ffn {s['ffn']}, "
            f"vocabulary {s['vocab']}), windows of {s['length']} tokens" + (", recomputing each layer" if s.get("recompute") else ""))


def table(name, file):
    s, sides = MODELS[name], {}
    for row in read(file):
        sides.setdefault(row["side"], []).append(row)
    own = "PyTorch, a model of its own compiled " + ("per layer, with checkpointing" if s.get("recompute") else "whole")
    labels = {"ours": "ours", "ours-deterministic": "ours, deterministic", "torch": own, "transformers": "transformers, compiled"}
    labels["ours"] += ", `deterministic: false`"
    speed = {side: rows[0]["batch"] * s["length"] / median(sum((r["ms"] for r in rows), [])) * 1000 for side, rows in sides.items()}
    print(f"{describe(name)}:\n")
    print("| | batch | ms per step | tokens/s | MFU | GPU memory, GiB | of this PyTorch's pool | ours is |\n|---|---|---|---|---|---|---|---|")
    for side, label in labels.items():
        if side not in sides:
            continue
        rows, v = sides[side], speed[side]
        pool = max((r["pool"] for r in rows if r.get("pool")), default=None)
        memory = max((r["used"] for r in rows if r["used"] is not None), default=None)
        ratio = f"{speed['ours'] / v:.2f} × as fast" if side != "ours" and "ours" in speed else "–"
        print(f"| {label} | {rows[0]['batch']} | {rows[0]['batch'] * s['length'] / v * 1000:.1f} | {v:,.0f} | {v * flops(s) / PEAK:.1%} | "
              f"{number(memory)} | {number(pool)} | {ratio} |")
        for r in rows:
            print(f"  {name} {side}: median {median(r['ms']):.2f} ms, {min(r['ms']):.2f} to {max(r['ms']):.2f}"
                  + (f", by the clock {r['wall_ms']:.2f}" if "wall_ms" in r else "") + (f", attention {r['attention']}" if "attention" in r else "")
                  + f"; losses {r['losses'][0]:.3f} to {r['losses'][-1]:.3f}", file=sys.stderr)
    print(flush=True)


def number(x):
    return "–" if x is None else f"{x:.1f}"


EACH = 4  # windows for each GPU


def scale(name, work, cards, file):
    time_ours(name, work, "ours", EACH * cards, file, cards)


def scale_one(name, work, cards, file):
    time_ours(name, work, "one", EACH, file, accumulate=cards, of=cards)


def scale_plan(name, work, cards, file, sharding=None):
    s, settings = MODELS[name], ["--set", f"sharding={sharding}"] if sharding else []
    memory = asked("memory.total", 1)
    more = ["--memory", f"{int(1024 * memory[0])}MiB"] if memory else []
    text = subprocess.check_output([os.environ["GQA_TRAIN"], "plan", model_dir(name, work), "--gpus", str(cards), "--batch", str(EACH * cards),
                                    "--seq-len", str(s["length"]), "--json", *settings, *more], text=True)
    plan = json.loads(text)
    print(text, flush=True)
    if not plan["fits"]:
        sys.exit(f"gqa-train plan: {name} does not fit on {cards} of these GPUs")
    settings = ["--set", f"sharding={plan['sharding']}", "--set", f"recompute={plan['recompute']}"]
    time_ours(name, work, "ours", plan["micro_batch"] * cards, file, cards, plan["accumulate"], settings,
              plan=sum(plan["needed"].values()) / 2**30, how=f"sharding {plan['sharding']}, recompute {plan['recompute']}")


def scale_table(name, file):
    s, rows = MODELS[name], read(file)
    turns = {}
    for r in rows:
        if r["side"] == "ours":
            turns.setdefault(r["cards"], []).append(r)
    print(f"{describe(name)}:\n")
    print("| GPUs | windows | ms per step | tokens/s | times one GPU's | MFU | a loss differs from one GPU's by | memory of a GPU, GiB | of `gqa-train plan` |")
    print("|---|---|---|---|---|---|---|---|---|")
    speeds = {cards: mine[0]["windows"] * s["length"] / median(sum((r["ms"] for r in mine), [])) * 1000 for cards, mine in turns.items()}
    for cards, mine in sorted(turns.items()):
        v, first = speeds[cards], mine[0]
        one = [r["losses"] for r in rows if r["side"] == "one" and r["of"] == cards]
        apart = max((abs(a - b) for a, b in zip(first["losses"], one[0])), default=None) if one else None
        memory = max((r["used"] for r in mine if r["used"] is not None), default=None)
        times = f"{v / speeds[1]:.2f}" if 1 in speeds else "–"
        plan = f"{first['plan']:.1f} ({memory / first['plan'] - 1:+.1%})" if "plan" in first and memory else "–"
        print(f"| {cards} | {first['windows']} | {first['windows'] * s['length'] / v * 1000:.1f} | {v:,.0f} | {times} | {v * flops(s) / PEAK / cards:.1%} | "
              f"{'–' if apart is None else f'{apart:.4f}'} | {number(memory)} | {plan} |")
        for r in mine:
            print(f"  {name} on {cards}: median {median(r['ms']):.2f} ms, {min(r['ms']):.2f} to {max(r['ms']):.2f}, by the clock {r['wall_ms']:.2f}"
                  + (f", {r['how']}" if "how" in r else "") + f"; losses {r['losses'][0]:.4f} to {r['losses'][-1]:.4f}", file=sys.stderr)
    print(flush=True)


def losses(folder, family):
    out = f"{folder}/{family}-run"
    with open(f"{folder}/{family}.json") as f:
        shape = json.load(f)["shape"]
    subprocess.run(run(out, f"{folder}/{family}", f"{folder}/{family}.safetensors", LOSSES, "--batch", str(shape[0]), "--seq-len", str(shape[1]),
                       "--lr", str(RATE), "--schedule", "constant", "--warmup", "0", "--set", "optimizer.decay=all",
                       "--set", "deterministic=false"), check=True)
    with open(f"{folder}/{family}-ours.json", "w") as f:
        json.dump([line["loss"] for line in metrics(out)], f)


def losses_table(folder):
    print(f"Largest difference of a loss within {LOSSES} steps:\n")
    print("| family | loss in f32 | ours − PyTorch bf16 | ours − PyTorch autocast | noise: bf16 − f32 | noise: autocast − f32 |\n|---|---|---|---|---|---|")
    for family in FAMILIES:
        try:
            with open(f"{folder}/{family}.json") as f:
                all = json.load(f)["losses"]
            with open(f"{folder}/{family}-ours.json") as f:
                all["ours"] = json.load(f)
        except FileNotFoundError:
            continue
        pairs = ("ours", "bf16"), ("ours", "autocast"), ("bf16", "f32"), ("autocast", "f32")
        apart = (max(abs(x - y) for x, y in zip(all[a], all[b], strict=True)) for a, b in pairs)
        print(f"| {family} | {all['f32'][0]:.3f} to {all['f32'][-1]:.3f} | " + " | ".join(f"{x:.4f}" for x in apart) + " |")
    print(flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("out of time"))
    command, *args = sys.argv[1:]
    scales = {"scale": scale, "scale-one": scale_one, "scale-plan": scale_plan}
    if command == "time":
        time_ours(args[0], args[1], args[2], int(args[3]), args[4])
    elif command in scales:
        scales[command](args[0], args[1], int(args[2]), *args[3:])
    elif command == "cards":
        print(len(visible()))
    else:
        {"make": make, "best": best, "table": table, "losses": losses, "losses-table": losses_table, "scale-table": scale_table}[command](*args)
