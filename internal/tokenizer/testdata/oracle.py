"""Checks components.json and encodings.json against the tokenizers library.

python3 oracle.py prints what differs and exits 1 if anything does; with -w it writes the
library's answers into the two files (pip install tokenizers).
"""
import json, os, sys
import tokenizers
from tokenizers import Tokenizer

here = os.path.dirname(os.path.abspath(__file__))
model = {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"}


def component(part, spec, given):
    tok = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model, part: spec}))
    if part == "normalizer":
        return tok.normalizer.normalize_str(given)
    if part == "decoder":
        return tok.decoder.decode(given)
    return [word for word, _ in tok.pre_tokenizer.pre_tokenize_str(given)]


def encoding(name, text):
    tok = Tokenizer.from_file(os.path.join(here, "tokenizers", name + ".json"))
    ids = tok.encode(text).ids
    return {
        "ids": ids,
        "plain": tok.encode(text, add_special_tokens=False).ids,
        "decoded": tok.decode(ids, skip_special_tokens=False),
    }


def check(file, answer):
    path = os.path.join(here, file)
    cases, wrong = json.load(open(path, encoding="utf-8")), 0
    for case in cases:
        try:
            got = answer(case)
        except Exception as e:
            got = {"error": str(e)}
        if any(case.get(k) != v for k, v in got.items()):
            wrong += 1
            print(json.dumps(case, ensure_ascii=False), "\n  library:", json.dumps(got, ensure_ascii=False))
            case.update(got)
    if wrong and "-w" in sys.argv:
        lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
        open(path, "w", encoding="utf-8").write("[\n" + lines + "\n]\n")
    print(f"{file}: {len(cases)} cases, {wrong} differ from tokenizers {tokenizers.__version__}")
    return wrong


wrong = check("components.json", lambda c: {"out": component(c["part"], c["spec"], c["in"])})
wrong += check("encodings.json", lambda c: encoding(c["tokenizer"], c["text"]))
sys.exit(wrong > 0)
