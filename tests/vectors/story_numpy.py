#!/usr/bin/env python3
"""Greedy text and logits of the story model from a float32 transcription in numpy.

    python story_numpy.py MODEL_DIR

writes story.json and story_logits.bin beside this file (layouts in README.md). The model
is evaluated position by position with a key/value cache. The same code runs once more in
float64 over the finished texts, to state how far float32 is from exact arithmetic; there
too the greedy ids must come out.
"""
import json
import pathlib
import re
import struct
import sys

import numpy as np
from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
N_NEW = 256
MIN_GAP = 8e-3  # some hundred times what float32 costs (max_abs_from_f64), and room for other kernels
KEEP_STEPS = [0, 1, 64, 255]  # step s: the logits that choose new token s; step 0 is the last prompt position

# One prompt of each group is kept: the one whose greedy text has the most distinct tokens among
# those whose smallest top-2 gap exceeds MIN_GAP.
CANDIDATES = [
    [
        "Once upon a time",
        "There was once a king",
        "In the forest",
        "The fox said",
        "The snow",
        "The birds",
        "My",
        "Little Red Riding Hood",
        "A",
    ],
    [
        "There was once a king who had three daughters, and the youngest of them was so beautiful that",
        "A poor miller had two sons. The elder went out into the world to seek his fortune, and",
        "In a great castle by the sea there lived a giant, who had a heart of stone and",
        "The youngest brother took the ring, put it on his finger, and turned it round three times. Then",
        "When the soldier came home from the war he had nothing but three pence in his pocket, so he",
    ],
    [
        "\"Dear mother,\" said the boy, \"give me bread and let me go.\"\n\nThe mother wept, but",
        "The cat — for it was a cat — sat down by the fire;\nthen the king's son came in, and he said:",
        "CHAPTER II.\n\nThe Princess's café had 12 golden chairs,",
        "Thumbelina naïvely asked: \"Où est la fée?\"\n\nThe fairy",
        "The three wishes:\n\n  I. gold;\n  II. silver;\n  III. a kind heart.\n\nThe woodcutter",
    ],
]


def read_safetensors(path):
    """Tensors by name as float32; bfloat16 is the upper half of a float32."""
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, info in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        data = raw[8 + n + begin:8 + n + end]
        if info["dtype"] == "BF16":
            x = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            x = np.frombuffer(data, {"F32": "<f4", "U8": "u1"}[info["dtype"]])
        out[name] = x.reshape(info["shape"])
    return out


