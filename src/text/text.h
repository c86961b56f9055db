/* Text: tokenizers, streaming detokenization, sampling. Pure functions over bytes, ids and logits; sees base and file
 * only. The public functions (sr_tokenize, sr_detok_*, sr_sampler_*) are declared in sirocco.h; this header is what
 * core and the tests use beside them. */
#ifndef SR_TEXT_TEXT_H
#define SR_TEXT_TEXT_H

#include "base/buffer.h"
#include "file/file.h"
#include "sirocco.h"

/* Builds the tokenizer of a checkpoint from the file that the directory has for it (sr_file.tokenizer_name), or from
 * GGUF's tokenizer.ggml.* keys. It copies what it needs: the file may be closed afterwards.
 * SR_UNSUPPORTED names what is missing (model, pre-tokenizer, normalizer); SR_CORRUPT what is broken. */
sr_status sr_tokenizer_create(const sr_file *file, sr_tokenizer **tokenizer, sr_err *err);

/* Ids that end a generation (eos, eot, eom and their usual spellings): true when id is one. */
bool sr_tokenizer_is_end(const sr_tokenizer *tokenizer, int32_t id);
/* Adds an id to that set (from generation_config.json). Out of range ids are ignored. */
void sr_tokenizer_add_end(sr_tokenizer *tokenizer, int32_t id);

/* What GGUF's tokenizer.ggml.* keys hold. The arrays are as GGUF stores their elements. */
typedef struct sr_gguf_vocab {
    const char *model, *pre; /* pre: n_pre bytes, NULL: the split has no name there */
    size_t n_pre;
    int32_t n;
    sr_buffer tokens, types, scores, merges; /* texts, i32, f32 (not for "gpt2"), texts (only there) */
    uint64_t n_merges;
    int32_t bos, eos, unk; /* -1: none */
    bool add_bos, add_eos, space_prefix;
} sr_gguf_vocab;
/* Of n_vocab ids, as many as the embedding has. SR_UNSUPPORTED: a kind of tokenizer that is not written. */
sr_status sr_tokenizer_to_gguf(const sr_tokenizer *tokenizer, int32_t n_vocab, sr_gguf_vocab *vocab, sr_err *err);
void sr_gguf_vocab_free(sr_gguf_vocab *vocab);

/* What tokenizer.json holds, and what stands beside it in tokenizer_config.json. */
typedef struct sr_json_vocab {
    sr_buffer text;        /* of tokenizer.json */
    int32_t bos, eos, unk; /* -1: none */
    bool add_bos, add_eos;
} sr_json_vocab;
/* SR_UNSUPPORTED: a kind of tokenizer that is not written. */
sr_status sr_tokenizer_to_json(const sr_tokenizer *tokenizer, sr_json_vocab *vocab, sr_err *err);
void sr_json_vocab_free(sr_json_vocab *vocab);

/* Sampling on a caller's logits; see sr_sampler_* in sirocco.h for the options and their order. */

#endif
