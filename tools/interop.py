#!/usr/bin/env python3
"""Perplexity of a model that sirocco wrote, by the loader that it is for. The protocol is that of `sirocco eval`.

    interop.py transformers|gptqmodel|mlx|llama MODEL TEXT CTX CHUNKS
"""
import json
import math
import os
import sys


def logits_of(kind, path):
    """A function from a window of ids to its logits, rows of numpy float64."""
    import numpy as np

    if kind == "mlx":
        import mlx.core as mx
        from mlx_lm import load

        model, _ = load(path)
        model.set_dtype(mx.float32)  # its CPU kernels for bfloat16 are slow
        return lambda ids: np.array(model(mx.array([ids])).astype(mx.float32))[0]
    if kind == "llama":
        import llama_cpp
        from llama_cpp import Llama

        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = False  # weights as they are stored: its AMX tiles end in SIGILL on some machines
        llama_cpp.llama_cpp.llama_model_default_params = lambda: params
        model = Llama(path, n_ctx=512, logits_all=True, verbose=False, n_threads=2)

        def run(ids):
            model.reset()
            model.eval(ids)
            return np.array(model.scores[: len(ids)])

        return run
    import torch

    torch.set_grad_enabled(False)
    if kind == "gptqmodel":
        from gptqmodel import BACKEND, GPTQModel

        model = GPTQModel.load(path, backend=BACKEND.TORCH, device="cpu", dtype=torch.bfloat16).model
    else:
        from transformers import AutoModelForCausalLM

        dtype = torch.bfloat16 if "fp4" in path and "bnb" not in path else torch.float32
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, device_map="cpu")
    return lambda ids: model(torch.tensor([ids])).logits[0].float().numpy()


def ids_of(kind, path, text):
    """Ids of the text and of BOS."""
    if kind == "llama":
        from llama_cpp import Llama

        model = Llama(path, vocab_only=True, verbose=False)
        return model.tokenize(text.encode(), add_bos=False, special=False), model.token_bos()
    from tokenizers import Tokenizer

    config = json.load(open(os.path.join(path, "config.json"), encoding="utf-8"))
    tokenizer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    return tokenizer.encode(text, add_special_tokens=False).ids, config["bos_token_id"]


def main():
    import numpy as np

    kind, path, text, ctx, chunks = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    ids, bos = ids_of(kind, path, open(text, encoding="utf-8").read())
    ids, run, total, n = [bos] + ids, logits_of(kind, path), 0.0, 0
    for chunk in range(chunks):
        window = [bos] + ids[chunk * ctx + 1 : (chunk + 1) * ctx]
        rows = np.asarray(run(window), dtype=np.float64)
        for at in range(ctx // 2, ctx - 1):
            row = rows[at] - rows[at].max()
            total -= row[window[at + 1]] - math.log(np.exp(row).sum())
            n += 1
    print(f"{math.exp(total / n):.4f}")


main()
