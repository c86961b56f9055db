#!/usr/bin/env python3
"""Train the small Llama-architecture story model that ships with the project.

Reads plain text files, which may be .xz (one paragraph a line, '<|endoftext|>' between books), learns a
byte-level BPE vocabulary, trains on the CPU (or a GPU where torch sees one) and writes a Hugging Face
checkpoint: config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
model.safetensors (bfloat16).

    tools/train_story.py --text tales.txt.xz --heldout tales-heldout.txt.xz --out DIR --minutes 60
"""
import argparse, collections, heapq, json, lzma, math, os, re, struct, time
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

EOT = "<|endoftext|>"
# GPT-2's pre-tokenization; ASCII classes stand for \p{L}, \p{N}: the corpus is ASCII up to a few accents.
SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def byte_to_char():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, spare = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + spare)
            spare += 1
    return table


B2C = byte_to_char()


def learn_bpe(text, vocab_size):
    """Merges, most frequent pair first, over the words of the text (lazy-updated heap)."""
    words = collections.Counter(w for w in SPLIT.findall(text))
    seqs = [[B2C[b] for b in w.encode()] for w in words]
    freq = list(words.values())
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, s in enumerate(seqs):
        for p in zip(s, s[1:]):
            pairs[p] += freq[i]
            where[p].add(i)
    heap = [(-c, p) for p, c in pairs.items()]
    heapq.heapify(heap)
    merges = []
    while len(merges) < vocab_size - 256 - 1 and heap:
        c, p = heapq.heappop(heap)
        if pairs[p] != -c or c == 0:
            if pairs[p] > 0:
                heapq.heappush(heap, (-pairs[p], p))
            continue
        merges.append(p)
        joined = p[0] + p[1]
        touched = set()
        for i in list(where[p]):
            s, out, j = seqs[i], [], 0
            for q in zip(s, s[1:]):
                pairs[q] -= freq[i]
                touched.add(q)
            while j < len(s):
                if j + 1 < len(s) and s[j] == p[0] and s[j + 1] == p[1]:
                    out.append(joined)
                    j += 2
                else:
                    out.append(s[j])
                    j += 1
            seqs[i] = out
            for q in zip(out, out[1:]):
                pairs[q] += freq[i]
                where[q].add(i)
                touched.add(q)
        for q in touched:
            if pairs[q] > 0:
                heapq.heappush(heap, (-pairs[q], q))
        pairs.pop(p, None)
        where.pop(p, None)
    return merges


class Tokenizer:
    def __init__(self, merges):
        tokens = [EOT] + [B2C[b] for b in range(256)] + [a + b for a, b in merges]
        self.vocab = {t: i for i, t in enumerate(tokens)}
        self.merges = merges
        self.rank = {p: i for i, p in enumerate(merges)}
        self.cache = {}

    def word(self, w):
        if w not in self.cache:
            s = [B2C[b] for b in w.encode()]
            while len(s) > 1:
                r, j = min((self.rank.get(p, 1 << 30), j) for j, p in enumerate(zip(s, s[1:])))
                if r == 1 << 30:
                    break
                s[j:j + 2] = [s[j] + s[j + 1]]
            self.cache[w] = [self.vocab[t] for t in s]
        return self.cache[w]

    def encode(self, text):
        out = []
        for k, part in enumerate(text.split(EOT)):
            if k:
                out.append(0)
            for w in SPLIT.findall(part.strip("\n") + "\n"):
                out.extend(self.word(w))
        return np.array(out, dtype=np.uint16)

    def save(self, folder, context):
        special = dict(id=0, content=EOT, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
        model = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                     fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=self.vocab,
                     merges=[f"{a} {b}" for a, b in self.merges])
        json.dump(dict(version="1.0", truncation=None, padding=None, added_tokens=[special], normalizer=None,
                       pre_tokenizer=level, post_processor=None, decoder=level, model=model),
                  open(os.path.join(folder, "tokenizer.json"), "w"), ensure_ascii=False, indent=1)
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token=EOT, eos_token=EOT, add_bos_token=True,
                       model_max_length=context, clean_up_tokenization_spaces=False),
                  open(os.path.join(folder, "tokenizer_config.json"), "w"), indent=1)


