#!/usr/bin/env python3
"""Makes tests/vectors/tokenizer/: small tokenizers and what the reference packages do with hard texts.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 gguf==0.19.0 tiktoken==0.14.0 mistral-common==1.13.1 \
        transformers==5.24.0
    python tests/vectors/make_tokenizers.py

Deterministic, except that training by `sentencepiece` is only deterministic on one version. tokenizer/README.md says
what the files hold.
"""

import base64
import copy
import io
import json
import os
import random
import re
import unicodedata

import gguf
import sentencepiece
import tiktoken
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import (Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)
from transformers import GPT2Tokenizer, GPTNeoXTokenizer, Qwen2Tokenizer

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
CORPUS = open(os.path.join(HERE, "corpus.txt"), encoding="utf-8").read()

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UP}*{LOW}+|[^\r\n\p{{L}}\p{{N}}]?{UP}+{LOW}*|\p{{N}}" + TAIL)
END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UP}*{LOW}+{END}|[^\r\n\p{{L}}\p{{N}}]?{UP}+{LOW}*{END}|\p{{N}}{{1,3}}" + TAIL)
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
          r"|\s*[\r\n]|\s+(?!\S)|\s")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        + END + r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        + END + r"|\p{N}{1,3}" + TAIL)
DEEPSEEK3 = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
             r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+"]
CJK = "[" + "\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff" + "]+"
DEEPSEEK_CODER = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"]
def ranges(text):
    """ "41-5a b5": a character class of these code points."""
    return "[" + "".join("-".join(chr(int(c, 16)) for c in part.split("-")) for part in text.split()) + "]"


# the cased letters of the published pattern
LETTERS = ranges(
    "41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c "
    "38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b "
    "1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 "
    "1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 "
    "2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b "
    "2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 "
    "fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df "
    "1e900-1e943")
DEEPSEEK_LLM = [r"[\r\n]", r"\s?" + LETTERS + "+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", CJK, r"\p{N}+"]
FALCON = [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]
DEFAULT = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]

# the publishers' own patterns where sirocco's table has another that cuts alike
WORDS = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + \
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
ASIAN = ("[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
         "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+")
BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
YOUTU = ("[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
         "|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+")
JAIS2 = LLAMA3[:-len(r"\s+(?!\S)|\s+")] + "".join(rf"\s{{{1 << k}}}(?!\S)|" for k in range(9, 1, -1)) + r"\s{1,2}(?!\S)|\s{1}"
# pre-tokenizers that are compared by their pieces alone
MORE_PRE = {
    "qwen35": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
               r"|\s+(?!\S)|\s+"],
    "seed-coder": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "exaone-moe": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"
                   r"|\s*[\r\n]|\s+(?!\S)|\s+"],
    "jais-2": [JAIS2],
    "dbrx": [LLAMA3],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O],
    "youtu": [YOUTU, GPT4O.replace(r"\p{N}{1,3}", r"\p{N}")],
    "kimi-k2": [KIMI.replace(r"[\r\n/]*", r"[\r\n]*")],
    "afmoe": [r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", ASIAN, WORDS],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "bloom": [BLOOM],
    "viking": [BLOOM, r"\p{N}"],
    "chameleon": [r"<sentinel:[0-9]+>", r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", GPT2],
}

PRE = {"gpt-2": [GPT2], "llama-bpe": [LLAMA3],
       "qwen2": [QWEN2], "deepseek-llm": DEEPSEEK_LLM,
       "deepseek-coder": DEEPSEEK_CODER, "deepseek-v3": DEEPSEEK3, "falcon": FALCON,
       "starcoder": [r"\p{N}", GPT2], "tekken": [TEKKEN], "gpt-4o": [GPT4O], "default": DEFAULT}

HARD = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\t", "\t\t x", " \n", "\n ", "a", " a", "a ", "  a  b   c    ",
    "Hello", "Hello world", " Hello", "Hello World!", "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
    "I'm you're we've they'll he'd it's can't 'S 'T 'RE 'Ve 'M 'LL 'd 'x", "a'ſb'ſt 'ſ Kelvin K K's don'Kt ſt ẞß",
    "1", "12", "123", "1234", "12345", "123456789", "3.14159e-10", "1,000,000", "0x1F 0b01", "½ ² ³ Ⅷ ⅷ ① 一二三 ٣٤٥ १२३ 𝟘𝟙",
    "१२३४५ ٠١٢٣٤", "abc123def456", "123abc", "v1.2.3-rc4", "<|endoftext|>", "a<|endoftext|>b", "<s>hello</s>", "</s>",
    "<unk>", "[INST] hi [/INST]", "<|im_start|>user\nhi<|im_end|>\n", "<0x0A>", "<0x41><0xZZ><0x", "▁a▁b", " ▁ a",
    "é", "e\u0301", "Å Å A\u030a", "o\u0308\u0304 \u1e2b", "\u0301abc", "q\u0323\u0307 q\u0307\u0323", "ﬁ ﬃ ﬀ", "Ａｂｃ １２３ ｶﾞ",
    "각 가\u11a8 ᄀ\u1161", "ﷺ", "İstanbul ı I i", "STRASSE Straße ẞ", "ǅ ǈ ǲ", "ΑΣ ΣΑΣ",
    "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "👍🏽", "☺️ ☺︎", "😀😁😂🤣", "a\u200db", "a\u200bb", "\ufeffabc", "a\u00a0b", "a\u2003b\u3000c",
    "a\u180eb", "a\u0085b", "a\u2028b\u2029c", "\x00", "a\x00b", "\x01\x02\x7f\x80", "\x1b[0m", "soft\u00adhyphen",
    "漢字かな交じり文", "中文,标点。「引用」", "한국어 텍스트", "ภาษาไทย", "हिन्दी", "עברית שלום", "العربية", "Ελληνικά", "Русский текст",
    "Ⰰⱁ Ა ა Ꭰ ꭰ", "𐐀𐐨 𝒜𝓑", "\U0010ffff \ue000", "abc\ufffddef", "http://example.com/a?b=c&d=e#f", "foo_bar->baz::qux<T>(x);",
    "for (int i = 0; i < n; i++) {\n\tprintf(\"%d\\n\", a[i]);\n}\n", "def f(x):\n    return x  # comment\n\n\n", "{\"a\": [1, 2.5, null]}",
    "...", "!!!???", "-----", "=====\n", "***bold*** __x__", "`code` ```\nblock\n```", "$x^2 + y_1$", "“quoted” ‘single’ — dash – …",
    "a\rb", "a\n\n\nb", "a \n \n b", "a  \n\n  b\n", "\t\n \t\n", "   \n   x", "x   \n", "x\n   ", "end.  ", "CamelCaseWords XMLHttpRequest iPhone",
    "ALLCAPS lower Title", "ÀÉÎ àéî ǅx", "don’t", "naïve café façade", "e\u0301\u0302\u0303", "x" + "\u0301" * 40, "x" + "\u0301\u0323" * 30,
    "a" * 50, "a" * 200, "ab" * 60, " " * 45, " " * 64 + "x", "\n" * 50, "1" * 50, "漢" * 50, "é" * 50, "😀" * 20, "-" * 60, "\t" * 45,
    "the " * 20, "thethethe" * 10, "abcdefghijklmnopqrstuvwxyz" * 4, "Once upon a time there was a king.",
    "[DAY]", "monday", "Monday MONDAY", "a  tok  b", "<left>  x", "x   <left>", "<right>   x", "  <both>  ", "aword word words (word)",
    "xwordx word-word", "abcd", "abc abcd ab", "yesterday Yesterday", "é<left>é", "<special>", "a <special> b", "  <special>", "TOK tok Tok",
    "CAFÉ café", "<left><right><both>", "  <left>  <right>  <both>  ", "1<left>2", "ab abc abcde abcdabcd",
]


