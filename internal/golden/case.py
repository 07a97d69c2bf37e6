"""Makes a golden case of a decoder with transformers: python case.py CONFIG.json OUT

CONFIG.json is a small multi-head config.json with "model_type" and "num_key_value_heads", such as
{"model_type": "llama", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
 "num_attention_heads": 8, "num_key_value_heads": 8}. OUT becomes a checkpoint of random weights with golden.safetensors
beside it; the doc comment of package golden says what that holds. The class must keep keys and values in k_proj and v_proj, or have
latent attention, which is not pooled.
"""
import json
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

KV = "num_key_value_heads"


def build(config, groups):
    config = AutoConfig.for_model(**dict(config, **{KV: groups}))
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


def perturb(model):
    """Gives every weight values whose logits deviate by about 1.5."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(torch.randn(p.shape) * 0.1)
            else:
                p.copy_(torch.randn(p.shape) * (0.25 if "embed" in name else 1.5 / p.shape[-1] ** 0.5))


def pool(weights, heads, groups, head_dim):
    """Replaces the heads of each group by their mean: [heads * head_dim, ...] -> [groups * head_dim, ...]."""
    pooled = {}
    for name, w in weights.items():
        kv = any(part in name for part in (".k_proj.", ".v_proj."))
        if kv or ".k_norm." in name and w.shape[0] == heads * head_dim:
            w = w.view(groups, heads // groups, head_dim, *w.shape[1:]).mean(1).reshape(groups * head_dim, *w.shape[1:])
        pooled[name] = w.clone()
    return pooled


def train(model, ids):
    """Six steps of AdamW: losses before each, and gradient norms before clipping to 1."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    losses, norms = [], []
    for _ in range(6):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        losses.append(loss.item())
        optimizer.step()
    return torch.tensor(losses), torch.tensor(norms)


def main(path, out):
    torch.manual_seed(0)
    config = json.load(open(path))
    heads = config[KV]
    model = build(config, heads)
    perturb(model)
    model.tie_weights()
    model.save_pretrained(out)
    head_dim = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    ids = torch.randint(2, model.config.vocab_size, (2, 24))
    weights = model.state_dict()
    with torch.no_grad():
        golden = {"input_ids": ids, "logits_mha": model(input_ids=ids).logits}
    if "kv_lora_rank" in config:
        golden["train_loss_mha"], golden["grad_norm_mha"] = train(model, ids)
        save_file({name: t.contiguous() for name, t in golden.items()}, out + "/golden.safetensors")
        return
    with torch.no_grad():
        for groups in [g for g in (1, 2, 3, 4) if heads % g == 0 and g < heads]:
            grouped = build(config, groups)
            grouped.load_state_dict(pool(weights, heads, groups, head_dim))
            golden[f"logits_g{groups}"] = grouped(input_ids=ids).logits
    grouped = build(config, 2)
    grouped.load_state_dict(pool(weights, heads, 2, head_dim))
    grouped.save_pretrained(out + "/gqa-g2")
    golden["train_loss"], golden["grad_norm"] = train(grouped, ids)
    save_file({name: t.contiguous() for name, t in golden.items()}, out + "/golden.safetensors")


main(*sys.argv[1:])
