#!/usr/bin/env python3
"""The bundled model as quantization packages write it, to measure what their formats cost end to end.

    python story_checkpoints.py bnb|mlx|gptq|awq|ct|modelopt WORK      writes WORK/<family>-<what>/

What tiny_quantized.py does to a tiny model, done to models/story-6m; nothing is committed. Then, for each directory,

    sirocco eval WORK/<dir> --text tests/data/heldout-100k.txt --against models/story-6m

is the line of docs/formats.md.
"""
import pathlib
import shutil
import sys

import tiny_quantized as tiny

STORY = pathlib.Path(__file__).resolve().parents[2] / "models" / "story-6m"
VOCAB = 4096


def main():
    family, work = sys.argv[1], pathlib.Path(sys.argv[2])
    work.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tiny.TINY / "phi3", work / "phi3", dirs_exist_ok=True)
    own_base, own_expected, own_fresh = tiny.base, tiny.write_expected, tiny.fresh

    def base(directory, kind="llama", **changes):
        if kind != "llama":
            return own_base(directory, kind, **changes)
        shutil.copytree(STORY, directory, dirs_exist_ok=True)
        return VOCAB

    def fresh(name):
        target = own_fresh(name)
        for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copy(STORY / file, target)
        return target

    def write_expected(source, target, vocab, found, limit=0):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(STORY / file, target)
        own_expected(source, target, vocab, found, 10**9)

    tiny.TINY, tiny.base, tiny.fresh, tiny.write_expected = work, base, fresh, write_expected
    tiny.transformers.logging.set_verbosity_error()
    getattr(tiny, family)(work / f"scratch-{family}")


main()