def random_texts():
    rng = random.Random(7)
    alphabets = ["abcdefghij  ", "aAbB'stdmrvel ", "0123456789., ", " \n\r\t a", "é漢😀\u0301 a\u200d", "!?-.,;:'\" a1",
                 "".join(chr(c) for c in range(32, 127)), "".join(chr(c) for c in range(0xA0, 0x250)),
                 "".join(chr(c) for c in list(range(0x300, 0x320)) + list(range(0x41, 0x60)) + list(range(0xAC00, 0xAC20)))]
    out = []
    for i in range(54):
        a = alphabets[i % len(alphabets)]
        out.append("".join(rng.choice(a) for _ in range(rng.randrange(1, 60))))
    for i in range(12):  # any assigned character of the first planes
        s = ""
        while len(s) < 30:
            c = rng.choice([rng.randrange(0x20, 0x3000), rng.randrange(0x3000, 0xD800), rng.randrange(0x1F300, 0x1F650)])
            # what Unicode 14 assigned: later characters differ between libraries, not between algorithms
            if unicodedata.category(chr(c)) != "Cn":
                s += chr(c)
        out.append(s)
    for i in range(8):
        at = rng.randrange(len(CORPUS) - 300)
        out.append(CORPUS[at:at + 250])
    return out


TEXTS = HARD + random_texts()


def leb(v):
    out = b""
    while v >= 128:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def pack_ids(ids):
    return leb(len(ids)) + b"".join(leb(i) for i in ids)


def pack_text(b):
    return leb(len(b)) + b


def write_texts():
    out = leb(len(TEXTS)) + b"".join(pack_text(t.encode()) for t in TEXTS)
    open(os.path.join(HERE, "texts.bin"), "wb").write(out)


def write_expected(path, front, back, rows, sequences):
    """rows: per text (ids, decoded) or None (not compared), decoded None: not compared; sequences: (ids, decoded)."""
    out = pack_ids(front) + pack_ids(back) + leb(len(rows))
    for text, row in zip(TEXTS, rows):
        # 0: not compared; 1: ids only; 2: decoding gives the text again; 3: decoding gives what follows
        kind = 0 if row is None else 1 if row[1] is None else 2 if row[1] == text else 3
        out += bytes([kind])
        if kind:
            out += pack_ids(row[0])
        if kind == 3:
            out += pack_text(row[1].encode())
    out += leb(len(sequences))
    for ids, text in sequences:
        out += pack_ids(ids) + pack_text(text.encode())
    open(path, "wb").write(out)


def expect(t, path, n_sequences=40, decode=True):
    rows, frame = [], t.encode("").ids
    for s in TEXTS:
        framed, plain = t.encode(s).ids, t.encode(s, add_special_tokens=False).ids
        n_front = max(k for k in range(len(frame) + 1) if framed == frame[:k] + plain + frame[k:])
        rows.append((plain, t.decode(framed, skip_special_tokens=True) if decode else None))
        front, back = (frame[:n_front], frame[n_front:]) if plain else (frame, [])
    # decode=False: added tokens that a normalizer changes; the package then decodes the changed spelling and does not
    # know it for special, sirocco decodes the token's own
    rng, sequences = random.Random(3), []
    n = t.get_vocab_size()
    fallback = '"ByteFallback"' in t.to_str()
    while decode and len(sequences) < n_sequences:
        ids = [rng.randrange(n) for _ in range(rng.randrange(1, 12))]
        text = t.decode(ids, skip_special_tokens=True)
        if fallback and "\ufffd" in text:
            continue  # the package spoils whole runs of byte tokens; a stream cannot take back what was valid
        sequences.append((ids, text))
    write_expected(path, front, back, rows, sequences)


def save(name, spec, decode=True):
    """spec: a tokenizer.json as a dict."""
    d = os.path.join(HERE, name)
    os.makedirs(d, exist_ok=True)
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    open(os.path.join(d, "tokenizer.json"), "w", encoding="utf-8").write(text)
    expect(Tokenizer.from_str(text), os.path.join(d, "expected.bin"), decode=decode)


def j(x):
    """The JSON of a component, as the package writes it."""
    t = Tokenizer(models.BPE())
    if isinstance(x, normalizers.Normalizer):
        t.normalizer = x
        return json.loads(t.to_str())["normalizer"]
    if isinstance(x, pre_tokenizers.PreTokenizer):
        t.pre_tokenizer = x
        return json.loads(t.to_str())["pre_tokenizer"]
    if isinstance(x, decoders.Decoder):
        t.decoder = x
        return json.loads(t.to_str())["decoder"]
    t.post_processor = x
    return json.loads(t.to_str())["post_processor"]


