"""Makes an untrained Llama and its tokenizer, for gqa-train to pre-train.

usage: init.py TRAIN OUT LAYERS DIM HEADS FFN VOCAB CONTEXT

TRAIN is a text with <|endoftext|> between documents: a byte-level BPE tokenizer is trained on every third of them. OUT becomes a Hugging
Face folder with float32 weights.
"""

import sys

import torch
import transformers as tf

from pretrain import END, tokenizer

if __name__ == "__main__":
    path, out = sys.argv[1:3]
    layers, dim, heads, ffn, vocab, context = map(int, sys.argv[3:])
    documents = [d for d in open(path, encoding="utf-8").read().split(END) if d]
    tok = tokenizer(documents[::3], vocab)
    torch.manual_seed(1)
    tf.LlamaForCausalLM(tf.LlamaConfig(
        vocab_size=vocab, hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads, intermediate_size=ffn,
        max_position_embeddings=context, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0)).save_pretrained(out)
    tf.PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=END, eos_token=END).save_pretrained(out)
