"""Likelihood tasks by transformers, compared with gqa-eval's: python tasks.py MODEL FILE.jsonl [ITEMS.jsonl]

FILE has records {"context", "choices", "answer"}; a space joins context and choice. ITEMS is what
`gqa-eval tasks MODEL --task FILE --items ITEMS` wrote. The arithmetic is that of lm-evaluation-harness: context and
choice are tokenized together and split where the context's tokens end.
"""

import json
import math
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def log_likelihood(model, tokenizer, context, choice):
    trimmed = context.rstrip()
    context, choice = trimmed, context[len(trimmed) :] + choice
    given, whole = tokenizer.encode(context), tokenizer.encode(context + choice)
    ids = given + whole[len(given) :]
    limit = model.config.max_position_embeddings
    ids, end = ids[-(limit + 1) :], len(whole) - len(given)
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]], device=model.device)).logits[0, -end:].double()
    return logits.log_softmax(-1)[range(end), ids[-end:]].sum().item()


def main(folder, path, ours=None):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    items = [json.loads(line) for line in open(path, encoding="utf-8")]
    scores = [[log_likelihood(model, tokenizer, i["context"], " " + c) for c in i["choices"]] for i in items]
    for name, by in (("acc", lambda c: 1), ("acc_norm", len)):
        values = [[s / by(c) for s, c in zip(row, i["choices"])] for row, i in zip(scores, items)]
        right = [float(row.index(max(row)) == i["answer"]) for row, i in zip(values, items)]
        mean, n = sum(right) / len(right), len(right)
        stderr = math.sqrt(sum((r - mean) ** 2 for r in right) / (n - 1) / n)
        print(f"{name}: {mean:.6f} ± {stderr:.6f} of {n}")
    if ours:
        found = [json.loads(line)["likelihoods"] for line in open(ours, encoding="utf-8")]
        apart = max(abs(x - y) for row, other in zip(scores, found, strict=True) for x, y in zip(row, other, strict=True))
        print(f"largest difference of a log-likelihood: {apart:.2e}")
        sys.exit(apart > 1e-3)


if __name__ == "__main__":
    main(*sys.argv[1:])