def train(pre, size, normalizer=None, initial=None, special=(), **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre
    if normalizer:
        t.normalizer = normalizer
    extra = {k: v for k, v in model.items() if k in ("continuing_subword_prefix", "end_of_word_suffix")}
    more = "The year 1984, 2024 and 1234567. CamelCase don't I'm 漢字 漢字 가나 😀😀 éé naïve\n\n\t\tif (x == 10) {\n" * 20
    t.train_from_iterator([CORPUS, more], trainers.BpeTrainer(vocab_size=size, initial_alphabet=initial or [], show_progress=False,
                                                              special_tokens=list(special), **extra))
    return json.loads(t.to_str())


def added(start, *tokens):
    out = []
    for i, (content, flags) in enumerate(tokens):
        a = {"id": start + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": False}
        for f in flags.split():
            a[f] = True
        out.append(a)
    return out


def spec_of(base, normalizer=None, pre=None, post=None, decoder=None, extra=(), **model):
    s = copy.deepcopy(base)
    s["normalizer"] = j(normalizer) if normalizer is not None else None
    s["pre_tokenizer"] = j(pre) if pre is not None else None
    s["post_processor"] = j(post) if post is not None else None
    s["decoder"] = j(decoder) if decoder is not None else None
    s["added_tokens"] = added(len(s["model"]["vocab"]), *extra)
    s["model"].update(model)
    return s


def byte_level_all():
    P, seq = pre_tokenizers, pre_tokenizers.Sequence
    raw = P.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = P.ByteLevel.alphabet()
    dec = decoders.ByteLevel()
    split = lambda *ps: seq([P.Split(Regex(p), "isolated") for p in ps] + [raw])
    # Without a split merges cross every border, so that a wrong split shows in the ids.
    base = train(seq([P.Split(Regex(r"[\s\S]{1,40}"), "isolated"), raw]), 480, initial=alphabet)
    words = train(P.ByteLevel(add_prefix_space=False), 420, initial=alphabet)
    n = len(base["model"]["vocab"])
    chat = [("<|endoftext|>", "special"), ("<|im_start|>", "special"), ("<|im_end|>", "special"), ("<tool>", "")]
    bos = processors.TemplateProcessing(single="<|endoftext|> $A", pair="<|endoftext|> $A $B", special_tokens=[("<|endoftext|>", n)])
    both = processors.TemplateProcessing(single="<|im_start|> $A <|im_end|> <|endoftext|>", special_tokens=[
        ("<|endoftext|>", n), ("<|im_start|>", n + 1), ("<|im_end|>", n + 2)])

    save("gpt2", spec_of(words, pre=P.ByteLevel(add_prefix_space=False), decoder=dec, post=processors.ByteLevel(), extra=chat[:1]))
    save("gpt2_prefix_space", spec_of(words, pre=P.ByteLevel(add_prefix_space=True), decoder=dec))
    save("llama3", spec_of(base, pre=split(LLAMA3), decoder=dec, post=processors.Sequence([processors.ByteLevel(), bos]),
                           extra=chat, ignore_merges=True))
    save("qwen2", spec_of(base, normalizer=normalizers.NFC(), pre=split(QWEN2), decoder=dec, extra=chat))
    save("template", spec_of(base, pre=split(QWEN2), decoder=dec, post=both, extra=chat))
    save("starcoder", spec_of(base, pre=seq([P.Digits(True), P.ByteLevel(add_prefix_space=False)]), decoder=dec))
    save("falcon", spec_of(base, pre=seq([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(False),
                                          P.Split(Regex("[0-9][0-9][0-9]"), "isolated")]), decoder=dec))
    save("cl100k", spec_of(base, pre=split(CL100K), decoder=dec))
    save("kimi", spec_of(base, pre=split(KIMI), decoder=dec))
    save("roberta", spec_of(words, pre=P.ByteLevel(add_prefix_space=True), decoder=dec, extra=[("<s>", "special"), ("</s>", "special")],
                            post=processors.RobertaProcessing(("</s>", 421), ("<s>", 420))))
    for name, ps in PRE.items():
        ignore = name in ("llama-bpe", "tekken")
        s = spec_of(base, pre=split(*ps), decoder=dec, extra=chat, ignore_merges=ignore,
                    post=bos if ignore else None)
        write_gpt2_gguf(name, s)


def vocab_all():
    """vocab.json with merges.txt, which the classes of transformers read."""
    words, base = (json.load(open(os.path.join(HERE, name, "tokenizer.json")))["model"] for name in ("gpt2", "qwen2"))
    n = len(base["vocab"])
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>"]
    decoder = {str(n + i): {"content": c, "special": i < 3, "lstrip": i == 2, "rstrip": i == 1} for i, c in enumerate(names)}
    for name, kind, model, files in (
            ("vocab_gpt2", GPT2Tokenizer, {**words, "vocab": {**words["vocab"], "<|endoftext|>": len(words["vocab"])}}, {}),
            ("vocab_qwen2", Qwen2Tokenizer, base, {
                "added_tokens": {c: n + i for i, c in enumerate(names)},
                "tokenizer_config": {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": {"__type": "AddedToken", "content": "<|endoftext|>", "special": True},
                                     "additional_special_tokens": names[1:3]}}),
            ("vocab_neox", GPTNeoXTokenizer, base, {
                "tokenizer_config": {"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": True, "added_tokens_decoder": decoder}})):
        d = os.path.join(HERE, name)
        os.makedirs(d, exist_ok=True)
        for stem, content in {"vocab": model["vocab"], **files}.items():
            with open(os.path.join(d, stem + ".json"), "w", encoding="utf-8") as f:
                json.dump(content, f, ensure_ascii=stem == "vocab_qwen2", separators=(",", ":"))
        with open(os.path.join(d, "merges.txt"), "w", encoding="utf-8") as f:
            f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in (m.split(" ") if isinstance(m, str) else m for m in model["merges"])))
        expect(kind.from_pretrained(d).backend_tokenizer, os.path.join(d, "expected.bin"))


def splits_all():
    """Pieces of every text under lists of patterns: pre-NAME are those that GGUF files call NAME."""
    sets = {"pre-" + k: v for k, v in {**PRE, **MORE_PRE}.items()}
    sets.update({"cl100k": [CL100K], "kimi": [KIMI], "words": [r"\w+|\W+"], "not words": [r"\W"], "bounds": [r"\b"],
                 "no bounds": [r"\B.\B"], "hex": [r"\h+|\H"], "interval": [r"[a-z]{,2}|\d{2,}"], "posix": [r"[[:alpha:]]+|[[:punct:]]"],
                 "posix digits": [r"[[:digit:][:space:]]+"], "scripts": [r"\p{Hiragana}+|\p{Katakana}|\p{Cyrillic}+|\p{Greek}|\p{Latin}+"],
                 "names": [r"\p{Uppercase_Letter}|\p{Lowercase_Letter}+|\p{Number}+|\p{^Letter}"], "caseless": [r"(?i)THE|k|s+|[a-f]+"],
                 "lines": [r"^.|.$"], "unicode": [r"\u00e9|\x{6f22}|\t"], "atomic": [r"(?>a+)b|(?<=a)b|(?<!b)c|a(?=b)"],
                 "union": [r"[a-c[x-z]]+|[^a[bc]]"], "nested": [r"[[^a-z]&&[^0-9]]+"], "any line": [r"\R"]})
    out = leb(len(sets))
    for name, patterns in sets.items():
        pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])
        out += pack_text(name.encode()) + leb(len(patterns)) + b"".join(pack_text(p.encode()) for p in patterns)
        for t in TEXTS:
            out += pack_ids([len(piece.encode()) for piece, _ in pre.pre_tokenize_str(t)])
    open(os.path.join(HERE, "splits.bin"), "wb").write(out)


def write_gpt2_gguf(name, spec):
    path = os.path.join(HERE, f"pre-{name}.gguf")
    w = gguf.GGUFWriter(path, "llama")
    vocab = sorted(spec["model"]["vocab"].items(), key=lambda kv: kv[1])
    tokens = [k for k, _ in vocab] + [a["content"] for a in spec["added_tokens"]]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(name)
    w.add_token_list(tokens)
    w.add_token_types([1] * len(vocab) + [3 if a["special"] else 4 for a in spec["added_tokens"]])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]])
    w.add_bos_token_id(len(vocab))
    w.add_eos_token_id(len(vocab) + 2)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    expect(Tokenizer.from_str(json.dumps(spec)), os.path.join(HERE, f"pre-{name}.expected.bin"), 20)


