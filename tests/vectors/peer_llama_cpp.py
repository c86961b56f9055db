#!/usr/bin/env python3
"""llama.cpp's logits of the committed GGUF files, against those of `transformers`.

    python peer_llama_cpp.py            writes peer.tsv
    python peer_llama_cpp.py VECTOR...  prints rows

peer.tsv has a line for each file: its name, the largest difference of any logit from expected.bin (or "-"), and what
there is to say. llama.cpp runs on the CPU with float32 keys and values and without flash attention. Its kernels round
activations to the type of the weights, so it gets a copy whose matrices are widened to float32: what is compared is the
mathematics, the metadata and the order of rows.
"""
import ctypes
import pathlib
import sys
import tempfile

import numpy as np
import gguf
import llama_cpp as lc
from gguf.quants import dequantize

from make_gguf import FAMILIES, TINY, read_expected

HERE = pathlib.Path(__file__).resolve().parent
WINDOW = "compared over the 16 tokens of its window: "
NOTES = {
    "mistral": WINDOW + "converters leave it out, and llama.cpp attends to all",
    "starcoder2": WINDOW + "converters leave it out, and llama.cpp attends to all",
    "phi3": WINDOW + "llama.cpp reads it and does not use it",
    "phimoe": "llama.cpp has RMS norms where the model has LayerNorm, and weighs experts by a softmax instead of "
              "sparsemixer; gguf_numpy.py with these two changes gives its logits to 5.6e-06",
    "qwen2_moe": "its tied head stored a second time, without which llama.cpp refuses this family",
    "mixtral_by_expert": "llama.cpp no longer reads experts one by one",
    "gpt_oss_whole": "llama.cpp cuts YaRN's blend to whole features, where the published config says that it must not; "
                     "gguf_numpy.py with that cut gives its logits to 7.8e-06",
    "deepseek_v2": "llama.cpp expects queries in one matrix of models with 26, 27 or 48 layers only",
    "by_layer": "llama.cpp's llama has as many heads in all layers",
}


def widened(path, out):
    """A copy with float32 tensors. Its name says nothing: llama.cpp expects tokens of a vocabulary called phi3."""
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(out, arch)
    writer.add_name("copy")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in ("general.architecture", "general.name"):
            kind, of = field.types[0], field.types[-1]
            writer.add_key_value(key, field.contents(), kind, of if kind == gguf.GGUFValueType.ARRAY else None)
    tensors = {t.name: dequantize(np.ascontiguousarray(t.data), t.tensor_type) for t in reader.tensors}
    if arch == "qwen2moe":
        tensors.setdefault("output.weight", tensors["token_embd.weight"])
    for name, x in tensors.items():
        writer.add_tensor(name, x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(path, ids):
    """[T][V], or None for a file that llama.cpp does not load."""
    model = lc.llama_model_load_from_file(str(path).encode(), lc.llama_model_default_params())
    if not model:
        return None
    p = lc.llama_context_default_params()
    p.n_ctx = p.n_batch = p.n_ubatch = 64
    p.type_k = p.type_v = int(gguf.GGMLQuantizationType.F32)
    p.flash_attn_type = lc.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context, n = lc.llama_init_from_model(model, p), len(ids)
    batch = lc.llama_batch_init(n, 0, 1)
    batch.n_tokens = n
    for i, t in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = t, i, 1, 0, 1
    assert lc.llama_decode(context, batch) == 0
    width = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    y = np.array([np.ctypeslib.as_array(lc.llama_get_logits_ith(context, i), (width,)) for i in range(n)])
    lc.llama_batch_free(batch)
    lc.llama_free(context)
    lc.llama_model_free(model)
    return y


def row(name):
    ids, want = read_expected(TINY / name.removesuffix("_by_expert") / "expected.bin")
    note = NOTES.get(name, "")
    n = 16 if note.startswith(WINDOW) else len(ids)
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / "copy.gguf"
        widened(TINY / f"{name}.gguf", copy)
        y = logits(copy, ids)
    assert y is not None or note, f"{name} does not load"
    return "\t".join([name, "-" if y is None else f"{np.abs(y[:n] - want[:n]).max():.1e}", note])


def main():
    quiet = lc.llama_log_callback(lambda level, text, user: None)
    lc.llama_log_set(quiet, ctypes.c_void_p(0))
    names = sys.argv[1:]
    rows = [row(name) for name in names or FAMILIES + ["mixtral_by_expert", "mixed", "by_layer", "deepseek_q8_0"]]
    print("\n".join(rows))
    if not names:
        (HERE / "peer.tsv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
