#!/usr/bin/env python3
"""Writes the seeds of all targets but the tokenizer's: small files that reach every branch of a good one. Those of bind and
qconfig are cut out of tests/vectors/checkpoints.

    fuzz/make_seeds.py        writes fuzz/seeds/<target>/<name>

Inputs that once crashed a target are kept beside them under the names of the tests that came of them."""
import json
import os
import pathlib
import struct

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds")


def save(target, name, data):
    os.makedirs(os.path.join(ROOT, target), exist_ok=True)
    with open(os.path.join(ROOT, target, name), "wb") as f:
        f.write(data)


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(s)) + s


SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def value(key, kind, v):
    head = text(key) + struct.pack("<I", kind)
    if kind == 8:
        return head + text(v)
    if kind == 9:
        of, items = v
        body = b"".join(text(i) if of == 8 else struct.pack("<" + SCALARS[of], i) for i in items)
        return head + struct.pack("<IQ", of, len(items)) + body
    return head + struct.pack("<" + SCALARS[kind], v)


def gguf(values, tensors, version=3, alignment=32):
    """tensors: (name, ne, type number, bytes)."""
    out, offset, data = b"", 0, b""
    for name, ne, kind, size in tensors:
        out += text(name) + struct.pack("<I", len(ne)) + struct.pack("<%dQ" % len(ne), *ne)
        out += struct.pack("<IQ", kind, offset)
        offset += -(-size // alignment) * alignment
        data += bytes(size) + bytes(-size % alignment)
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values)) + b"".join(values) + out
    return out + bytes(-len(out) % alignment) + data


def safetensors(header, size):
    h = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(h)) + h + bytes(size)


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


save("gguf", "empty", gguf([], []))
save("gguf", "v2", gguf([value("general.architecture", 8, "llama")], [("t", [4], 0, 16)], version=2))
save("gguf", "values", gguf([value("k%d" % k, k, 1) for k in SCALARS] + [value("s", 8, "caf\u00e9")], []))
save("gguf", "arrays", gguf([value("a%d" % k, 9, (k, [1, 0])) for k in SCALARS]
                            + [value("tokens", 9, (8, ["a", "", b"\xff"])), value("none", 9, (0, []))], []))
save("gguf", "tensors", gguf([value("general.alignment", 4, 64)],
                             [("blk.0.attn_q.weight", [64, 2], 2, 72), ("norm", [4], 0, 16),
                              ("experts", [32, 2, 2, 1], 8, 136)], alignment=64))
save("gguf", "piece", gguf([value("split.no", 2, 0), value("split.count", 2, 2), value("split.tensors.count", 5, 2)],
                           [("t", [4], 0, 16)]))
save("gguf", "one_piece", gguf([value("split.no", 2, 0), value("split.count", 2, 1)], []))


def ggml(magic, version, kind, size, layers=1):
    """A LLaMA of width 32 and 8 tokens; the matrices have type number `kind`, `size` bytes for 32 elements."""
    out = struct.pack("<I", magic) + (struct.pack("<I", version) if version else b"")
    out += struct.pack("<7I", 8, 32, 32, 4, layers, 8, 2)
    for i, t in enumerate([b"", b"", b"", b"\0", b"\xff", b" a", b"b", b" \xe2\x96\x81"]):
        out += struct.pack("<I", len(t)) + t + (struct.pack("<f", -i) if version else b"")
    parts = [("tok_embeddings", 8), ("norm", 0), ("output", 8)]
    for i in range(layers):
        parts += [("layers.%d.%s" % (i, n), r) for n, r in (
            ("attention_norm", 0), ("attention.wq", 32), ("attention.wk", 16), ("attention.wv", 16),
            ("attention.wo", 32), ("ffn_norm", 0), ("feed_forward.w1", 4), ("feed_forward.w2", 1),
            ("feed_forward.w3", 4))]
    for name, rows in parts:
        name = (name + ".weight").encode()
        out += struct.pack("<3I", 2 if rows else 1, len(name), kind if rows else 0)
        out += (struct.pack("<2I", 32, rows) if rows else struct.pack("<I", 32)) + name
        if magic == 0x67676a74:
            out += bytes(-len(out) % 32)
        out += bytes(size * rows if rows else 128)
    return out