def metaspace_all():
    P, N, D = pre_tokenizers, normalizers, decoders
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    llama_norm = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
    llama_dec = D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])
    gemma_dec = D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse()])
    special = ["<unk>", "<s>", "</s>"]
    base = train(P.Split(Regex(r"[\s\S]{1,30}"), "isolated"), 700, normalizer=llama_norm, special=special + bytes_, unk_token="<unk>")
    words = train(P.Metaspace(), 400, special=special, unk_token="<unk>")
    bos = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])

    def with_special(s, flags="special"):
        s["added_tokens"] = added(0, *[(x, flags) for x in special])
        return s

    save("llama2", with_special(spec_of(base, normalizer=llama_norm, decoder=llama_dec, post=bos, byte_fallback=True, fuse_unk=True)))
    save("llama2_normalized", with_special(spec_of(base, normalizer=llama_norm, decoder=llama_dec, post=bos, byte_fallback=True,
                                                   fuse_unk=True), "special normalized"), decode=False)
    save("gemma", with_special(spec_of(base, normalizer=N.Replace(" ", "▁"), pre=P.Split(" ", "merged_with_previous"),
                                       decoder=gemma_dec, byte_fallback=True, fuse_unk=True)))
    for scheme in ("first", "always", "never"):
        s = spec_of(words, pre=P.Metaspace(prepend_scheme=scheme), decoder=D.Metaspace(prepend_scheme=scheme), fuse_unk=scheme == "first")
        save(f"metaspace_{scheme}", with_special(s))
    s = spec_of(words, pre=P.Metaspace(prepend_scheme="first", split=False), decoder=D.Metaspace(prepend_scheme="first"))
    save("metaspace_whole", with_special(s))
    legacy = with_special(spec_of(words, pre=P.Metaspace(), decoder=D.Metaspace()))
    for part in (legacy["pre_tokenizer"], legacy["decoder"]):
        del part["prepend_scheme"]
        part["add_prefix_space"] = True
    save("metaspace_legacy", legacy)


def split_all():
    P, N, D = pre_tokenizers, normalizers, decoders
    base = train(P.Split(Regex(r"[\s\S]{1,20}"), "isolated"), 330, special=["<unk>"], unk_token="<unk>")
    fuse = D.Fuse()
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            s = spec_of(base, pre=P.Split(Regex(r"\s|[aeiou]+"), behavior, invert), decoder=fuse)
            save(f"split_{behavior}" + ("_invert" if invert else ""), s)
    save("split_string", spec_of(base, pre=P.Sequence([P.Split("the", "merged_with_next"), P.Split(".", "removed")]), decoder=fuse))
    save("split_empty_match", spec_of(base, pre=P.Split(Regex(r"a*"), "contiguous"), decoder=fuse))
    save("split_syntax", spec_of(base, pre=P.Sequence([P.Split(Regex(r"\w+\b|\h{2}|[^\S\n]"), "isolated"), P.Split(Regex(r"[a-z&&[^aeiou]]+"),
                                                     "isolated"), P.Split(Regex(r"(?m:x.y)|^.|\p{Letter}{2,3}+$"), "contiguous")]), decoder=fuse))
    save("whitespace", spec_of(base, pre=P.Whitespace(), decoder=fuse, fuse_unk=True))
    save("whitespace_split", spec_of(base, pre=P.Sequence([P.WhitespaceSplit(), P.Punctuation("merged_with_previous")]), decoder=fuse))
    save("digits", spec_of(base, pre=P.Sequence([P.Digits(False), P.Punctuation()]), decoder=fuse))
    affix = train(P.Whitespace(), 300, special=["<unk>"], unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>")
    save("affixes", spec_of(affix, pre=P.Whitespace(), decoder=fuse))
    save("normal_nfd", spec_of(base, normalizer=N.Sequence([N.NFD(), N.StripAccents(), N.Lowercase()]), decoder=fuse))
    save("normal_nfkc", spec_of(base, normalizer=N.Sequence([N.NFKC(), N.Strip()]), decoder=fuse))
    save("normal_nfkd", spec_of(base, normalizer=N.Sequence([N.NFKD(), N.Strip(left=False), N.Replace(Regex(r"\s+"), " "), N.Replace("a", "bb")]),
                                decoder=fuse))
    many = [("<left>", "lstrip"), ("<right>", "rstrip"), ("<both>", "lstrip rstrip"), ("word", "single_word"), ("tok", "single_word normalized"),
            ("<special>", "special"), ("<both special>", "special lstrip rstrip"), ("abc", ""), ("abcd", ""), ("ab", "normalized"),
            ("Yesterday", "normalized"), ("café", "normalized lstrip"), ("[DAY]", "normalized single_word"), ("monday", "normalized rstrip")]
    save("added_flags", spec_of(base, decoder=fuse, extra=many))
    save("added_flags_normalized", spec_of(base, normalizer=N.Sequence([N.Lowercase(), N.NFD()]), pre=P.Split(Regex(r"\s+"), "isolated"),
                                           decoder=fuse, extra=many), decode=False)


# ---------------------------------------------------------------- SentencePiece

def rare_all():
    """Pre-tokenizers and decoders that few files have."""
    P, D = pre_tokenizers, decoders
    base = json.load(open(os.path.join(HERE, "split_removed", "tokenizer.json"), encoding="utf-8"))
    save("unicode_scripts", spec_of(base, pre=P.UnicodeScripts(), decoder=D.Fuse()))
    ends = train(P.Whitespace(), 300, special=["<unk>"], unk_token="<unk>", end_of_word_suffix="</w>")
    save("bpe_decoder", spec_of(ends, pre=P.Whitespace(), decoder=D.BPEDecoder("</w>")))
    letters = {c: i for i, c in enumerate(["<pad>", "|", "<s>", "n't", " ."] + list("etaoinshrdlucmfwypvbgk'."))}
    model = {"model": {"type": "WordLevel", "vocab": letters, "unk_token": "<pad>"}}
    for cleanup in (True, False):
        ctc = spec_of({**base, **model}, pre=P.Split(Regex("."), "isolated"), decoder=D.CTC("<pad>", "|", cleanup))
        ctc["added_tokens"] = added(2, ("<s>", "special"))
        save("ctc" if cleanup else "ctc_plain", ctc)


def spm_model():
    out = io.BytesIO()
    lines = [x for x in CORPUS.split("\n") if x]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=700, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=0.999, num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def write_spm_gguf(path, tokens, scores, types, prefix=None):
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    if prefix is not None:
        w.add_add_space_prefix(prefix)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def naive_spm(text, table, byte_ids):
    """models.md: merge the adjacent pair whose text has the best score, the leftmost of equals, until there is none."""
    parts = list(text)
    while True:
        best = None
        for i in range(len(parts) - 1):
            hit = table.get(parts[i] + parts[i + 1])
            if hit and (best is None or hit[1] > best[0]):
                best = (hit[1], i)
        if best is None:
            break
        i = best[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    out = []
    for p in parts:
        out += [table[p][0]] if p in table else [byte_ids[b] for b in p.encode()]
    return out


def cut(text, cuts):
    """Leftmost-longest: ("text", s) and ("token", id)."""
    out, at, begin = [], 0, 0
    while at < len(text):
        hit = max((c for c in cuts if text.startswith(c, at)), key=len, default=None)
        if hit is None:
            at += 1
            continue
        if begin < at:
            out.append(("text", text[begin:at]))
        out.append(("token", cuts[hit]))
        at += len(hit)
        begin = at
    if begin < len(text):
        out.append(("text", text[begin:]))
    return out


def spm_all():
    sp = spm_model()
    n = sp.get_piece_size()
    tokens = [sp.id_to_piece(i) for i in range(n)]
    scores = [sp.get_score(i) for i in range(n)]
    types = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 5 if sp.is_unused(i) else 1 for i in range(n)]
    write_spm_gguf(os.path.join(HERE, "spm.gguf"), tokens, scores, types)
    rows = []
    for s in TEXTS:
        ids = sp.encode(s) if "\0" not in s else None
        if ids is None or any(m in s for m in ("<unk>", "<s>", "</s>", "<0x")):
            rows.append(None)  # spellings of tokens, and U+0000: another matter there
        else:
            rows.append((ids, sp.decode(ids)))
    write_expected(os.path.join(HERE, "spm.expected.bin"), [1], [], rows, [])

    # the same with user-defined and control tokens, no space prefix, equal scores: against the naive algorithm
    tokens += ["<tool>", "the king", "<|end|>", "\n\n\n"]
    types += [4, 4, 3, 4]
    scores = [round(x / 40) * 40.0 for x in scores] + [0.0] * 4
    across = ["e▁t", "d▁a", "▁a▁", "a▁"]  # with these, words are not merged one by one
    for prefix in (True, False):
        name = "spm_naive" if prefix else "spm_naive_no_prefix"
        if not prefix:
            tokens, types, scores = tokens + across, types + [1] * len(across), scores + [-200.0, -40.0, 0.0, -80.0]
        table, byte_ids, cuts = {}, {}, {}
        for i, (k, t) in enumerate(zip(tokens, types)):
            table.setdefault(k, (i, scores[i]))
            if t == 6:
                byte_ids[int(k[3:5], 16)] = i
            if t in (2, 3, 4):
                cuts[k] = i
        write_spm_gguf(os.path.join(HERE, name + ".gguf"), tokens, scores, types, prefix)
        rows = []
        for s in TEXTS:
            ids, after = [], True
            for kind, x in cut(s, cuts):
                if kind == "token":
                    ids.append(x)
                    after = True
                else:
                    ids += naive_spm((("▁" if prefix and after else "") + x).replace(" ", "▁"), table, byte_ids)
                    after = False
            rows.append((ids, None))
        write_expected(os.path.join(HERE, name + ".expected.bin"), [1], [], rows, [])

# ---------------------------------------------------------------- models that find pieces

def rules():
    """A small normalization table: what NFKC does to some characters, and strings of several."""
    out = {"\r\n": " ", "\r": " ", "\n": " ", "\t": " ", "\u00a0": " ", "\u3000": " ", "\u200b": "", "\u00ad": "", "...": "…", "'s": "’s"}
    for c in list(range(0xA0, 0x180)) + list(range(0x2100, 0x2190)) + list(range(0x2460, 0x2470)) + list(range(0xFB00, 0xFB07)) + \
            list(range(0xFF01, 0xFF60)) + [0xFDFA, 0x1E9E, 0x1D7D8]:
        if unicodedata.normalize("NFKC", chr(c)) != chr(c):
            out[chr(c)] = unicodedata.normalize("NFKC", chr(c))
    for base in "aeioucAEIOUC":
        for mark in "\u0300\u0301\u0302\u0308\u030a\u0327":
            whole = unicodedata.normalize("NFKC", base + mark)
            if len(whole) == 1:
                out[base + mark] = whole
    return out


def sentencepiece_model(**options):
    path = os.path.join(HERE, "rules.tsv")
    lines = [x for x in (CORPUS + "\ncafé naïve 漢字 かな 가나 1234 (x == 10) {}\n" * 5).split("\n") if x]
    out = io.BytesIO()
    if options.pop("rules", False):
        with open(path, "w", encoding="utf-8") as f:
            for k, v in rules().items():
                f.write(" ".join(f"{ord(c):X}" for c in k) + "\t" + " ".join(f"{ord(c):X}" for c in v) + "\n")
        options["normalization_rule_tsv"] = path
    else:
        options["normalization_rule_name"] = "identity"
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, num_threads=1, minloglevel=2,
                                             character_coverage=0.999, hard_vocab_limit=False, **options)
    if os.path.exists(path):
        os.remove(path)
    return out.getvalue()


