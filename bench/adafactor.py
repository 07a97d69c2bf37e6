"""Six steps of our Adafactor and transformers' on the same model and windows: losses, gradient norms and weights must agree.

    go build -o /tmp/gqa-train ./cmd/gqa-train && python3 bench/adafactor.py /tmp/gqa-train [DEVICE]   # needs torch, transformers

DEVICE is that of gqa-train (default cpu). Prints a line per case and step, and exits with status 1 if a figure is off.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.optimization import Adafactor

TRAIN = os.path.abspath(sys.argv[1])
DEVICE = sys.argv[2] if len(sys.argv) > 2 else "cpu"
STEPS, LENGTH = 6, 24
CASES = {  # lr, weight decay, clip, scale_parameter, clip_threshold, decay_rate
    "relative": (1e-2, 0.0, 1.0, True, 1.0, 0.8),
    "absolute": (1e-3, 0.0, 1.0, False, 1.0, 0.8),
    "decay": (1e-2, 0.1, 0.0, True, 0.5, 0.6),
}


def theirs(path, ids, lr, decay, clip, scale, threshold, rate):
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).train()
    optimizer = Adafactor(model.parameters(), lr=lr, eps=(1e-30, 1e-3), clip_threshold=threshold, decay_rate=-rate, beta1=None,
                          weight_decay=decay, scale_parameter=scale, relative_step=False, warmup_init=False)
    figures = []
    for _ in range(STEPS):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip or 1e30)
        optimizer.step()
        figures.append((loss.item(), norm.item()))
    return figures, model.state_dict()


def ours(path, data, out, lr, decay, clip, scale, threshold, rate):
    sets = {"optimizer.weight_decay": decay, "optimizer.decay": "all", "optimizer.clip": clip, "optimizer.adafactor.scale_parameter": str(scale).lower(),
            "optimizer.adafactor.clip_threshold": threshold, "optimizer.adafactor.decay_rate": rate, "valid_every": 0, "save_every": 0}
    flags = [x for key, value in sets.items() for x in ("--set", f"{key}={value}")]
    subprocess.run([TRAIN, "run", "--model", path, "--data", data, "-o", out, "--steps", str(STEPS), "--batch", "2", "--seq-len", str(LENGTH),
                    "--lr", str(lr), "--optimizer", "adafactor", "--schedule", "constant", "--warmup", "0", "--device", DEVICE, "--quiet", *flags],
                   check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in open(out + "/metrics.jsonl")]
    return [(x["loss"], x["grad_norm"]) for x in lines], load_file(out + "/model/model.safetensors")


def main():
    good = True
    with tempfile.TemporaryDirectory() as dir:
        torch.manual_seed(1)
        path, data = dir + "/model", dir + "/ids.safetensors"
        transformers.LlamaForCausalLM(transformers.LlamaConfig(
            num_hidden_layers=2, hidden_size=96, num_attention_heads=6, num_key_value_heads=2, intermediate_size=160, vocab_size=300,
            tie_word_embeddings=False, max_position_embeddings=64)).save_pretrained(path)
        ids = torch.randint(0, 300, (2, LENGTH), dtype=torch.int32)
        save_file({"input_ids": ids}, data)
        for name, case in CASES.items():
            want, weights = theirs(path, ids.long(), *case)
            got, result = ours(path, data, f"{dir}/{name}", *case)
            for step, ((loss, norm), (wantLoss, wantNorm)) in enumerate(zip(got, want, strict=True), 1):
                ok = abs(loss - wantLoss) <= 1e-4 and abs(norm - wantNorm) <= 1e-4 * max(1, wantNorm)
                good &= ok
                print(f"{name} step {step}: loss {loss:.6f} transformers {wantLoss:.6f}, norm {norm:.6f} {wantNorm:.6f}{'' if ok else '  OFF'}")
            off = max(((result[key].float() - weights[key]).abs().max().item(), key) for key in result)
            good &= off[0] <= 1e-5
            print(f"{name}: weights differ by at most {off[0]:.2g} ({off[1]})")
    sys.exit(not good)


main()
