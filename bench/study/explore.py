"""Tries ways of up-training gopher-4m on a GPU, a step as one CUDA graph, before gqa-train runs them (bench/results/2026-11-22-recipes.md).

    python3 bench/study/explore.py STUDY bench/study/explore.jsonl        # needs torch, transformers and safetensors

STUDY is the folder of a study that has its starts. A line of the other file is one run, such as docs/study.md's recipe long:
{"start": "refined-g2", "tokens": 8192000, "opt": "muon", "lr": 8e-4, "B": 4, "loss": "mixed", "w": 0.35, "betas": [0.95, 0.98],
 "final": 0.2, "ema": 0.999}, with start "mha" for the model itself; run() has the other keys. The losses on 100 windows of 512 tokens are
printed behind it, that of the averaged weights last where there are any: "losses" of a line is what was seen.
"""
import glob
import gzip
import json
import math
import sys

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file

torch.backends.cuda.matmul.allow_tf32 = True
DEVICE, T = "cuda", 512
STUDY = sys.argv[1]
MODEL = STUDY + "/gopher-4m"
CONFIG = json.load(open(MODEL + "/config.json"))
EPS, THETA = CONFIG["rms_norm_eps"], CONFIG["rope_parameters"]["rope_theta"]
HEADS, DIM, LAYERS = CONFIG["num_attention_heads"], CONFIG["head_dim"], CONFIG["num_hidden_layers"]


def tokens(name):
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    text = gzip.open(f"{STUDY}/corpus/{name}.txt.gz", "rt", encoding="utf-8").read()
    ids = []
    for e in tokenizer._tokenizer.encode_batch([d for d in text.split("<|endoftext|>") if d]):
        ids += e.ids + [0]
    return torch.tensor(ids, device=DEVICE)


def load(path):
    all = {}
    for file in glob.glob(path + "/model*.safetensors"):
        all.update(load_file(file))
    return {k: v.float().to(DEVICE) for k, v in all.items()}


angles = torch.arange(T, device=DEVICE).float()[:, None] * THETA ** (-torch.arange(0, DIM, 2, device=DEVICE).float() / DIM)
COS, SIN = torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)