def proto(data):
    import sentencepiece.sentencepiece_model_pb2 as pb
    m = pb.ModelProto()
    m.ParseFromString(data)
    m.trainer_spec.ClearField("input_sentence_size")
    for field in ("input", "model_prefix", "normalization_rule_tsv"):
        for spec in (m.trainer_spec, m.normalizer_spec):
            if field in spec.DESCRIPTOR.fields_by_name:
                spec.ClearField(field)
    return m


def expect_sentencepiece(sp, path, front=(), back=(), n_sequences=40, cuts=None, bytes_=False, compare=lambda s: True):
    """cuts: texts of added tokens, cut out first; what lies between is encoded on its own."""
    rows, unk = [], sp.unk_id()
    for s in TEXTS:
        if "\0" in s or not compare(s):
            rows.append(None)
            continue
        ids = []
        for kind, x in cut(s, cuts) if cuts else [("text", s)]:
            ids += [x] if kind == "token" else sp.encode(x)
        known = unk not in ids and not (cuts and set(ids) & set(cuts.values()))
        rows.append((ids, sp.decode(ids) if known else None))
    rng, sequences = random.Random(5), []
    while len(sequences) < n_sequences:
        ids = [rng.randrange(sp.get_piece_size()) for _ in range(rng.randrange(1, 12))]
        if unk not in ids:
            sequences.append((ids, sp.decode(ids)))
    write_expected(path, list(front), list(back), rows, sequences)


def save_sentencepiece(name, data, config=None, **more):
    d = os.path.join(HERE, name)
    os.makedirs(d, exist_ok=True)
    m = proto(data)
    open(os.path.join(d, "tokenizer.model"), "wb").write(m.SerializeToString())
    if config:
        open(os.path.join(d, "tokenizer_config.json"), "w").write(json.dumps(config))
    expect_sentencepiece(sentencepiece.SentencePieceProcessor(model_proto=m.SerializeToString()), os.path.join(d, "expected.bin"), **more)
    return m


