"""Training steps of ours and torch's on this machine's CPU, in turn: the same model, batch, threads and losses (docs/performance.md, bench/results).

    go build -o /tmp/gqa-train ./cmd/gqa-train && python3 bench/train.py /tmp/gqa-train [THREADS [ROUNDS [MODEL]]]   # needs torch, transformers

A round is a few steps of torch eager, of torch compiled and of ours. Shared machines change from second to second: ratios are
taken within rounds, and their median is what counts.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

import torch
import transformers
from safetensors.torch import save_file

TRAIN = os.path.abspath(sys.argv[1])
THREADS, ROUNDS = [int(x) for x in sys.argv[2:4]] + [2, 8][len(sys.argv[2:4]):]
WARM, RATE = 3, 3e-4
CASES = {  # layers, dim, heads, ffn, vocabulary, tied, tokens of a window, windows, steps of a round
    "L6-d384": (6, 384, 6, 1024, 8192, False, 256, 4, 4),
    "gopher-4m": (4, 256, 8, 704, 2048, True, 512, 8, 3),
}
torch.set_num_threads(THREADS)
A, B = torch.randn(1024, 1024), torch.randn(1024, 1024)


def sgemm(times=12):
    A @ B
    start = time.perf_counter()
    for _ in range(times):
        A @ B
    return times * 2 * 1024**3 / (time.perf_counter() - start) / 1e9


def stepper(path, ids, compiled, losses):
    """A function that makes one step of torch's and returns its seconds."""
    model = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="sdpa", dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)

    def forward():
        return model(input_ids=ids, labels=ids).loss

    if compiled:
        forward = torch.compile(forward)

    def step():
        start = time.perf_counter()
        loss = forward()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        return time.perf_counter() - start

    return step


def ours(path, data, out, batch, length, steps):
    """Seconds and losses of each step."""
    subprocess.run([
        TRAIN, "run", "--model", path, "--data", data, "-o", out, "--steps", str(steps), "--batch", str(batch), "--seq-len", str(length),
        "--lr", str(RATE), "--schedule", "constant", "--warmup", "0", "--threads", str(THREADS), "--set", "optimizer.decay=all",
        "--set", "log_every=1", "--set", "save_every=0", "--set", "valid_every=0", "--quiet",
    ], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in open(out + "/metrics.jsonl")]
    return [batch * length / x["tokens_per_s"] for x in lines], [x["loss"] for x in lines]


def compare(name, dir):
    layers, dim, heads, ffn, vocab, tied, length, batch, steps = CASES[name]
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        num_hidden_layers=layers, hidden_size=dim, num_attention_heads=heads, num_key_value_heads=heads, intermediate_size=ffn,
        vocab_size=vocab, tie_word_embeddings=tied, max_position_embeddings=512))
    path, data = f"{dir}/{name}", f"{dir}/{name}.safetensors"
    model.save_pretrained(path)
    ids = torch.randint(0, vocab, (batch, length))
    save_file({"input_ids": ids}, data)
    tokens = batch * length
    flops = 6 * tokens * sum(p.numel() for p in model.parameters()) + 6 * layers * dim * length * tokens  # of causal attention
    losses = {"eager": [], "compiled": []}
    torchs = {mode: stepper(path, ids, mode == "compiled", losses[mode]) for mode in losses}
    for step in torchs.values():
        for _ in range(WARM):
            step()
    seconds, ratios, peaks = {"eager": [], "compiled": [], "ours": []}, {mode: [] for mode in torchs}, []
    for r in range(ROUNDS):
        peaks.append(sgemm())
        now = {mode: [step() for _ in range(steps)] for mode, step in torchs.items()}
        all, losses["ours"] = ours(path, data, f"{dir}/{name}-{r}", batch, length, WARM + steps)
        now["ours"] = all[WARM:]
        for mode, s in now.items():
            seconds[mode] += s
        for mode in torchs:
            ratios[mode].append(median(now[mode]) / median(now["ours"]))
    print(f"{name}, {THREADS} threads; sgemm {median(peaks):.0f} GFLOP/s ({min(peaks):.0f} to {max(peaks):.0f})")
    for mode, s in seconds.items():
        print(f"  {mode:9} {tokens / median(s):6.0f} tokens/s (best {tokens / min(s):.0f}), {flops / median(s) / 1e9 / median(peaks):.0%} of sgemm")
    for mode, all in ratios.items():
        apart = max(abs(x - y) for x, y in zip(losses["ours"], losses[mode]))
        print(f"  ours/{mode}: {median(all):.2f}, of bests {min(seconds[mode]) / min(seconds['ours']):.2f}, "
              f"by round {' '.join(f'{x:.2f}' for x in all)}; losses apart {apart:.1e}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as dir:
        for name in sys.argv[4:] or CASES:
            compare(name, dir)
