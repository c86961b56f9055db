"""uqff/: small models that mistral.rs itself wrote as UQFF, 0.x and 1.x.

`python make_uqff.py FOLDER VERSION` in an environment with mistralrs of that version; each model in a process of its
own. The weights are a formula of the module's number, row and column (value() below and in uqff_test.c), so that nothing
else has to be kept; the numbers are those of the lines of modules.txt, from 0 on. The program orders the entries of a
file anew in each run.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import mistralrs

EXPERTS, HEADS, KV = 2, 4, 2
if len(sys.argv) > 4 and sys.argv[4] == "Q8_0":  # small: these are for the order of the layers
    D, LAYERS = 32, 2
else:
    D, LAYERS = 64, 1
V = F = D
HEAD = D // HEADS

Q, K, O = (HEADS * HEAD, D), (KV * HEAD, D), (D, HEADS * HEAD)
ATTENTION = {"self_attn.q_proj": Q, "self_attn.k_proj": K, "self_attn.v_proj": K, "self_attn.o_proj": O}
GATED = {"mlp.gate_proj": (F, D), "mlp.up_proj": (F, D), "mlp.down_proj": (D, F)}
NORMS = ["input_layernorm", "post_attention_layernorm"]


def experts(prefix, names):
    shapes = [(F, D), (D, F), (F, D)] if names[0] == "w1" else [(F, D), (F, D), (D, F)]
    return {f"{prefix}.{e}.{n}": s for e in range(EXPERTS) for n, s in zip(names, shapes)}


COMMON = {
    "vocab_size": V, "hidden_size": D, "intermediate_size": F, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": KV, "max_position_embeddings": 128, "rope_theta": 10000.0,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "bos_token_id": 0, "eos_token_id": 1,
}

# model_type: (class, architecture here, configuration, matrices of a layer, norms of a layer, biased modules)
MODELS = {
    "llama": ("LlamaForCausalLM", "Llama", {}, ATTENTION | GATED, NORMS, []),
    "mistral": ("MistralForCausalLM", "Mistral", {"head_dim": HEAD}, ATTENTION | GATED, NORMS, []),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2", {"tie_word_embeddings": True, "sliding_window": 128}, ATTENTION | GATED,
              NORMS, ["q_proj", "k_proj", "v_proj"]),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3", {"head_dim": HEAD, "max_window_layers": 2, "use_sliding_window": False},
              ATTENTION | GATED, NORMS + ["self_attn.q_norm", "self_attn.k_norm"], []),
    "phi3": ("Phi3ForCausalLM", "Phi3", {"original_max_position_embeddings": 128},
             {"self_attn.qkv_proj": (Q[0] + 2 * K[0], D), "self_attn.o_proj": O, "mlp.gate_up_proj": (2 * F, D),
              "mlp.down_proj": (D, F)}, NORMS, []),
    "gemma": ("GemmaForCausalLM", "Gemma", {"attention_bias": False, "head_dim": HEAD, "tie_word_embeddings": True},
              ATTENTION | GATED, NORMS, []),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2",
               {"attention_bias": False, "head_dim": HEAD, "tie_word_embeddings": True, "sliding_window": 64,
                "query_pre_attn_scalar": HEAD, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
               ATTENTION | GATED, NORMS + ["pre_feedforward_layernorm", "post_feedforward_layernorm"], []),
    "phi": ("PhiForCausalLM", "Phi2",
            {"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "qk_layernorm": False, "hidden_act": "gelu_new"},
            {"self_attn.q_proj": Q, "self_attn.k_proj": K, "self_attn.v_proj": K, "self_attn.dense": O,
             "mlp.fc1": (F, D), "mlp.fc2": (D, F)}, ["input_layernorm"],
            ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2", "lm_head"]),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2",
                   {"norm_epsilon": 1e-5, "use_bias": True, "tie_word_embeddings": True,
                    "hidden_act": "gelu_pytorch_tanh"},
                   ATTENTION | {"mlp.c_fc": (F, D), "mlp.c_proj": (D, F)}, NORMS,
                   ["q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"]),
    "mixtral": ("MixtralForCausalLM", "Mixtral", {"num_local_experts": EXPERTS, "num_experts_per_tok": 1},
                ATTENTION | {"block_sparse_moe.gate": (EXPERTS, D)}
                | experts("block_sparse_moe.experts", ["w1", "w2", "w3"]), NORMS, []),
    "phimoe": ("PhiMoEForCausalLM", "Phi3_5MoE",
               {"num_local_experts": EXPERTS, "num_experts_per_tok": 1, "attention_bias": False, "lm_head_bias": False,
                "original_max_position_embeddings": 128, "router_jitter_noise": 0.0},
               ATTENTION | experts("block_sparse_moe.experts", ["w1", "w2", "w3"]), NORMS, []),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "Qwen3Moe",
                  {"head_dim": HEAD, "max_window_layers": 2, "use_sliding_window": False, "num_experts": EXPERTS,
                   "moe_intermediate_size": F, "num_experts_per_tok": 1, "mlp_only_layers": [],
                   "decoder_sparse_step": 1, "norm_topk_prob": True},
                  ATTENTION | experts("mlp.experts", ["gate_proj", "up_proj", "down_proj"]),
                  NORMS + ["self_attn.q_norm", "self_attn.k_norm"], []),
}


def value(number, row, column):
    return ((number * 37 + row * 61 + column * 13 + row * column * 7) % 251 - 125) / 512


def bf16(x):  # every value() is one
    return struct.pack("<f", x)[2:]


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (shape, raw) in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def build(folder, model_type):
    cls, _, config, layer, norms, biased = MODELS[model_type]
    config = COMMON | {"architectures": [cls], "model_type": model_type} | config
    shapes = {"lm_head": (V, D)}
    for i in range(LAYERS):
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    tensors = {"model.embed_tokens.weight": ((V, D), b"".join(bf16(value(0, r, c)) for r in range(V) for c in range(D)))}
    modules = sorted(shapes)
    for number, name in enumerate(modules, 1):
        n, k = shapes[name]
        if name == "lm_head" and config["tie_word_embeddings"]:
            continue
        tensors[f"{name}.weight"] = ((n, k), b"".join(bf16(value(number, r, c)) for r in range(n) for c in range(k)))
        if name.split(".")[-1] in biased:
            tensors[f"{name}.bias"] = ((n,), b"".join(bf16(value(number, r, D)) for r in range(n)))
    final = "model.final_layernorm" if model_type == "phi" else "model.norm"
    for name in [f"model.layers.{i}.{n}" for i in range(LAYERS) for n in norms] + [final]:
        n = HEAD if name.endswith(("q_norm", "k_norm")) else D
        tensors[f"{name}.weight"] = ((n,), bf16(1.0) * n)
        if model_type in ("phi", "phimoe", "starcoder2"):
            tensors[f"{name}.bias"] = ((n,), bf16(0.0) * n)
    if model_type == "phimoe":
        for i in range(LAYERS):
            tensors[f"model.layers.{i}.block_sparse_moe.gate.weight"] = ((EXPERTS, D), bf16(0.5) * EXPERTS * D)
    if model_type == "qwen3_moe":
        for i in range(LAYERS):
            tensors[f"model.layers.{i}.mlp.gate.weight"] = ((EXPERTS, D), bf16(0.5) * EXPERTS * D)
    write_safetensors(f"{folder}/model.safetensors", tensors)
    vocab = {"<s>": 0, "</s>": 1} | {f"t{i}": i for i in range(2, V)}
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for t, i in list(vocab.items())[:2]]
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
                 "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
                 "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                 "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "t2"}}
    for name, content in {"config.json": config, "tokenizer.json": tokenizer,
                          "tokenizer_config.json": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": None,
                                                    "chat_template": "{{ messages[0].content }}"}}.items():
        with open(f"{folder}/{name}", "w") as f:
            json.dump(content, f, indent=1)
    return modules


def write(out, name, model_type, isq):
    with tempfile.TemporaryDirectory() as t:
        os.mkdir(f"{t}/model")
        modules = build(f"{t}/model", model_type)
        which = mistralrs.Which.Plain(model_id=f"{t}/model", arch=getattr(mistralrs.Architecture, MODELS[model_type][1]),
                                      write_uqff=f"{t}/written/{isq.lower()}.uqff", dtype=mistralrs.ModelDType.BF16)
        mistralrs.Runner(which=which, in_situ_quant=isq)
        to = f"{out}/{name}"
        shutil.rmtree(to, ignore_errors=True)
        os.makedirs(to)
        for f in os.listdir(f"{t}/written"):
            if f.endswith(".uqff") or f in ("residual.safetensors", "config.json"):
                shutil.copy(f"{t}/written/{f}", to)
        with open(f"{to}/modules.txt", "w") as f:
            f.write("".join(m + "\n" for m in ["model.embed_tokens"] + modules))


FORMATS = ("Q4_0", "HQQ4", "HQQ8", "AFQ4", "FP8", "F8Q8", "MXFP4")
WANTED = {
    "0.3.2": [("llama", "Q8_0"), ("phi3", "HQQ4")],  # UQFF 0.1.2, the first with residual.safetensors
    "0.6.0": [(m, "Q8_0") for m in MODELS] + [("llama", q) for q in FORMATS[:5]],  # UQFF 0.1.3
    "0.9.5": [("qwen2", "Q8_0")] + [("llama", q) for q in FORMATS],  # UQFF 1.2
}

if __name__ == "__main__":
    folder, version = sys.argv[1:3]
    if len(sys.argv) == 5:
        write(folder, f"{version}-{sys.argv[3]}-{sys.argv[4].lower()}", sys.argv[3], sys.argv[4])
    else:
        for model_type, isq in WANTED[version]:
            subprocess.run([sys.executable, "-B", *sys.argv, model_type, isq], check=True)