class Model:
    def __init__(self, directory, dtype):
        c = json.loads((directory / "config.json").read_text())
        assert c["model_type"] == "llama" and c["hidden_act"] == "silu" and not c.get("rope_scaling")
        self.n_layer, self.n_head, self.n_kv = c["num_hidden_layers"], c["num_attention_heads"], c["num_key_value_heads"]
        self.head_dim, self.n_vocab, self.eps = c["head_dim"], c["vocab_size"], dtype(c["rms_norm_eps"])
        self.max_context, self.eos, self.dtype = c["max_position_embeddings"], c["eos_token_id"], dtype
        self.w = {k: v.astype(dtype) for k, v in read_safetensors(directory / "model.safetensors").items()}
        self.head = self.w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
        half = np.arange(0, self.head_dim, 2, dtype=dtype) / dtype(self.head_dim)
        self.freq = dtype(1) / dtype(c["rope_theta"]) ** half            # [head_dim / 2]
        self.reset()

    def reset(self):
        shape = (self.n_layer, self.n_kv, self.max_context, self.head_dim)
        self.k, self.v, self.pos = np.zeros(shape, self.dtype), np.zeros(shape, self.dtype), 0

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, dtype=self.dtype) + self.eps) * self.w[name]

    def rope(self, x):                                                   # [heads, head_dim], halves
        angle = self.dtype(self.pos) * self.freq
        cos, sin = np.cos(angle), np.sin(angle)
        a, b = np.split(x, 2, axis=1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=1)

    def step(self, token):
        """Takes the token at the next position, returns its logits [n_vocab]."""
        w, d, t = self.w, self.head_dim, self.pos
        x = w["model.embed_tokens.weight"][token]
        for i in range(self.n_layer):
            p = f"model.layers.{i}."
            h = self.norm(x, p + "input_layernorm.weight")
            q = self.rope((w[p + "self_attn.q_proj.weight"] @ h).reshape(self.n_head, d))
            self.k[i, :, t] = self.rope((w[p + "self_attn.k_proj.weight"] @ h).reshape(self.n_kv, d))
            self.v[i, :, t] = (w[p + "self_attn.v_proj.weight"] @ h).reshape(self.n_kv, d)
            q = q.reshape(self.n_kv, self.n_head // self.n_kv, d)        # query heads of one key head are neighbours
            s = q @ self.k[i, :, :t + 1].transpose(0, 2, 1) / self.dtype(np.sqrt(d))
            s = np.exp(s - s.max(axis=-1, keepdims=True))
            s = s / s.sum(axis=-1, keepdims=True)
            x = x + w[p + "self_attn.o_proj.weight"] @ (s @ self.v[i, :, :t + 1]).reshape(-1)
            h = self.norm(x, p + "post_attention_layernorm.weight")
            gate, up = w[p + "mlp.gate_proj.weight"] @ h, w[p + "mlp.up_proj.weight"] @ h
            x = x + w[p + "mlp.down_proj.weight"] @ (gate / (self.dtype(1) + np.exp(-gate)) * up)
        self.pos += 1
        y = self.head @ self.norm(x, "model.norm.weight")
        assert y.dtype == self.dtype
        return y


def greedy(model, prompt_ids):
    """New ids, gap of the two best logits at each step, and all logits; None when the model ends early."""
    model.reset()
    for token in prompt_ids:
        logits = model.step(token)
    ids, gaps, kept = [], [], []
    for _ in range(N_NEW):
        kept.append(logits)
        second, first = np.partition(logits, -2)[-2:]
        gaps.append(float(first) - float(second))
        ids.append(int(np.argmax(logits)))
        if ids[-1] == model.eos:
            return None
        if len(ids) < N_NEW:
            logits = model.step(ids[-1])
    return ids, gaps, np.array(kept)


def main():
    directory = pathlib.Path(sys.argv[1])
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    bos = json.loads((directory / "config.json").read_text())["bos_token_id"]
    single, exact = Model(directory, np.float32), Model(directory, np.float64)
    chosen = []
    for group in CANDIDATES:
        best = None
        for prompt in group:
            prompt_ids = [bos] + tokenizer.encode(prompt, add_special_tokens=False).ids
            run = greedy(single, prompt_ids)
            print(f"{len(set(run[0]))} tokens, gap {min(run[1]):.5f}" if run else "ended", repr(prompt), file=sys.stderr)
            if run and min(run[1]) > MIN_GAP and (best is None or len(set(run[0])) > len(set(best[2][0]))):
                best = prompt, prompt_ids, run
        assert best, "no candidate of this group has a clear greedy text"
        chosen.append(best)

    entries, blob = [], struct.pack("<3I", len(chosen), len(KEEP_STEPS), single.n_vocab)
    for prompt, prompt_ids, (ids, gaps, logits) in chosen:
        ids64, _, logits64 = greedy(exact, prompt_ids)
        assert ids64 == ids
        entries.append({
            "prompt": prompt,
            "prompt_ids": prompt_ids,
            "ids": ids,
            "text": tokenizer.decode(ids, skip_special_tokens=False),
            "min_gap": round(min(gaps), 6),
            "min_gap_step": int(np.argmin(gaps)),
            "max_abs_from_f64": float(f"{np.abs(logits - logits64).max():.3g}"),
        })
        blob += struct.pack(f"<{len(KEEP_STEPS)}I", *KEEP_STEPS) + logits[KEEP_STEPS].astype("<f4").tobytes()
    text = json.dumps(entries, ensure_ascii=False, indent=1)
    text = re.sub(r"\[[\d,\s]+\]", lambda ids: " ".join(ids[0].split()), text)  # a list of ids on one line
    (HERE / "story.json").write_text(text + "\n", encoding="utf-8")
    (HERE / "story_logits.bin").write_bytes(blob)


if __name__ == "__main__":
    main()
