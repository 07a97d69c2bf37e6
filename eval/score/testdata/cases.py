"""Makes cases.jsonl, corpora.jsonl and stems.txt: texts, and the scores that reference implementations give them.

    python3 cases.py        # with the references in PYTHONPATH

The files were made with Python 3.11 by
- sacrebleu 2.6.0 (mjpost/sacrebleu f615c72) with regex 2022.10.31,
- rouge_score of google-research 0c1bbe5 with NLTK 3.8,
- exact_match of lm_eval (EleutherAI/lm-evaluation-harness 4e7e0d4),
- squad_v2_compute_score, which is metrics/squad_v2/compute_score.py of huggingface/evaluate a7dd338,
- evaluation.triviaqa_evaluation of mandarjoshi90/triviaqa ca43b58.
"""
import itertools
import json
import random
from pathlib import Path

import squad_v2_compute_score as squad
from evaluation import triviaqa_evaluation as trivia
from lm_eval.api.metrics import exact_match_hf_evaluate
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

R = random.Random(21)
HERE = Path(__file__).parent

# A text on each line, with ¶ for a line end in it.
SENTENCES = """\
The quick brown foxes weren't jumping over the lazy dog's bed, were they?
A parliament of owls met in the old oak on Tuesday, 3 May 2011, at 7:45 p.m.
It cost $1,299.99 (about €1.200,50), i.e. 12.5% more than in 2019-20.
"Don't," she said -- "I can't, won't, and shouldn't've."
An apple, the pear and a plum; the-best-of-the-best, an hour ago.
The scientists' hypotheses were confirmed by conditional probabilities.
He operated rationally, hopefully, formally: a triumph of electrical decisiveness.
Dying flies, lying skies; spied, tied and died. Enjoyment happily succeeded.
Visit https://example.org/a_b?c=d&e=f#g or mail the_team@example.org.
AT&amp;T &lt;b&gt;said&lt;/b&gt; &quot;hello&quot; &amp;lt; goodbye <skipped> and left.
The well-known co-¶author split a hyphen-¶ated line.¶¶And\r¶returned\vor\ffed. ¶
First sentence of the summary.¶Second sentence, a bit longer.¶¶Third and last sentence of the summary.
Über den Straßen von Köln fließt der Rhein, sagte die Bürgermeisterin.
L'été dernier, Zoé a mangé vingt-deux crêpes à l'Hôtel de l'Île.
El niño preguntó: ¿cuándo llegará mañana el tren? ¡Pronto!
Съешь ещё этих мягких французских булок, да выпей чаю.
Ο ΟΔΥΣΣΕΥΣ ΚΑΙ Ο ΣΊΣΥΦΟΣ είδαν τον ήλιο, λέει ο μύθος.
İSTANBUL'da IŞIK ılık bir Iğdır sabahıydı; İki çay içtik.
השפה העברית נכתבת מימין לשמאל, "כך אמר" המורה.
يكتب الطالبُ الدرسَ في المدرسةِ، ثم يعود إلى البيت؟ نعم!
今天天气很好,我们去公园散步吧。他说:“好的!”
吾輩は猫である。名前はまだ無い。「どこで生れたか」とんと見当がつかぬ。
나는 오늘 아침에 빵을 먹었다. 맛있었다!
ภาษาไทยไม่มีช่องว่างระหว่างคำ และมีวรรณยุกต์
हिन्दी में लिखा हुआ एक छोटा वाक्य, जिसमें मात्राएँ हैं।
Emoji 👩‍👩‍👧‍👦 and flags 🇩🇪🇯🇵, 👍🏽 thumbs, hearts ❤️ ♥ and 😀😀!
Cafe\u0301 nai\u0308ve e\u0328lan: combining marks, and ﬁ ﬀ ligatures.
Kelvin \u212a, Ångström \u212b, x² + y³ = z½, Ⅳ and ⅷ, №5, ﬂoor ẞ ß.
full-width 123,456.78 ABC abc!? and half
nbsp\u00a0here thin\u2009space ideographic\u3000space line\u2028sep tab\there nel\u0085x fs\u001cx us\u001fx zero\u200bwidth
1,000 1.000 1.5. 3-4 5 - 6 7-8-9 .5 5. ,5 5, a.b a,b a.5 5.a -1 1- x-1 ...!?
~`!@#$%^&*()_+-={}[]|\\:;"'<>,./? « guillemets » ‘single’ “double” ´acute` …
the a an The A AN thean a.n. a_b the_end _the_ an' 'a' the-a ana
٣٫١٤ ١٬٠٠٠ १२३ ๑๒๓ ௧௨ are digits, 〇 and 一二三 too"""
TEXTS = [line.replace("¶", "\n") for line in SENTENCES.split("\n")]
WORDS = [w for t in TEXTS for w in t.split(" ")]