def write_pieces_gguf(path, model, tokens, scores=None, types=None, charsmap=None, **values):
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model(model)
    w.add_token_list(tokens)
    if scores:
        w.add_token_scores(scores)
    if types:
        w.add_token_types(types)
    if charsmap:
        w.add_precompiled_charsmap(charsmap)
    for k, v in values.items():
        if isinstance(v, bool):
            w.add_bool("tokenizer.ggml." + k, v)
        elif isinstance(v, int):
            w.add_uint32("tokenizer.ggml." + k, v)
        else:
            w.add_array("tokenizer.ggml." + k, v)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def pieces_all():
    N, P, D = normalizers, pre_tokenizers, decoders
    uni = save_sentencepiece("sp_unigram", sentencepiece_model(model_type="unigram", vocab_size=420, rules=True, unk_id=2, eos_id=1, bos_id=-1,
                                                               pad_id=0), back=[1])
    write_pieces_gguf(os.path.join(HERE, "t5.gguf"), "t5", [p.piece for p in uni.pieces], [p.score for p in uni.pieces], [p.type for p in uni.pieces],
                      uni.normalizer_spec.precompiled_charsmap, add_space_prefix=True, remove_extra_whitespaces=True)
    save_sentencepiece("sp_unigram_bytes", sentencepiece_model(
        model_type="unigram", vocab_size=640, byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False, split_digits=True,
        user_defined_symbols=["<tool>", "the king", "return", "漢字"]), back=[2])
    save_sentencepiece("sp_suffix", sentencepiece_model(model_type="unigram", vocab_size=300, treat_whitespace_as_suffix=True), back=[2])
    bpe = sentencepiece_model(model_type="bpe", vocab_size=600, byte_fallback=True, remove_extra_whitespaces=False, split_digits=True,
                              allow_whitespace_only_pieces=True)
    n = proto(bpe).pieces.__len__()
    chat = {str(n + 1): {"content": "<|im_start|>", "special": True}, str(n + 2): {"content": "<|im_end|>", "special": True},
            str(n + 4): {"content": "[DAY]", "special": False, "normalized": False}, "2": {"content": "</s>", "special": True}}
    save_sentencepiece("sp_bpe", bpe, {"added_tokens_decoder": chat, "bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}}, front=[1],
                       cuts={"<|im_start|>": n + 1, "<|im_end|>": n + 2, "[DAY]": n + 4, "</s>": 2, "<s>": 1, "<unk>": 0})

    # tokenizer.json, the same pieces
    vocab = [[p.piece, p.score] for p in uni.pieces]
    charsmap = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(uni.normalizer_spec.precompiled_charsmap).decode()}
    special = added(0, ("<pad>", "special"), ("</s>", "special"), ("<unk>", "special"))
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": charsmap, "pre_tokenizer": j(P.Metaspace()),
            "post_processor": j(processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])), "decoder": j(D.Metaspace()),
            "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": False}}
    save("unigram", base)
    s = copy.deepcopy(base)
    s["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    s["model"]["byte_fallback"] = True
    s["normalizer"] = {"type": "Sequence", "normalizers": [charsmap, j(N.Replace(Regex(" {2,}"), " "))]}
    s["pre_tokenizer"] = j(P.Metaspace(prepend_scheme="first", split=False))
    s["decoder"] = j(D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)]))
    save("unigram_bytes", s)

    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    t.normalizer, t.pre_tokenizer = N.BertNormalizer(), P.BertPreTokenizer()
    t.train_from_iterator([CORPUS, "café naïve don't 漢字 かな 1234 ! ? # 😀\n" * 20], trainers.WordPieceTrainer(
        vocab_size=520, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    word = json.loads(t.to_str())
    word["decoder"] = j(D.WordPiece())
    word["post_processor"] = j(processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]))
    save("wordpiece", word)
    tokens = [k for k, _ in sorted(word["model"]["vocab"].items(), key=lambda kv: kv[1])]
    del word["model"]["max_input_chars_per_word"]
    word["model"]["max_input_chars_per_word"] = 10 ** 6  # GGUF says nothing of it
    word["decoder"] = None
    write_pieces_gguf(os.path.join(HERE, "bert.gguf"), "bert",
                      [x if i < 5 else x[2:] if x.startswith("##") else "▁" + x for i, x in enumerate(tokens)], types=[3] * 5 + [1] * (len(tokens) - 5),
                      bos_token_id=2, eos_token_id=3, unknown_token_id=1, seperator_token_id=3, padding_token_id=0, cls_token_id=2, mask_token_id=4)
    # decode is compared with tokenizer.json's alone: GGUF's has no list of what punctuation loses
    rows, r = [], Tokenizer.from_str(json.dumps(word))
    for text in TEXTS:
        # GGUF's words are marked, so a piece of the middle never equals one of the begin
        rows.append((r.encode(text, add_special_tokens=False).ids, None))
    write_expected(os.path.join(HERE, "bert.expected.bin"), [2], [3], rows, [])
    cased = copy.deepcopy(word)
    cased["normalizer"] = j(N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False))
    cased["decoder"] = j(D.WordPiece(prefix="##", cleanup=False))
    cased["post_processor"] = j(processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)))
    save("wordpiece_cased", cased)
    words = {"[UNK]": 0, "[X]": 1, **{w: i + 2 for i, w in enumerate(dict.fromkeys((CORPUS + " a b the 1 ! , .").split()[:300]))}}
    save("wordlevel", {**base, "normalizer": j(N.Nmt()), "pre_tokenizer": j(P.Sequence([P.WhitespaceSplit(), P.CharDelimiterSplit("-")])), "decoder": j(D.Fuse()),
                       "post_processor": None, "added_tokens": added(0, ("[UNK]", "special"), ("[X]", "special")),
                       "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}})

    # gemma4: BPE over characters with byte tokens, lines one by one
    lines = train(P.Split(Regex(r"[^\n]+|[\n]+"), "isolated"), 700, normalizer=N.Replace(" ", "▁"),
                  special=["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{b:02X}>" for b in range(256)], unk_token="<unk>")
    g = spec_of(lines, normalizer=N.Replace(" ", "▁"), pre=P.Split(Regex(r"[^\n]+|[\n]+"), "isolated"), byte_fallback=True, fuse_unk=True,
                decoder=D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse()]))
    g["added_tokens"] = added(0, *[(x, "special") for x in ("<pad>", "<eos>", "<bos>", "<unk>")])
    merges = [m for m in g["model"]["merges"] if "\n" not in (m if isinstance(m, str) else m[0] + m[1])]
    vocab = {k: i for k, i in g["model"]["vocab"].items()}
    for k in range(2, 5):
        vocab.setdefault("\n" * k, len(vocab))  # without merges: only whole runs
    g["model"]["vocab"], g["model"]["merges"] = vocab, merges
    r = Tokenizer.from_str(json.dumps(g))
    rows = []
    for text in TEXTS:
        ids = []
        for kind, x in cut(text, {x: i for i, x in enumerate(("<pad>", "<eos>", "<bos>", "<unk>"))}):
            if kind == "token":
                ids.append(x)
                continue
            for line in re.findall(r"[^\n]+|\n+", x):
                ids += [vocab[line]] if line[0] == "\n" and line in vocab else r.encode(line).ids
        rows.append((ids, r.decode(ids, skip_special_tokens=True)))
    write_expected(os.path.join(HERE, "gemma4.expected.bin"), [2], [], rows, [])
    tokens = [k for k, _ in sorted(vocab.items(), key=lambda kv: kv[1])]
    write_pieces_gguf(os.path.join(HERE, "gemma4.gguf"), "gemma4", tokens, types=[3] * 4 + [6] * 256 + [1] * (len(tokens) - 260), bos_token_id=2,
                      eos_token_id=1, unknown_token_id=3, merges=[m if isinstance(m, str) else " ".join(m) for m in merges])

    # rwkv: the longest match of bytes, written here
    byte_tokens = [bytes([b]) for b in range(256)] + [w.encode() for w in dict.fromkeys(CORPUS.split()[:60])] + \
        [b" the", b" a", b"\n\n", b"\t\t", b"\\n", "漢字".encode(), "漢".encode()[:2], b"ab", b"abcd", b"a\"b'c"]
    spelled = ["<s>"] + ["".join(chr(c) if 32 < c < 127 and c != 92 else "\\\\" if c == 92 else "\\n" if c == 10 else "\\t" if c == 9
                                 else f"\\x{c:02x}" for c in x) for x in byte_tokens]
    table = {}
    for i, x in enumerate(byte_tokens):
        table[x] = i + 1
    rows = []
    for text in TEXTS:
        data, ids, at = text.encode(), [], 0
        while at < len(data):
            k = max(k for k in range(1, min(40, len(data) - at) + 1) if data[at:at + k] in table)
            ids.append(table[data[at:at + k]])
            at += k
        rows.append((ids, text) if "<s>" not in text else None)
    write_pieces_gguf(os.path.join(HERE, "rwkv.gguf"), "rwkv", spelled, types=[3] + [1] * len(byte_tokens))
    write_expected(os.path.join(HERE, "rwkv.expected.bin"), [], [], rows, [])


