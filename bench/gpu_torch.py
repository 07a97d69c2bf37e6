"""PyTorch's side of bench/gpu.sh. Needs torch, transformers 5 and an NVIDIA GPU.

    gpu_torch.py machine
    gpu_torch.py time MODEL WORK SIDE BATCH[,BATCH…] FILE    a turn of torch or transformers per batch, appended to FILE
    gpu_torch.py losses FOLDER                               tiny models and data, and their losses
    gpu_torch.py greedy MODEL…                               the likeliest tokens of transformers and of gqa-eval generate, both in f32
"""
import json
import os
import subprocess
import sys
import traceback
from itertools import pairwise

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import gpu
from gpu import DEVICE


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        dim, ffn, self.head = s["dim"], s["ffn"], s["dim"] // s["heads"]
        self.grouped = s["kv"] != s["heads"]
        self.norm1, self.norm2 = nn.RMSNorm(dim, eps=1e-5), nn.RMSNorm(dim, eps=1e-5)
        self.q, self.o = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.k, self.v = (nn.Linear(dim, s["kv"] * self.head, bias=False) for _ in "kv")
        self.gate, self.up = nn.Linear(dim, ffn, bias=False), nn.Linear(dim, ffn, bias=False)
        self.down = nn.Linear(ffn, dim, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        y = self.norm1(x)
        q, k, v = (w(y).view(batch, length, -1, self.head).transpose(1, 2) for w in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=self.grouped)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, -1))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def head_loss(x, norm, weight, targets):
    return F.cross_entropy(F.linear(norm(x), weight).float().flatten(0, 1), targets.flatten())


class Llama(nn.Module):
    """A Llama as one would write it. It is compiled whole or, if it recomputes each layer, by layer."""

    def __init__(self, s):
        super().__init__()
        self.embed = nn.Embedding(s["vocab"], s["dim"])
        self.layers = nn.ModuleList(Layer(s) for _ in range(s["layers"]))
        self.norm = nn.RMSNorm(s["dim"], eps=1e-5)
        self.head = self.embed if s.get("tied") else nn.Linear(s["dim"], s["vocab"], bias=False)
        size = s["dim"] // s["heads"]
        rates = 10000 ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
        angles = torch.outer(torch.arange(s["length"], dtype=torch.float32), rates).repeat(1, 2)
        self.cos, self.sin = angles.cos().bfloat16(), angles.sin().bfloat16()
        self.recompute, self.head_loss = s.get("recompute", False), head_loss
        for w in self.parameters():
            if w.dim() == 2:
                nn.init.normal_(w, std=0.02)
        if self.recompute:
            self.head_loss = torch.compile(head_loss, dynamic=False)
            for layer in self.layers:
                layer.compile(dynamic=False)
        else:
            self.compile(dynamic=False)

    def forward(self, ids, targets):
        x = self.embed(ids)
        for layer in self.layers:
            if self.recompute:
                x = checkpoint(layer, x, self.cos, self.sin, use_reentrant=False)
            else:
                x = layer(x, self.cos, self.sin)
        return self.head_loss(x, self.norm, self.head.weight, targets)


class AdamW:
    """Weights in bf16, masters and moments in f32, by torch's fused kernel: in parts, so that few gradients are in f32 at once."""

    def __init__(self, weights, parts):
        weights = list(weights)
        size = -(-len(weights) // parts)
        self.parts = []
        for i in range(0, len(weights), size):
            part = weights[i:i + size]
            masters = [w.detach().float() for w in part]
            self.parts.append((part, masters, torch.optim.AdamW(masters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)))

    @torch.no_grad()
    def step(self):
        for weights, masters, adamw in self.parts:
            for w, m in zip(weights, masters):
                m.grad, w.grad = w.grad.float(), None
            adamw.step()
            torch._foreach_copy_(weights, masters)
            for m in masters:
                m.grad = None


def build(s, side):
    """A function from windows to the loss, and the weights."""
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        if side == "torch":
            model = Llama(s)
        else:
            kind = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
                    "gpt_neox": (transformers.GPTNeoXConfig, transformers.GPTNeoXForCausalLM)}[s["family"]]
            model = kind[1](kind[0](**gpu.config(s), use_cache=False, attn_implementation="sdpa"))
            model.compile(dynamic=False)
    torch.set_default_dtype(torch.float32)
    model.train()
    if side == "torch":
        return lambda ids: model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous()), model.parameters()
    return lambda ids: model(input_ids=ids[:, :-1].contiguous(), labels=ids[:, :-1].contiguous()).loss, model.parameters()