save("ggml", "unversioned", ggml(0x67676d6c, 0, 2, 20))
save("ggml", "ggmf", ggml(0x67676d66, 1, 1, 64))
save("ggml", "ggjt1", ggml(0x67676a74, 1, 4, 20))
save("ggml", "ggjt2", ggml(0x67676a74, 2, 8, 36))
save("ggml", "ggjt3", ggml(0x67676a74, 3, 6, 22, layers=2))

save("safetensors", "empty", safetensors({}, 0))
save("safetensors", "tensors", safetensors({"__metadata__": {"format": "pt"}, "b": entry("F32", [2, 3], 3, 27),
                                            "a": entry("U8", [3], 0, 3), "none": entry("F16", [0, 5], 27, 27),
                                            "scalar": entry("BF16", [], 27, 29)}, 29))
save("safetensors", "small", safetensors({"f4": entry("F4", [2, 2], 0, 2), "f6": entry("F6_E2M3", [4], 2, 5)}, 5))
save("safetensors", "escapes", safetensors(b'{"\\u0061\\ud83d\\ude00":{"dtype":"I64","shape":[1],"data_offsets":[0,8],'
                                           b'"other":[{}, null, -1.5e3]}}  ', 8))


def uqff(entries, version=(1, 2, 0)):
    """entries: (name, dtype, shape, bytes)."""
    entries = [("uqff.version." + k, "U32", [], struct.pack("<I", v)) for k, v in zip(("major", "minor", "patch"), version)
               ] + entries
    header, at = {}, 0
    for name, dtype, shape, data in entries:
        header[name] = entry(dtype, shape, at, at + len(data))
        at += len(data)
    h = json.dumps(header).encode()
    return struct.pack("<Q", len(h)) + h + b"".join(e[3] for e in entries)


def u32s(*v):
    return struct.pack("<%dI" % len(v), *v)


save("uqff", "gguf", uqff([("a.weight", "U8", [36], bytes(36)), ("a.weight.format", "U8", [], b"\0"), ("a.bias", "F32", [2], bytes(8)),
                           ("a.weight.dtype", "U32", [], u32s(2)), ("a.weight.shape", "U32", [2], u32s(2, 32))]))
save("uqff", "unquant", uqff([("a.weight", "BF16", [1, 2], bytes(4)), ("a.weight.format", "U8", [], b"\1")]))
save("uqff", "hqq", uqff([("a.weight", "U8", [1, 32], bytes(32)), ("a.weight.format", "U8", [], b"\2"), ("a.weight.scales", "F32", [2, 1], bytes(8)),
                          ("a.weight.zeros", "F32", [2, 1], bytes(8)), ("a.weight.shape", "U32", [2], u32s(2, 32)), ("a.weight.bits", "U8", [], b"\4"),
                          ("a.weight.group_size", "U32", [], u32s(32)), ("a.weight.axis", "U8", [], b"\1"), ("a.weight.optimization_steps", "U32", [], u32s(0)),
                          ("a.weight.round_zeros", "U8", [], b"\0"), ("a.weight.channel_wise", "U8", [], b"\1")]))
save("uqff", "fp8", uqff([("a.weight", "F8_E4M3", [2, 2], bytes(4)), ("a.weight.format", "U8", [], b"\3"), ("a.weight.dequant_w_scale", "F32", [], bytes(4)),
                          ("a.weight.dequant_x_scale", "F32", [], bytes(4)), ("a.weight.quant_scale", "F32", [], bytes(4)), ("a.weight.dtype", "U32", [], u32s(5))]))
save("uqff", "afq", uqff([("a.weight", "U32", [1, 8], bytes(32)), ("a.weight.format", "U8", [], b"\4"), ("a.weight.scales", "BF16", [1, 1], bytes(2)),
                          ("a.weight.biases", "BF16", [1, 1], bytes(2)), ("a.weight.bits", "U8", [], b"\4"), ("a.weight.group_size", "U8", [], b"\x40")], (1, 0, 0)))
save("uqff", "f8q8", uqff([("a.weight", "U8", [66], bytes(66)), ("a.weight.format", "U8", [], b"\5"), ("a.weight.num_blocks", "U32", [], u32s(2)),
                           ("a.weight.shape", "U32", [2], u32s(1, 64))]))
save("uqff", "mxfp4", uqff([("a.weight", "U8", [2, 16], bytes(32)), ("a.weight.format", "U8", [], b"\6"), ("a.weight.scales", "U8", [2, 1], bytes(2))]))


def record(code, shape, data):
    return u32s(len(data), code, len(shape), *shape) + data


