"""Pre-trains the small checkpoints of the study with transformers' own classes, on a GPU: minutes each.

usage: pretrain.py CORPUS OUT NAME...

CORPUS holds train.txt.gz with <|endoftext|> between documents (checkpoints/sample/corpus/make.go writes it). OUT/NAME becomes a
Hugging Face folder: bf16 safetensors in shards, config.json, a byte-level BPE tokenizer trained on the corpus.
"""

import gzip
import math
import os
import sys

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END, WINDOW, BATCH = "<|endoftext|>", 512, 96
SHAPE = dict(hidden_size=256, num_hidden_layers=6, num_attention_heads=8)
MODELS = {  # class, vocabulary, sizes, tokens, peak rate
    "neox-6m": (tf.GPTNeoXConfig, 2048, dict(SHAPE, intermediate_size=1024), 120e6, 1.5e-3),
    "gpt2-6m": (tf.GPT2Config, 2048, dict(SHAPE, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0), 120e6, 1.5e-3),
    "gopher-12m": (tf.LlamaConfig, 4096, dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=16, intermediate_size=1024,
                                              tie_word_embeddings=True), 100e6, 1.5e-3),
}


def tokenizer(text, size):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def rate(step, steps, peak):
    warm = steps // 20
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm))))


def pretrain(name, documents, out):
    config, vocab, sizes, tokens, peak = MODELS[name]
    tok = tokenizer(documents, vocab)
    ids = torch.tensor([i for e in tok.encode_batch(documents) for i in e.ids + [0]], device="cuda")
    torch.manual_seed(1)
    model = tf.AutoModelForCausalLM.from_config(
        config(vocab_size=vocab, max_position_embeddings=WINDOW, bos_token_id=0, eos_token_id=0, **sizes), attn_implementation="sdpa").cuda()
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    adamw = torch.optim.AdamW([dict(params=decayed, weight_decay=0.1), dict(params=others, weight_decay=0.0)], lr=peak, betas=(0.9, 0.95), fused=True)
    draw = torch.Generator(device="cuda").manual_seed(3)
    steps = int(tokens / (BATCH * WINDOW))
    for step in range(steps):
        for group in adamw.param_groups:
            group["lr"] = rate(step, steps, peak)
        at = torch.randint(0, ids.numel() - WINDOW - 1, (BATCH,), generator=draw, device="cuda")
        x = ids[at[:, None] + torch.arange(WINDOW, device="cuda")]
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=x, labels=x).loss
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        if step % 200 == 0 or step == steps - 1:
            print(name, "step", step, "of", steps, "loss %.4f" % loss.item(), flush=True)
    folder = os.path.join(out, name)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="15MB")
    tf.PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=END, eos_token=END).save_pretrained(folder)


if __name__ == "__main__":
    corpus, out = sys.argv[1:3]
    documents = [d for d in gzip.open(os.path.join(corpus, "train.txt.gz"), "rt", encoding="utf-8").read().split(END) if d]
    for name in sys.argv[3:]:
        pretrain(name, documents, out)