def turn(s, loss_of, adamw, batch):
    """Milliseconds of each step, and losses. Nothing waits for the GPU between steps."""
    count, losses = gpu.timed_steps(s), []

    def step():
        loss = loss_of(torch.randint(0, s["vocab"], (batch, s["length"] + 1), device="cuda"))
        loss.backward()
        losses.append(loss.detach())
        adamw.step()

    for _ in range(gpu.WARM):
        step()
    torch.cuda.synchronize()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in pairwise(marks)], [x.item() for x in losses[gpu.WARM:]]


def time_torch(name, work, side, batches, file):
    s, before = gpu.MODELS[name], gpu.used()
    loss_of, weights = build(s, side)
    adamw = AdamW(weights, s["layers"] if s.get("recompute") else 1)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for batch in batches:
        for attention in "cudnn", "default":  # cuDNN's is the fastest, and does not have every shape
            try:
                if attention == "cudnn":
                    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                        ms, losses = turn(s, loss_of, adamw, batch)
                else:
                    ms, losses = turn(s, loss_of, adamw, batch)
                break
            except torch.OutOfMemoryError:
                raise
            except Exception:
                if attention == "default":
                    raise
                traceback.print_exc()
                torch._dynamo.reset()
                for w in adamw.parts:
                    for p in w[0]:
                        p.grad = None
        gpu.append(file, dict(side=side, batch=batch, ms=ms, losses=losses, attention=attention, used=gpu.rise(before, gpu.used()),
                              pool=torch.cuda.max_memory_reserved() / 2**30))