def numbered(*layers):
    header, data = {}, b""
    for i, layer in enumerate(layers):
        layer = u32s(0x200) + layer
        header[str(i)] = entry("U8", [len(layer)], len(data), len(data) + len(layer))
        data += layer
    h = json.dumps(header).encode()
    return struct.pack("<Q", len(h)) + h + data


BIAS = record(5, [2], bytes(4))
save("uqff", "numbered", numbered(
    b"\0" + u32s(36) + b"\1" + u32s(2, 2, 2, 32) + bytes(36) + BIAS,
    b"\1\0" + record(5, [1, 2], bytes(4)),
    b"\2\0" + record(0, [1, 32], bytes(32)) + record(6, [2, 1], bytes(8)) + record(6, [2, 1], bytes(8)) + u32s(2, 2, 32)
    + b"\4" + u32s(32) + b"\1" + u32s(0) + b"\0\1",
    b"\3\1" + record(9, [2, 2], bytes(4)) + bytes(12) + u32s(5) + BIAS))
save("uqff", "numbered_more", numbered(
    b"\4\0" + record(1, [1, 8], bytes(32)) + record(5, [1, 1], bytes(2)) + record(5, [1, 1], bytes(2)) + b"\4\x40",
    b"\5\0" + u32s(2, 2, 1, 64) + bytes(66),
    b"\6\0" + record(0, [2, 16], bytes(32)) + record(0, [2, 1], bytes(2))))



def pickled(*parts):
    return b"\x80\x02" + b"".join(p if isinstance(p, bytes) else p.encode() for p in parts) + b"."


def unicode(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def tensor(storage, n, offset=b"K\0", size=b")", stride=b")", parameter=False):
    t = (b"ctorch._utils\n_rebuild_tensor_v2\n((" + unicode("storage") + b"ctorch\n" + storage.encode() + b"\n" +
         unicode("0") + unicode("cpu") + b"K" + bytes([n]) + b"tQ" + offset + size + stride +
         b"\x89ccollections\nOrderedDict\n)RtR")
    return b"ctorch._utils\n_rebuild_parameter\n" + t + b"\x89N\x87R" if parameter else t


save("pickle", "tensors", pickled("}q\0(", unicode("a"), tensor("FloatStorage", 6, b"K\1", b"K\5\x85", b"K\1\x85"), "q\1",
                                  unicode("b"), tensor("HalfStorage", 12, b"M\2\0", b"K\2K\4\x86", b"K\4K\1\x86", True),
                                  unicode("c"), "h\1", unicode("d"), tensor("ByteStorage", 24, b"J\0\0\0\0"), "u"))
save("pickle", "values", pickled("ccollections\nOrderedDict\n)Rr\0\0\0\0", unicode("m"), "}(", unicode("bits"), "K\4",
                                 unicode("long"), b"\x8a\x06\0\0\0\0\0\1", unicode("scale"), b"G\x3f\xf8\0\0\0\0\0\0",
                                 unicode("shape"), b"ctorch\nSize\nK\2K\3\x86\x85R", unicode("on"), b"\x88",
                                 unicode("type"), "ctorch\nfloat16\n", unicode("none"), "N", unicode("list"), "](K\1K\2e",
                                 unicode("device"), "ctorch\ndevice\n", unicode("cpu"), b"\x85R", "us", "K\5](}Nes",
                                 "}", unicode("_metadata"), "}sb"))
save("pickle", "protocol4", b"\x80\x04\x95\0\0\0\0\0\0\0\0}\x94(\x8c\1a\x94\x8c\5torch\x94\x8c\5int64\x94\x93\x94"
                            b"\x8d\1\0\0\0\0\0\0\0b\x94K\1Na1ju.")
OWN_TYPE = pickled("}", unicode("a"), b"ctorch._utils\n_rebuild_tensor_v3\n((" + unicode("storage") + b"ctorch.storage\nUntypedStorage\n"
                   + unicode("0") + unicode("cpu") + b"K\x18tQK\0K\6\x85K\1\x85\x89ccollections\nOrderedDict\n)Rctorch\nuint32\ntRs")
save("pickle", "own_type", OWN_TYPE)
save("pickle", "shared", pickled("}q\0", unicode("x"), "K\1s0}q\1K\1h\0sK\2h\0s0}K\3h\1sK\4h\1s"))


def archive(entries):
    body = directory = b""
    for name, data in entries:
        shared = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, len(data), len(data), len(name), 0)
        directory += b"PK\1\2\24\0" + shared + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\3\4" + shared + name.encode() + data
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + end