FIXED = [
    ("", [""]), ("", ["a"]), ("a", [""]), (" ", [""]), ("\n\t", [" "]), ("the", ["a"]), ("the", [""]), ("...", ["!"]), ("", ["", "x"]),
    ("x", ["", "x"]), ("!", ["!"]), ("the cat", ["cat", "dog"]), ("Cat.", ["cat", "cats"]), ("42", ["42.0", "42"]),
    ("a b c d", ["a b c d"]), ("a b c", ["a b c"]), ("a b c d e f g h", ["a b c d e f g", "a b c d e f g h i"]),
    ("a a a a a a", ["a"]), ("a", ["a a a a a a"]), ("b a", ["a b"]), ("a\nb c\nd", ["b c\na\nd"]), ("日本", ["日本"]), ("ΣΑΣ", ["σας", "σασ"]),
    ("İ", ["i", "i̇"]), ("K", ["k"]), ("straße", ["STRASSE", "Straße"]), ("it's", ["its", "it s", "it’s"]), ("_", ["-"]), ("\u200b", [""]),
    ("a\u00a0b", ["a b"]), ("x\u001cy", ["x y"]), ("e\u0301", ["é"]),
]


def edited(text):
    """Text with some words dropped, repeated, moved, replaced or changed in case or punctuation."""
    words = text.split(" ")
    for _ in range(R.randrange(0, 2 + len(words) // 2)):
        i, kind = R.randrange(len(words)), R.randrange(8)
        if kind == 0:
            del words[i]
        elif kind == 1:
            words.insert(i, R.choice(WORDS))
        elif kind == 2:
            words[i] = words[i].swapcase()
        elif kind == 3:
            words[i] += R.choice([".", ",", "!", "'s", "-", " the", "\n", "s", "ing", "…", "\u0301", "؟"])
        elif kind == 4:
            j = R.randrange(len(words))
            words[i], words[j] = words[j], words[i]
        elif kind == 5:
            words.insert(i, words[i])
        elif kind == 6 and words[i]:
            j = R.randrange(len(words[i]))
            words[i] = words[i][:j] + R.choice("aeiouxyz.,-3 \u3000日é") + words[i][j:]
        elif kind == 7:
            words[i] = R.choice(["a", "an", "the", "The"])
        words = words or [""]
    return " ".join(words)


def texts():
    """A prediction and one to three references, which have something in common."""
    base = " ".join(R.choice(TEXTS) for _ in range(R.choice([1, 1, 1, 2, 3])))
    if R.random() < 0.3:  # a short answer
        words = base.split(" ")
        i = R.randrange(len(words))
        base = " ".join(words[i:i + R.randrange(1, 5)])
    references = [edited(base) for _ in range(R.choice([1, 1, 2, 3]))]
    return R.choice([edited(base), base, edited(R.choice(references))]), references


def exact(prediction, references, **ignore):
    return max(float(exact_match_hf_evaluate(predictions=[prediction], references=[r], **ignore)["exact_match"]) for r in references)


ROUGES = ["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"]
SCORERS = {"plain": RougeScorer(ROUGES), "stem": RougeScorer(ROUGES, use_stemmer=True)}


def rouge(scorer, prediction, references):
    """Of every kind the precision, recall and F of the reference with the largest F, as score_multi of later versions."""
    scores = [scorer.score(r, prediction) for r in references]
    return {kind: list(max((s[kind] for s in scores), key=lambda s: s.fmeasure)) for kind in ROUGES}


SPLITS = [(t, lc) for t in ("13a", "intl", "none", "char") for lc in (False, True)]
SMOOTHINGS = [("exp", None), ("floor", None), ("floor", 0.5), ("add-k", None), ("add-k", 0.3), ("none", None)]


def metric(tokenize, lowercase, smooth="exp", value=None, effective=False):
    return BLEU(tokenize=tokenize, lowercase=lowercase, smooth_method=smooth, smooth_value=value, effective_order=effective)


METRICS = {split: metric(*split) for split in SPLITS}


def counts(split, prediction, references):
    """Words of the prediction and of the closest reference, then correct and total sequences of 1 to 4."""
    m = METRICS[split]
    info = m._extract_reference_info([m._preprocess_segment(r) for r in references])
    return m._compute_segment_statistics(m._preprocess_segment(prediction), info)


def bleu(stats, smooth, value, effective):
    return BLEU.compute_bleu(list(stats[2:6]), list(stats[6:]), stats[0], stats[1], smooth, value, effective).score


def case(prediction, references):
    harness = dict(ignore_case=True, ignore_punctuation=True)
    sentence = metric("13a", False, effective=True).sentence_score(prediction, references)
    stats = {f"{t}{' lower' * lc}": counts((t, lc), prediction, references) for t, lc in SPLITS}
    return {
        "prediction": prediction,
        "references": references,
        "exact": {
            "squad": max(squad.compute_exact(r, prediction) for r in references),
            "triviaqa": max(int(trivia.exact_match_score(prediction, r)) for r in references),
            "harness": exact(prediction, references, **harness),
            "verbatim": exact(prediction, references),
        },
        "f1": {
            "squad": max(squad.compute_f1(r, prediction) for r in references),
            "triviaqa": max(trivia.f1_score(prediction, r) for r in references),
        },
        "rouge": {name: rouge(scorer, prediction, references) for name, scorer in SCORERS.items()},
        "counts": stats,
        "bleu": [bleu(stats["13a"], *s, e) for s, e in itertools.product(SMOOTHINGS, (False, True))],
        "sentence_bleu": sentence.score,
    }


def corpora(cases):
    """BLEU of all cases and of some of them, through sacrebleu's own corpus_score."""
    for name, part in (("all", cases), ("fixed", cases[:len(FIXED)]), ("every 7th", cases[::7]), ("two", cases[40:42])):
        width = max(len(c["references"]) for c in part)
        references = [[(c["references"] + [None] * width)[i] for c in part] for i in range(width)]
        for (t, lc), (smooth, value), effective in itertools.product(SPLITS, SMOOTHINGS, (False, True)):
            score = metric(t, lc, smooth, value, effective).corpus_score([c["prediction"] for c in part], references).score
            yield {"corpus": name, "tokenize": t, "lowercase": lc, "smooth": smooth, "value": value or 0, "effective": effective, "score": score}


ROOTS = """run hop hope fall hiss fizz fail file sky fly die tie lie enjoy happy relate condition ration valence hesitate digit conform radical
differ vile analog vietnam predicate operate feudal decide hope callous formal sensitive sensible triplicate form electric good revive allow infer air
gyroscope adjust defend irritate replace depend adopt homolog commun activate angular effect bowdler probate rate cease control roll geology
theology beautiful skill use agree feed plaster bled motor sing conflate trouble size tan news inning outing canning howe proceed exceed succeed
syzygy toy by tree oat ivy private orrery x1 2nd 1990 a1b2c3 ying yy aeiou bcdf quay play say rhythm ill all ally""".split()
SUFFIXES = """ s es ed ing ies ied y ly er or al ance ence able ible ant ement ment ent ion tion ational tional enci anci izer bli abli alli entli eli
ousli ization ation ator alism iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness ou ism ate iti ous ive ize
sses ss eed ll e ying""".split()


def stems():
    """Words of a root and up to two suffixes, with their stems."""
    s = PorterStemmer()
    words = {w + x for w, x in itertools.product(ROOTS, [""] + SUFFIXES)} | {"".join(x) for x in itertools.product(ROOTS, SUFFIXES, SUFFIXES)}
    return "".join(f"{w} {s.stem(w)}\n" for w in sorted(R.sample(sorted(w for w in words if len(w) > 3), 4000)))


def main():
    cases = [case(*t) for t in FIXED + [texts() for _ in range(260)]]
    dump = lambda x: json.dumps(json.loads(json.dumps(x), parse_float=lambda f: round(float(f), 10)), ensure_ascii=False, separators=(",", ":"))
    (HERE / "cases.jsonl").write_text("".join(dump(c) + "\n" for c in cases))
    (HERE / "corpora.jsonl").write_text("".join(dump(c) + "\n" for c in corpora(cases)))
    (HERE / "stems.txt").write_text(stems())


main()