def tiny(family):
    """A model of random weights with 4 layers. Its token 0 is padding and start, and 1 is the end."""
    t, common = transformers, dict(vocab_size=1000, bos_token_id=0, eos_token_id=1)
    usual = dict(common, hidden_size=256, num_hidden_layers=4, num_attention_heads=8, max_position_embeddings=256)
    if family == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(**usual, num_key_value_heads=2, intermediate_size=704))
    if family == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**usual, num_key_value_heads=2, intermediate_size=704))
    if family == "gpt_neox":
        return t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**usual, intermediate_size=1024, attention_dropout=0.0, hidden_dropout=0.0))
    if family == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(**common, n_embd=256, n_layer=4, n_head=8, n_positions=256,
                                              resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    return t.T5ForConditionalGeneration(t.T5Config(vocab_size=1000, d_model=256, d_kv=32, d_ff=1024, num_layers=4, num_heads=8, dropout_rate=0.0,
                                                   pad_token_id=0, eos_token_id=1, decoder_start_token_id=0))


def windows(rows, length):
    """Tokens that mostly follow from the one before, so that there is something to learn."""
    ids = torch.randint(2, 1000, (rows, length))
    follows = torch.randint(2, 1000, (1000,))
    for i in range(1, length):
        ids[:, i] = torch.where(torch.rand(rows) < 0.75, follows[ids[:, i - 1]], ids[:, i])
    return ids


def train(path, data, mode):
    """Losses of the steps: in f32; in autocast; or in bf16 with masters in f32."""
    config = transformers.AutoConfig.from_pretrained(path)
    kind = getattr(transformers, config.architectures[0])
    model = kind.from_pretrained(path, dtype=torch.float32).cuda().train()
    weights = list(model.parameters())
    masters = [w.detach().clone() for w in weights]
    if mode == "bf16":
        for w in weights:  # not model.bfloat16(), which also rounds the frequencies of rotary positions
            w.data = w.data.bfloat16()
    adamw = torch.optim.AdamW(masters, lr=gpu.RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
    losses = []
    for _ in range(gpu.LOSSES):
        with torch.autocast("cuda", torch.bfloat16, enabled=mode == "autocast"):
            out = model(**data)
        loss = out.loss
        if config.model_type == "t5":  # whose own loss is rounded to bf16
            loss = F.cross_entropy(out.logits.float().flatten(0, 1), data["labels"].flatten())
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for w, m in zip(weights, masters):
                m.grad, w.grad = w.grad.float(), None
            nn.utils.clip_grad_norm_(masters, 1.0)
            adamw.step()
            torch._foreach_copy_(weights, masters)
    return losses


def losses(folder):
    failed = []
    os.makedirs(folder)
    for family in gpu.FAMILIES:
        try:
            torch.manual_seed(1)
            path = f"{folder}/{family}"
            tiny(family).save_pretrained(path)
            ids = windows(8, 256)
            data = {"input_ids": ids, "labels": ids.clone()}
            if family == "t5":
                data["labels"] = ids[:, :128].flip(1).contiguous()
                save_file(data, path + ".safetensors")
            else:
                save_file({"input_ids": ids}, path + ".safetensors")
            data = {name: x.cuda() for name, x in data.items()}
            result = {mode: train(path, data, mode) for mode in ("f32", "autocast", "bf16")}
            with open(path + ".json", "w") as f:
                json.dump({"shape": list(ids.shape), "losses": result}, f)
        except Exception as err:
            traceback.print_exc()
            failed.append(f"{family}: {err}".split("\n")[0])
    if failed:
        sys.exit("; ".join(failed))


def greedy(paths, tokens=24):
    """Compares continuations. transformers has no cache here: it reads everything again for each token. Its eager attention
    adds Falcon's ALiBi biases twice, as these checkpoints require."""
    torch.backends.cuda.matmul.allow_tf32 = False
    same, skipped, wrong = 0, [], []
    for path in paths:
        name = os.path.basename(path)
        try:
            config = transformers.AutoConfig.from_pretrained(path)
            encoder = config.is_encoder_decoder
            kind = transformers.AutoModelForSeq2SeqLM if encoder else transformers.AutoModelForCausalLM
            model = kind.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").cuda().eval()
        except Exception as err:
            skipped.append(f"{name} ({(str(err).strip() or type(err).__name__).splitlines()[0][:60]})")
            continue
        prompt = [5 + 7 * i % (config.vocab_size - 8) for i in range(9)]
        command = [os.environ["GQA_EVAL"], "generate", path, "--prompt-ids", ",".join(map(str, prompt)), "--max-tokens", str(tokens),
                   "--device", DEVICE, "--json", "--quiet"]
        run = subprocess.run(command, capture_output=True, text=True)
        if "does not decode" in run.stderr:
            skipped.append(f"{name} (does not decode)")
            continue
        want, source = list(prompt), torch.tensor([prompt]).cuda()
        if encoder:
            want = [config.decoder_start_token_id]
        start = len(want)
        with torch.no_grad():
            for _ in range(tokens):
                ids = torch.tensor([want]).cuda()
                logits = (model(input_ids=source, decoder_input_ids=ids) if encoder else model(input_ids=ids)).logits
                want.append(logits[0, -1].argmax().item())
        if run.returncode == 0 and json.loads(run.stdout)["ids"] == want[start:]:
            same += 1
        else:
            wrong.append(f"{name}: {want[start:]}, but ours: {run.stdout or run.stderr}")
    print(f"Greedy continuations of {tokens} tokens: {same} models as in transformers, {len(wrong)} not; left out: {', '.join(skipped) or 'none'}\n", flush=True)
    if wrong:
        sys.exit("\n".join(wrong))


def machine():
    query = ["nvidia-smi", "-i", os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0", "--format=csv,noheader"]
    try:
        text = subprocess.check_output(query + ["--query-gpu=driver_version,power.limit"], text=True).strip().split(", ")
        driver = f"driver {text[0]}, limit {text[1]}"
    except (OSError, IndexError, subprocess.CalledProcessError):
        driver = "driver unknown"
    print(f"{torch.cuda.get_device_name()}, {driver}, CUDA {torch.version.cuda}, PyTorch {torch.__version__}, transformers {transformers.__version__}. "
          f"MFU is of {gpu.PEAK / 1e12} TFLOP/s.\n", flush=True)


if __name__ == "__main__":
    command, *args = sys.argv[1:]
    if command == "time":
        try:
            time_torch(args[0], args[1], args[2], [int(b) for b in args[3].split(",")], args[4])
        except Exception as err:
            traceback.print_exc()
            sys.exit(f"{type(err).__name__}: {str(err).strip()}".split("\n")[0])
    else:
        {"losses": losses, "greedy": lambda *paths: greedy(paths), "machine": machine}[command](*args)