class Llama(nn.Module):
    def __init__(self, c, dropout=0.0):
        super().__init__()
        self.c, self.dropout = c, dropout
        E, H, KV, D = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        lin = lambda i, o: nn.Linear(i, o, bias=False)
        self.embed = nn.Embedding(c["vocab_size"], E)
        self.layers = nn.ModuleList(nn.ModuleDict(dict(
            q=lin(E, H * D), k=lin(E, KV * D), v=lin(E, KV * D), o=lin(H * D, E),
            gate=lin(E, c["intermediate_size"]), up=lin(E, c["intermediate_size"]), down=lin(c["intermediate_size"], E)))
            for _ in range(c["num_hidden_layers"]))
        self.norms = nn.ParameterList(nn.Parameter(torch.ones(E)) for _ in range(2 * c["num_hidden_layers"] + 1))
        for n, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 / math.sqrt(2 * c["num_hidden_layers"]) if n.endswith(("o.weight", "down.weight")) else 0.02
                nn.init.normal_(p, std=std)
        t = torch.arange(c["max_position_embeddings"]).float()
        f = c["rope_theta"] ** (-torch.arange(0, D, 2).float() / D)
        self.register_buffer("cos", torch.outer(t, f).cos(), persistent=False)
        self.register_buffer("sin", torch.outer(t, f).sin(), persistent=False)

    def norm(self, x, i):
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"]) * self.norms[i]

    def rope(self, x):  # (B, heads, T, D), halves rotated as Hugging Face does
        T, D = x.shape[-2:]
        a, b = x[..., :D // 2], x[..., D // 2:]
        return torch.cat((a * self.cos[:T] - b * self.sin[:T], b * self.cos[:T] + a * self.sin[:T]), -1)

    def forward(self, ids, targets=None):
        B, T = ids.shape
        H, KV, D = self.c["num_attention_heads"], self.c["num_key_value_heads"], self.c["head_dim"]
        drop = lambda t: F.dropout(t, self.dropout, self.training)
        x = drop(self.embed(ids))
        for i, l in enumerate(self.layers):
            h = self.norm(x, 2 * i)
            q = self.rope(l["q"](h).view(B, T, H, D).transpose(1, 2))
            k = self.rope(l["k"](h).view(B, T, KV, D).transpose(1, 2)).repeat_interleave(H // KV, 1)
            v = l["v"](h).view(B, T, KV, D).transpose(1, 2).repeat_interleave(H // KV, 1)
            a = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
            x = x + drop(l["o"](a.transpose(1, 2).reshape(B, T, H * D)))
            h = self.norm(x, 2 * i + 1)
            x = x + drop(l["down"](F.silu(l["gate"](h)) * l["up"](h)))
        x = self.norm(x, -1)
        if targets is None:
            return F.linear(x, self.embed.weight)
        return F.cross_entropy(F.linear(x, self.embed.weight).float().view(B * T, -1), targets.reshape(-1))

    def tensors(self):
        names = dict(q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj", o="self_attn.o_proj",
                     gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj")
        yield "model.embed_tokens.weight", self.embed.weight
        for i, l in enumerate(self.layers):
            for n, hf in names.items():
                yield f"model.layers.{i}.{hf}.weight", l[n].weight
            yield f"model.layers.{i}.input_layernorm.weight", self.norms[2 * i]
            yield f"model.layers.{i}.post_attention_layernorm.weight", self.norms[2 * i + 1]
        yield "model.norm.weight", self.norms[2 * len(self.layers)]


def save_safetensors(path, tensors):
    head, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, t in tensors:
        u = t.detach().float().cpu().numpy().view(np.uint32)
        u = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype("<u2")  # round to nearest even bfloat16
        head[name] = dict(dtype="BF16", shape=list(t.shape), data_offsets=[at, at + u.nbytes])
        blobs.append(u.tobytes())
        at += u.nbytes
    h = json.dumps(head, separators=(",", ":")).encode()
    h += b" " * (-len(h) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(h)) + h + b"".join(blobs))


def load_safetensors(path, tensors):
    """Copies a bfloat16 checkpoint into the parameters of the same names and shapes."""
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    for name, p in tensors:
        e = head[name]
        assert e["dtype"] == "BF16" and e["shape"] == list(p.shape), name
        u = np.frombuffer(data, "<u2", count=p.numel(), offset=8 + n + e["data_offsets"][0]).astype(np.uint32) << 16
        with torch.no_grad():
            p.copy_(torch.from_numpy(u.view(np.float32).reshape(p.shape).copy()))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--text", required=True)
    ap.add_argument("--heldout", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, default=60)
    ap.add_argument("--hidden", type=int, default=256)
    ap.add_argument("--layers", type=int, default=6)
    ap.add_argument("--heads", type=int, default=8)
    ap.add_argument("--kv-heads", type=int, default=4)
    ap.add_argument("--ff", type=int, default=768)
    ap.add_argument("--vocab", type=int, default=4096)
    ap.add_argument("--context", type=int, default=512, help="training window, and the positions the model knows")
    ap.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out (to lengthen the context, say)")
    ap.add_argument("--batch", type=int, default=16, help="sequences a step")
    ap.add_argument("--micro", type=int, default=8, help="sequences a pass: small ones stay in cache")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--dropout", type=float, default=0.0, help="for runs that read the text many times")
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    os.makedirs(a.out, exist_ok=True)
    read = lambda p: (lzma.open(p, "rt", encoding="utf-8") if p.endswith(".xz") else open(p, encoding="utf-8")).read()
    text, held = read(a.text), read(a.heldout)
    tok_path = os.path.join(a.out, "tokenizer.json")
    if os.path.exists(tok_path):
        merges = [tuple(m.split(" ")) for m in json.load(open(tok_path))["model"]["merges"]]
    else:
        merges = learn_bpe(text[:20_000_000], a.vocab)
    tok = Tokenizer(merges)
    tok.save(a.out, a.context)
    train, val = tok.encode(text), tok.encode(held)
    print(f"{len(text)/1e6:.1f} M characters, {len(train)/1e6:.2f} M tokens, held out {len(val)/1e6:.3f} M", flush=True)
    c = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=a.hidden, intermediate_size=a.ff,
             num_hidden_layers=a.layers, num_attention_heads=a.heads, num_key_value_heads=a.kv_heads, head_dim=a.hidden // a.heads,
             vocab_size=a.vocab, max_position_embeddings=a.context, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
             tie_word_embeddings=True, attention_bias=False, mlp_bias=False, bos_token_id=0, eos_token_id=0, torch_dtype="bfloat16")
    json.dump(c, open(os.path.join(a.out, "config.json"), "w"), indent=1)
    json.dump(dict(bos_token_id=0, eos_token_id=0, do_sample=True, temperature=0.8, top_p=0.95),
              open(os.path.join(a.out, "generation_config.json"), "w"), indent=1)
    m = Llama(c, a.dropout).to(dev)
    if a.resume:
        load_safetensors(os.path.join(a.out, "model.safetensors"), m.tensors())
    print(f"{sum(p.numel() for p in m.parameters())/1e6:.2f} M parameters", flush=True)
    opt = torch.optim.AdamW([dict(params=[p for p in m.parameters() if p.dim() == 2], weight_decay=0.1),
                             dict(params=[p for p in m.parameters() if p.dim() == 1], weight_decay=0.0)], lr=a.lr, betas=(0.9, 0.95))
    pass_of = torch.compile(m) if dev == "cuda" else m
    T = a.context
    stream, fixed = torch.from_numpy(train.astype(np.int64)).to(dev), torch.from_numpy(val.astype(np.int64)).to(dev)

    def batch(src, n, starts=None):
        s = torch.randint(len(src) - T - 1, (n,), device=dev) if starts is None else torch.tensor(starts, device=dev)
        w = src[s[:, None] + torch.arange(T + 1, device=dev)]
        return w[:, :-1].contiguous(), w[:, 1:].contiguous()

    def loss_on(src):
        m.eval()
        with torch.no_grad(), torch.autocast(dev, dtype=torch.bfloat16):
            s = range(0, len(src) - T - 1, max(T, len(src) // 64))
            out = [m(*batch(src, 0, [i])).item() for i in s]
        m.train()
        return sum(out) / len(out)

    begun, step, seen, recent = time.time(), 0, 0, torch.zeros((), device=dev)
    while True:
        done = (time.time() - begun) / (60 * a.minutes)
        if done >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / (20 if a.resume else 200)) * (1 if done < 0.6 else max(0.02, (1 - done) / 0.4))
        opt.zero_grad(set_to_none=True)
        passes = max(1, a.batch // a.micro)
        for _ in range(passes):
            x, y = batch(stream, a.micro)
            with torch.autocast(dev, dtype=torch.bfloat16):
                loss = pass_of(x, y) / passes
            loss.backward()
            recent += loss.detach()
            seen += x.numel()
        nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step()
        step += 1
        if step % 200 == 0:
            print(f"step {step} tokens {seen/1e6:.2f} M loss {recent.item()/200:.3f} {seen/(time.time()-begun):.0f} tok/s {100*done:.0f}%", flush=True)
            recent.zero_()
        if step % 2000 == 0:
            print(f"held-out loss {loss_on(fixed):.4f}", flush=True)
            save_safetensors(os.path.join(a.out, "model.safetensors"), m.tensors())
    print(f"held-out loss {loss_on(fixed):.4f} nats/token, {seen/1e6:.1f} M tokens seen", flush=True)
    save_safetensors(os.path.join(a.out, "model.safetensors"), m.tensors())
    m.eval()
    ids = [0] + tok.encode("Once upon a time there was a little").tolist()[:-1]
    torch.manual_seed(3)
    for _ in range(150):
        p = torch.softmax(m(torch.tensor([ids[-T:]], device=dev))[0, -1].float() / 0.8, -1)
        ids.append(torch.multinomial(p, 1).item())
    back = {v: k for k, v in B2C.items()}
    inv = {i: t for t, i in tok.vocab.items()}
    print(bytes(back[ch] for i in ids[1:] if i for ch in inv[i]).decode(errors="replace"), flush=True)


if __name__ == "__main__":
    main()
