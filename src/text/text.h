/* Text: tokenizers, streaming detokenization, sampling. Pure functions over bytes, ids and logits; sees base and file
 * only. The public functions (sr_tokenize, sr_detok_*, sr_sampler_*) are declared in sirocco.h; this header is what
 * core and the tests use beside them. */
#ifndef SR_TEXT_TEXT_H
#define SR_TEXT_TEXT_H

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

/* Sampling on a caller's logits; see sr_sampler_* in sirocco.h for the options and their order. */

#endif