save("pickle", "archive", archive([("t/data.pkl", pickled("}", unicode("a"), tensor("FloatStorage", 2, size=b"K\2\x85", stride=b"K\1\x85"), "s")),
                                   ("t/byteorder", b"little"), ("t/data/0", bytes(8)), ("t/.data/id", b"")]))


save("json", "values", b'[null, true, false, 0, -0, -1.25e+10, 9223372036854775807, NaN, -Infinity, "", []]')
save("json", "strings", b'["\\"\\\\\\/\\b\\f\\n\\r\\t", "\\u00e9\\ud83d\\ude00\\ud83d", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"]')
save("json", "objects", b' {"a": {"b": [{"c": 1}, [[]]]}, "": {}, "\\u0061": "x"} \n')

save("config", "llama", json.dumps({
    "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"}, "eos_token_id": [1, 2], "pad_token_id": None,
    "a": [1, -1], "b": [1, 2.5], "c": [True, False], "d": [], "e": [1, "x"], "f": [[1]], "g": [{"h": 1}]}).encode())
save("config", "templates", json.dumps({
    "chat_template": [{"name": "default", "template": "{{ x }}"}, {"name": "tool_use", "template": "y"}],
    "added_tokens_decoder": {"0": {"content": "<s>", "special": True}},
    "model_max_length": 1000000000000000019884624838656}).encode())


CHECKPOINTS = os.path.join(ROOT, "..", "..", "tests", "vectors", "checkpoints")
BESIDE = "quantize_config", "quant_config", "hf_quant_config"
# bind_fuzz.c has the same list.
TYPES = ("U8 I8 I16 I32 I64 U32 F16 BF16 F32 F64 U16 F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ").split()
MOST_SEED = 2400


def part(name, dtype, shape, data):
    return name.encode() + b"\0" + bytes([TYPES.index(dtype), len(shape)]) + struct.pack("<%dH" % len(shape), *shape) + data


def read(path):
    with open(path, "rb") as f:
        return f.read()


def configs(folder):
    """config.json with the files beside it as its members, which flattens to the same keys."""
    config = json.loads(read(os.path.join(folder, "config.json")))
    for name in BESIDE:
        path = os.path.join(folder, name + ".json")
        if os.path.exists(path):
            config[name] = json.loads(read(path))
    return json.dumps(config).encode()


def modules(folder):
    """Modules that are expected to bind: name, and parts as bind_fuzz reads them. One of those that differ in numbers
    alone."""
    raw = read(os.path.join(folder, "model.safetensors"))
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    found = {}
    for key in header:
        module, _, what = key.rpartition(".")
        if what != "expected":
            continue
        parts = {k: v for k, v in header.items() if k != key and (
            k.startswith(module + ".") or k in (module + "_blocks", module + "_scales", module + "_scale_inv"))}
        data = {k: raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]] for k, v in parts.items()}
        order = [data[k][::4] for k in parts if k.endswith("g_idx")]
        kind = sorted((k[len(module):], v["dtype"], v["shape"]) for k, v in parts.items()), [sorted(o) == list(o) for o in order]
        text = b"".join(part(k, v["dtype"], v["shape"], data[k]) for k, v in parts.items())
        found.setdefault(repr(kind), (module, text))
    return found.values()


for name in sorted(os.listdir(CHECKPOINTS)):
    folder = os.path.join(CHECKPOINTS, name)
    save("qconfig", name, b"\0".join(read(path) if os.path.exists(path) else b"" for path in (
        os.path.join(folder, n + ".json") for n in ("config",) + BESIDE)).rstrip(b"\0"))
    if os.path.exists(os.path.join(folder, "model.safetensors")):
        for module, parts in modules(folder):
            if len(parts) <= MOST_SEED:
                save("bind", name + "-" + module, configs(folder) + b"\0" + parts)


def whole(shape):
    return struct.pack("<%dq" % len(shape), *shape)


def hqq_meta(head, shape, packing, group=None):
    return b"".join(part(head + k, t, s, d) for k, t, s, d in (
        ("shape", "I64", [len(shape)], whole(shape)), ("packing", "U8", [7], packing), ("axis", "I32", [], b"\1\0\0\0"))) + (
            part(head + "group_size", "I32", [], struct.pack("<i", group)) if group else b"")