# ---------------------------------------------------------------- ranks

def trained_ranks(size):
    """Bytes in order, then merged tokens: {bytes: rank}."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"[\s\S]{1,40}"), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    more = "The year 1984, 2024 and 1234567. CamelCase don't I'm 漢字 漢字 가나 😀😀 éé naïve\n\n\t\tif (x == 10) {\n" * 20
    t.train_from_iterator([CORPUS, more], trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    decode = decoders.ByteLevel()
    to_byte = {}
    for b in range(256):
        c = b if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else None
        to_byte[b] = chr(c) if c is not None else None
    n = 0
    for b in range(256):
        if to_byte[b] is None:
            to_byte[b] = chr(256 + n)
            n += 1
    back = {v: k for k, v in to_byte.items()}
    ranks = {bytes([b]): b for b in range(256)}
    for piece, _ in sorted(t.get_vocab().items(), key=lambda kv: kv[1]):
        raw = bytes(back[c] for c in piece)
        ranks.setdefault(raw, len(ranks))
    return ranks


def write_ranks(path, ranks, name="ranks"):
    with open(path, "wb") as f:
        for token, rank in ranks.items():
            f.write(base64.b64encode(token) + b" %d\n" % rank)


def expect_tiktoken(e, path, front, n):
    rows = []
    for s in TEXTS:
        ids = e.encode(s, allowed_special="all")
        special = set(ids) & set(e._special_tokens.values())
        rows.append((ids, None if special else s))
    rng, sequences = random.Random(9), []
    for _ in range(40):
        ids = [rng.randrange(n) for _ in range(rng.randrange(1, 12))]
        sequences.append((ids, e.decode(ids)))
    write_expected(path, front, [], rows, sequences)


def ranks_all():
    ranks = trained_ranks(520)
    n = len(ranks)
    for name, file, pattern, config in (
            ("tiktoken_llama3", "tokenizer.model", LLAMA3, {"bos_token": "<|im_start|>", "add_bos_token": True}),
            ("tiktoken_qwen", "qwen.tiktoken", QWEN2, {"tokenizer_class": "QWenTokenizer"}),
            ("tiktoken_kimi", "tiktoken.model", KIMI.replace(r"[\r\n/]*", r"[\r\n]*"), {"tokenizer_class": "TikTokenTokenizer"})):
        d = os.path.join(HERE, name)
        os.makedirs(d, exist_ok=True)
        write_ranks(os.path.join(d, file), ranks)
        special = {"<|im_start|>": n + 3, "<|im_end|>": n, "<|endoftext|>": n + 1}
        config["added_tokens_decoder"] = {str(i): {"content": k, "special": True} for k, i in special.items()}
        open(os.path.join(d, "tokenizer_config.json"), "w").write(json.dumps(config))
        # tiktoken has no intersection of classes
        pattern = pattern.replace("&&[^\\p{Han}]]", "]")
        if name == "tiktoken_kimi":
            pre = pre_tokenizers.Split(Regex(KIMI.replace(r"[\r\n/]*", r"[\r\n]*")), "isolated")
            plain = tiktoken.Encoding(name, pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={})
            rows = []
            for s in TEXTS:
                ids = []
                for kind, x in cut(s, special):
                    ids += [x] if kind == "token" else [i for piece, _ in pre.pre_tokenize_str(x) for i in plain.encode(piece)]
                rows.append((ids, None if set(ids) & set(special.values()) else s))
            write_expected(os.path.join(d, "expected.bin"), [], [], rows, [])
        else:
            e = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
            expect_tiktoken(e, os.path.join(d, "expected.bin"), [n + 3] if name == "tiktoken_llama3" else [], n)

    d = os.path.join(HERE, "tekken")
    os.makedirs(d, exist_ok=True)
    tokens = [{"rank": i, "token_bytes": base64.b64encode(k).decode(), "token_str": None} for k, i in ranks.items()]
    special = [{"rank": i, "token_str": k, "is_control": True} for i, k in enumerate(["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>"])]
    config = {"pattern": TEKKEN, "num_vocab_tokens": n, "default_vocab_size": n - 20 + 10, "default_num_special_tokens": 10, "version": "v3"}
    path = os.path.join(d, "tekken.json")
    with open(path, "w") as f:
        json.dump({"config": config, "vocab": tokens, "special_tokens": special}, f, separators=(",", ":"))
    t = Tekkenizer.from_file(path)
    rows = [(t.encode(s, bos=False, eos=False), s) for s in TEXTS]
    rng, sequences = random.Random(11), []
    for _ in range(40):
        ids = [rng.randrange(10, t.n_words) for _ in range(rng.randrange(1, 12))]
        sequences.append((ids, t.decode(ids)))
    write_expected(os.path.join(d, "expected.bin"), [1], [], rows, sequences)


def small_map():
    """A precompiled_charsmap by hand: "A" to "a", "é" to "e"; 1024 units (darts-clone's layout)."""
    unit = [0] * 1024
    unit[0] = 256 << 10
    unit[256 ^ 0x41] = 0x41 | 1 << 8 | 1 << 10
    unit[256 ^ 0x41 ^ 1] = 1 << 31
    unit[256 ^ 0xC3] = 0xC3 | (256 ^ 0xC3 ^ 512) << 10
    unit[512 ^ 0xA9] = 0xA9 | 1 << 8 | 1 << 10
    unit[512 ^ 0xA9 ^ 1] = 1 << 31 | 2
    table = b"".join(x.to_bytes(4, "little") for x in unit)
    return len(table).to_bytes(4, "little") + table + b"a\0e\0"


def fuzz_seeds():
    """What fuzz/tokenizer_fuzz.c reads."""
    d = os.path.join(HERE, "..", "..", "..", "fuzz", "seeds", "tokenizer")
    os.makedirs(d, exist_ok=True)
    vocab = {k: i for i, k in enumerate(["<unk>", "<s>", "</s>", "a", "b", "ab", "▁", "▁a", "Ġ", "Ġa", "é", "<0x41>", "##b", "b</w>", "1"])}
    bpe = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocab, "merges": ["a b", "▁ a", "Ġ a"]}
    tokens = [{"id": 1, "content": "<s>", "special": True, "lstrip": True}, {"id": 15, "content": "Tok", "normalized": True,
              "single_word": True, "rstrip": True}]
    N, P, D = normalizers, pre_tokenizers, decoders
    raw = P.ByteLevel(add_prefix_space=True, use_regex=False)
    seeds = {
        "bpe": ({}, {"merges": [["a", "b"]], "ignore_merges": True}),
        "affixes": ({}, {"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>", "merges": ["a ##b"]}),
        "byte_level": ({"pre_tokenizer": j(P.Sequence([P.Split(Regex(LLAMA3), "isolated"), raw])), "decoder": j(D.ByteLevel()),
                        "normalizer": j(N.NFC())}, {}),
        "sentence": ({"normalizer": j(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])),
                      "decoder": j(D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])),
                      "post_processor": j(processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]))}, {}),
        "metaspace": ({"pre_tokenizer": j(P.Metaspace(prepend_scheme="first")), "decoder": j(D.Metaspace(prepend_scheme="first"))}, {}),
        "splits": ({"pre_tokenizer": j(P.Sequence([P.Split(Regex(p), b) for p, b in zip(
            [r"\w+|\b|[^\S\n]", r"[a-z&&[^b]]", r"\p{Han}{1,3}+|(?m:.)", r"[[:punct:]]|\h", r"a{,2}|\x{41}"],
            ["removed", "merged_with_next", "contiguous", "isolated", "merged_with_previous"])] + [P.Digits(True), P.Punctuation(), P.Whitespace()]))}, {}),
        "rare": ({"pre_tokenizer": j(P.UnicodeScripts()), "decoder": j(D.BPEDecoder("</w>"))}, {"end_of_word_suffix": "</w>"}),
        "ctc": ({"decoder": j(D.CTC("<unk>", "▁", True))}, {}),
        "normal": ({"normalizer": j(N.Sequence([N.NFKD(), N.StripAccents(), N.Lowercase(), N.Strip(), N.Replace(Regex("b+|$"), "ab")]))}, {}),
    }
    for name, (parts, model) in seeds.items():
        spec = {"added_tokens": tokens, **parts, "model": {**bpe, **model}}
        text = json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode()
        open(os.path.join(d, name), "wb").write(text + b"\0" + " ab <s>  tok Aé 1\n漢字 bab".encode() + b"\xff")
    from sentencepiece import sentencepiece_model_pb2 as pb
    charsmap = small_map()
    scored = [[k, -float(i)] for i, k in enumerate(vocab)]
    more = {
        "unigram": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}, "pre_tokenizer": j(P.Metaspace()),
                    "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": scored}},
        "wordpiece": {"normalizer": j(N.BertNormalizer()), "pre_tokenizer": j(P.BertPreTokenizer()), "decoder": j(D.WordPiece()),
                      "model": {"type": "WordPiece", "unk_token": "<unk>", "vocab": vocab}},
        "wordlevel": {"normalizer": j(N.Nmt()), "pre_tokenizer": j(P.WhitespaceSplit()), "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": vocab}},
    }
    for name, spec in more.items():
        text = json.dumps({"added_tokens": tokens, **spec}, ensure_ascii=False, separators=(",", ":")).encode()
        open(os.path.join(d, name), "wb").write(text + b"\0" + " ab <s>  tok Aé 1\n漢字 bab".encode() + b"\xff")
    for kind, name in ((1, "model_unigram"), (2, "model_bpe")):
        m = pb.ModelProto()
        for i, k in enumerate(vocab):
            x = m.pieces.add()
            x.piece, x.score, x.type = k, -float(i), 2 if i == 0 else 3 if i < 3 else 6 if k.startswith("<0x") else 4 if k == "1" else 1
        m.trainer_spec.model_type, m.trainer_spec.byte_fallback = kind, True
        m.normalizer_spec.precompiled_charsmap = charsmap
        m.normalizer_spec.remove_extra_whitespaces = kind == 1
        open(os.path.join(d, name), "wb").write(b"tokenizer.model\n" + m.SerializeToString())
    ranks = {**{bytes([b]): b for b in range(256)}, b"ab": 256, b" a": 257, b"bab": 258}
    open(os.path.join(d, "tiktoken"), "wb").write(b"x.tiktoken\n" + b"".join(base64.b64encode(k) + b" %d\n" % v for k, v in ranks.items()))
    pieces = json.dumps({**vocab, "aab": len(vocab)}, separators=(",", ":")).encode()
    open(os.path.join(d, "vocab"), "wb").write(b"vocab.json\n" + pieces + b"\0#version: 0.2\na b\na ab\n")
    tekken = {"config": {"pattern": r"\p{L}+|\s+|.", "default_vocab_size": 262, "default_num_special_tokens": 4},
              "vocab": [{"rank": v, "token_bytes": base64.b64encode(k).decode(), "token_str": None} for k, v in ranks.items()],
              "special_tokens": [{"rank": 1, "token_str": "<s>", "is_control": True}]}
    open(os.path.join(d, "tekken"), "wb").write(b"tekken.json\n" + json.dumps(tekken, separators=(",", ":")).encode())
    for model in ("t5", "bert", "rwkv", "gemma4"):
        write_pieces_gguf(os.path.join(d, "gguf_" + model), model, list(vocab), [-float(i) for i in range(len(vocab))],
                          [2, 3, 3] + [1] * 8 + [6, 1, 4, 1], charsmap if model == "t5" else None, merges=["a b", "▁ a"], remove_extra_whitespaces=True)
    for model in ("llama", "gpt2"):
        path = os.path.join(d, "gguf_" + model)
        w = gguf.GGUFWriter(path, "llama")
        w.add_tokenizer_model(model)
        w.add_tokenizer_pre("llama-bpe")
        w.add_token_list(list(vocab))
        w.add_token_scores([-float(i) for i in range(len(vocab))])
        w.add_token_types([2, 3, 3] + [1] * 8 + [6, 1, 4, 1])
        w.add_token_merges(["a b", "Ġ a"])
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()


if __name__ == "__main__":
    write_texts()
    splits_all()
    byte_level_all()
    vocab_all()
    metaspace_all()
    split_all()
    rare_all()
    spm_all()
    pieces_all()
    ranks_all()
    fuzz_seeds()