def rotate(x):
    return x * COS + torch.cat([-x[..., DIM // 2:], x[..., :DIM // 2]], -1) * SIN


def norm(x, w):
    return F.rms_norm(x, (x.shape[-1],), w, EPS)


def logits(P, x):
    B = x.shape[0]
    h = F.embedding(x, P["model.embed_tokens.weight"])
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        a = norm(h, P[p + "input_layernorm.weight"])
        q, k, v = [F.linear(a, P[p + f"self_attn.{n}_proj.weight"]).view(B, T, -1, DIM).transpose(1, 2) for n in "qkv"]
        q, k = rotate(q), rotate(k)
        k, v = [t.repeat_interleave(HEADS // t.shape[1], 1) for t in (k, v)]
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, -1)
        h = h + F.linear(o, P[p + "self_attn.o_proj.weight"])
        a = norm(h, P[p + "post_attention_layernorm.weight"])
        gate, up = [F.linear(a, P[p + f"mlp.{n}_proj.weight"]) for n in ("gate", "up")]
        h = h + F.linear(F.silu(gate) * up, P[p + "mlp.down_proj.weight"])
    return F.linear(norm(h, P["model.norm.weight"]), P["model.embed_tokens.weight"])


train, valid, teacher = tokens("train"), tokens("val"), load(MODEL)


@torch.no_grad()
def evaluate(P):
    total = 0.0
    for i in range(0, 100, 20):
        x = torch.stack([valid[j * T:(j + 1) * T] for j in range(i, i + 20)])
        total += F.cross_entropy(logits(P, x)[:, :-1].flatten(0, 1), x[:, 1:].flatten()).item() * 20
    return total / 100


def newton_schulz(X):
    """X [n, a, b] with singular values near one, a <= b."""
    X = X / (X.norm(dim=(1, 2), keepdim=True) + 1e-12)
    for _ in range(5):
        A = X @ X.mT
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X


def run(c):
    start = MODEL if c["start"] == "mha" else f"{STUDY}/models/gopher-4m-{c['start']}-s0"
    P = {k: v.requires_grad_() for k, v in load(start).items()}
    B, lr, (b1, b2) = c.get("B", 16), c["lr"], c.get("betas", (0.9, 0.95))
    steps, decay, attention = int(c["tokens"] / (B * T)), c.get("wd", 0.1), c.get("att", 1)
    final, kind = c.get("final", 0.05), c.get("sched", "cos")
    tau = c.get("temp", 1.0)
    ce = c.get("w", {"ce": 1.0, "kl": 0.0, "mixed": 0.5}[c.get("loss", "kl")])  # the data's share of the loss
    windows = train[:(train.numel() - 1) // T * T].view(-1, T)
    generator = torch.Generator().manual_seed(c.get("seed", 0))
    order = torch.cat([torch.randperm(len(windows), generator=generator) for _ in range(steps * B // len(windows) + 1)]).to(DEVICE)
    warm = max(1, int(c.get("warm", 0.05) * steps))

    def rate(s):
        done = max(0, s - 1 - warm) / max(1, steps - warm)
        down = 0.5 * (1 + math.cos(math.pi * done)) if kind == "cos" else 1 - done
        return min(1, s / warm) * (final + (1 - final) * down)

    stacks = {}  # Muon's matrices by shape, the shorter side first
    if c.get("opt") == "muon":
        for n, p in P.items():
            if p.ndim == 2 and "layers." in n:
                stacks.setdefault((min(p.shape), max(p.shape)), []).append(n)
    hidden = {n for names in stacks.values() for n in names}
    rest = [n for n in P if n not in hidden]
    M, V = {n: torch.zeros_like(p) for n, p in P.items()}, {n: torch.zeros_like(P[n]) for n in rest}
    mean = {n: p.detach().clone() for n, p in P.items()} if c.get("ema") else None
    x = torch.zeros(B, T, dtype=torch.long, device=DEVICE)
    f, c1, c2 = (torch.zeros((), device=DEVICE) for _ in range(3))

    def step():
        said, loss = logits(P, x), 0.0
        if ce < 1:
            with torch.no_grad():
                want = F.log_softmax(logits(teacher, x) / tau, -1)
            kl = F.kl_div(F.log_softmax(said / tau, -1), want, log_target=True, reduction="sum") / (B * T)
            loss = loss + (1 - ce) * tau**2 * kl
        if ce > 0:
            loss = loss + ce * F.cross_entropy(said[:, :-1].flatten(0, 1), x[:, 1:].flatten())
        G = dict(zip(P, torch.autograd.grad(loss, list(P.values()))))
        with torch.no_grad():
            scale = torch.clamp(1 / (torch.sqrt(sum((g * g).sum() for g in G.values())) + 1e-9), max=1.0)
            for (short, long), names in stacks.items():
                U = []
                for n in names:
                    g = G[n] * scale
                    M[n].mul_(b1).add_(g, alpha=1 - b1)
                    u = g * (1 - b1) + M[n] * b1
                    U.append(u if u.shape[0] == short else u.T)
                for n, u in zip(names, newton_schulz(torch.stack(U))):
                    r = lr * f * (attention if "self_attn" in n else 1)
                    P[n].mul_(1 - r * decay).sub_((u if P[n].shape[0] == short else u.T) * (r * 0.2 * math.sqrt(long)))
            for n in rest:
                g, r = G[n] * scale, lr * f * (c.get("elr", 1) if "embed" in n else 1)
                M[n].mul_(b1).add_(g, alpha=1 - b1)
                V[n].mul_(b2).addcmul_(g, g, value=1 - b2)
                if P[n].ndim == 2:
                    P[n].mul_(1 - r * decay)
                P[n].sub_(r * (M[n] / c1) / ((V[n] / c2).sqrt() + 1e-8))
            if mean:
                for n in P:
                    mean[n].lerp_(P[n], 1 - c["ema"])

    def feed(s):
        x.copy_(windows[order[(s - 1) * B:s * B]])
        f.fill_(rate(s))
        c1.fill_(1 - b1 ** s)
        c2.fill_(1 - b2 ** s)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a graph wants a few steps before it
        for s in (1, 2, 3):
            feed(s)
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for s in range(4, steps + 1):
        feed(s)
        graph.replay()
    return [evaluate(P)] + ([evaluate(mean)] if mean else [])


print("the model itself", evaluate(teacher), flush=True)
for line in open(sys.argv[2]):
    c = json.loads(line)
    print(json.dumps({**c, "losses": run(c)}), flush=True)