def hqq_quantized(which):
    """Eight scales or zeros that HQQ quantized to bytes with one scale."""
    return part("m.meta.%s_q" % which, "U8", [8, 1], bytes(range(8))) + hqq_meta(
        "m.meta.meta_%s." % which, [8, 1], b"8bit_u8") + b"".join(
            part("m.meta.meta_%s.%s" % (which, k), "F16", [1], b"\0\x20") for k in ("scale", "zero"))


hqq = b'{"quantization_config":{"quant_method":"hqq","quant_config":{}}}\0' + part("m.W_q", "U8", [4, 32], bytes(range(128)))
hqq += hqq_meta("m.meta.", [4, 64], b"4bit_u8", 32)
save("bind", "hqq-meta", hqq + hqq_quantized("scale") + hqq_quantized("zero"))
save("bind", "hqq-stacked", hqq + part("m.meta.zero_scale", "F16", [2, 8], bytes(32)))

for name, text in (
        ("gptq-dynamic", {"quant_method": "gptq", "bits": 4, "group_size": 128, "meta": {"quantizer": ["gptqmodel:1"]}, "dynamic": {
            "+:.*\\.18\\..*": {"bits": 8, "group_size": 64, "sym": False, "desc_act": True}, "-:.*k_proj": {"bits": 2}}}),
        ("hqq-tags", {"quant_method": "hqq", "quant_config": {"self_attn.k_proj": {"weight_quant_params": {
            "nbits": 1.58, "group_size": 16, "axis": 0}}, "mlp.down_proj": {"weight_quant_params": {"nbits": 8}}}}),
        ("modelopt-layers", {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
            "model.layers.0.mlp.down_proj": {"quant_algo": "FP8"}}, "ignore": ["lm_head"]}),
        ("fp8-blocks", {"quant_method": "fp8", "weight_block_size": [128, 64], "ignored_layers": ["lm_head"]}),
        ("a_config_that_fails_twice", {"bits": "awq", "version": "GEMM"})):
    save("qconfig", name, json.dumps({"quantization_config": text}).encode())

save("recipe", "lines", b"# types\nattn_v = q6_k   # values\n0-2 = 4\n^blk\\.(0|12)\\.ffn_down\\.weight$ = iq4_xs\n(?=x)y=Q5K\n")
save("recipe", "huge_layer", b"77777777777777777777(=q4_k\n9223372036854775807 = q4_k\n")
save("recipe", "slip", b"a(b = q4_k\n")
save("recipe", "backtracking", b"(a|aa)+(l|a|y)+(e|r)+[!] = q4_k\n")
save("recipe", "zero", b"x = q4_k\0y = 2\n")
save("recipe", "topology", b"---\n0-3:\n  isq: Q4K\n  device: cpu\n3-6: {isq: 8}\n'/v_proj/': {isq: q6k}\n1: ~\n")
save("recipe", "deep", b"---\n0: " + b"{a: " * 300)
save("recipe", "flow", b"---\n" + b"[" * 300)
save("recipe", "alias", b"---\n0: &a {isq: q4k}\n1: *a\n")

TEMPLATES = pathlib.Path(__file__).parent.parent / "tests/vectors/templates"
chats = json.loads((TEMPLATES / "conversations.json").read_text())
for path in sorted(TEMPLATES.glob("*.jinja")):
    for name in ["tools", "tool_results", "images"]:
        save("template", f"{path.stem}_{name}", path.read_bytes() + b"\0" + json.dumps(chats[name]).encode())
small = json.loads((TEMPLATES / "expressions.json").read_text())
fine = [c["template"] for c in small["cases"] if "error" not in c]
for i in range(0, len(fine), 100):
    save("template", f"small_{i}", "\n".join(fine[i:i + 100]).encode() + b"\0" + json.dumps(small["variables"]).encode())

# Some formats, each of the flags, weights from ordinary to absurd (fuzz/encode_fuzz.c).
ordinary = struct.pack("<16f", *((-1) ** i * (0.01 + 0.013 * i * i % 0.7) for i in range(16)))
absurd = struct.pack("<12f", float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-40, -1e-44, 0, -0.0, 65504, 65520, 1)
for i in range(0, 80, 2):
    flags = (0, 1, 2, 4, 8, 16, 32, 64, 128, 1 | 32, 4 | 32)[i // 2 % 11]
    head = bytes([i, i % 5, flags, 7 * i % 256, 3 * i % 256])
    save("encode", f"format_{i:02}", head + (ordinary if i % 4 else ordinary + absurd))
