/* sirocco: load, run and convert quantized language models.
 *
 * The one public header. Objects are opaque and have a create/open and a free/close function; NULL may be freed.
 *
 *   sr_engine   device, threads and scratch memory. One per process is usual. Not thread-safe: one call at a time.
 *   sr_model    weights, immutable after opening; may be shared by many sessions of the same engine.
 *   sr_session  one sequence of tokens with its KV cache. Sized at creation; a step allocates nothing.
 *   sr_sampler  chooses the next token from logits.
 *   sr_tokenizer, sr_detok, sr_checkpoint   text to ids, ids to text, and the directory of a file.
 *   sr_template a conversation to the text of a prompt.
 *
 * Letters in shapes: T tokens, V vocabulary, K input features, N output features. A matrix [N][K] has K contiguous.
 *
 * Errors: a function that can fail returns sr_status and takes an optional sr_err owned by the caller. The first
 * failure is kept in it: pass an empty one ({0}) to each call. The library never prints, exits or aborts. */
#ifndef SIROCCO_H
#define SIROCCO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SR_API __attribute__((visibility("default")))
#else
#define SR_API
#endif

#define SR_VERSION "0.1.0"

/* ---------------------------------------------------------------- errors */

typedef enum sr_status {
    SR_OK = 0,
    SR_INVALID,     /* an argument makes no sense */
    SR_CORRUPT,     /* a file contradicts its own format */
    SR_UNSUPPORTED, /* well-formed, but not something this build can do */
    SR_NOMEM,
    SR_IO,
    SR_DEVICE,
    SR_LIMIT, /* a documented limit was hit (context, size, regex steps) */
    SR_CANCELLED
} sr_status;

typedef struct sr_err {
    sr_status code;
    char msg[256]; /* one line: what, where, found, expected */
} sr_err;

/* Name of a status ("corrupt input"), never NULL. */
SR_API const char *sr_status_name(sr_status code);

typedef enum sr_log_level { SR_LOG_INFO, SR_LOG_WARNING } sr_log_level;
typedef void (*sr_log_fn)(void *user, sr_log_level level, const char *line);
/* Sets the process-wide sink for warnings and notes (NULL: silent, the default). Set it before other calls. */
SR_API void sr_log_sink(sr_log_fn fn, void *user);

/* Called from long operations with work done so far, in any unit, and the total. Return false to cancel. */
typedef bool (*sr_progress_fn)(void *user, const char *what, double done, double total);

/* ---------------------------------------------------------------- checkpoint: what is in a file */

typedef struct sr_checkpoint sr_checkpoint;

typedef struct sr_tensor_info {
    const char *name; /* borrowed until sr_checkpoint_close */
    const char *type; /* stored type, "q4_k" or "bf16" */
    int n_dims;
    int64_t shape[8]; /* outermost first */
    int64_t n_elements;
    int64_t bytes;
    const char *file; /* path of the shard that holds it */
    int64_t offset;   /* of its first byte in that shard; -1: its bytes lie there in another order */
    bool matrix;      /* one of the parts of a matrix that sr_checkpoint_matrix lists with a format; known once
                         sr_checkpoint_n_matrices was called */
} sr_tensor_info;

/* Opens a GGUF file (or any piece of a split one), a safetensors file or a Hugging Face directory without loading
 * anything. `format` is "gguf", "ggml", "plain" or NULL (by content). All spans are checked here. */
SR_API sr_status sr_checkpoint_open(const char *path, const char *format, sr_checkpoint **out, sr_err *err);
SR_API void sr_checkpoint_close(sr_checkpoint *ck);
SR_API int sr_checkpoint_n_tensors(const sr_checkpoint *ck);
/* Fills `info` for 0 <= i < n_tensors. */
SR_API void sr_checkpoint_tensor(const sr_checkpoint *ck, int i, sr_tensor_info *info);
SR_API int sr_checkpoint_n_values(const sr_checkpoint *ck);
/* Key and printable form of metadata value i; both texts are written to caller buffers of key_cap and text_cap bytes,
 * zero-terminated and cut with "..." where too long. */
SR_API void sr_checkpoint_value(const sr_checkpoint *ck, int i, char *key, size_t key_cap, char *text, size_t text_cap);
/* "GGUF v3", "safetensors": borrowed. */
SR_API const char *sr_checkpoint_container(const sr_checkpoint *ck);

/* What a checkpoint's quantized and plain tensors mean: its matrices, y[T][N] = x[T][K] w[N][K]^T. */
typedef struct sr_matrix_info {
    const char *name;   /* "model.layers.0.self_attn.q_proj"; borrowed until sr_checkpoint_close */
    const char *format; /* row of sr_format_at, "gptq4"; NULL: no format takes its parts, and `why` says so */
    int64_t N, K;       /* a stack of experts counts all its rows; 0 when format is NULL */
    int64_t bytes;      /* of all its parts */
    int32_t group;      /* columns a stored scale, 0: none or not constant */
    int32_t group_n;    /* rows a stored scale, at least 1 */
    bool symmetric;     /* has no zero points or minimums */
    bool act_order;     /* columns belong to groups in an order of their own */
    bool static_groups; /* they were rounded in one, and groups are of consecutive columns */
    bool excluded;      /* the config lists it among the modules that were not quantized */
    char why[256];
} sr_matrix_info;

/* Matrices in file order, found by binding every module's parts: works on the directory alone, touches no weights. Not
 * thread-safe on one checkpoint. */
SR_API int sr_checkpoint_n_matrices(sr_checkpoint *ck);
SR_API void sr_checkpoint_matrix(sr_checkpoint *ck, int i, sr_matrix_info *info);

/* ---------------------------------------------------------------- formats: what this build reads and writes */

typedef struct sr_format_info {
    const char *name, *alias; /* "q4_k", "q4k"; alias may be NULL */
    const char *found_in;     /* a container ("GGUF", "UQFF"), or the quant_method of a checkpoint's config ("gptq") */
    double bits_per_weight;   /* of 4096 x 4096 with the default group */
    int32_t group;            /* columns a scale, 0: none or the checkpoint's own; see `variable_group` */
    bool variable_group;      /* the checkpoint says it; bits_per_weight is with `group` */
    bool writes;              /* usable with --isq */
    bool fast;                /* has kernels of its own; the others run through `decode` */
    const char *tile;         /* "int8", "bf16", "f32": what products are made of */
    const char *reference;    /* package that golden vectors were made with, NULL: none could be run */
} sr_format_info;

/* Row i = 0, 1, ... of the table of formats; false past its end. Texts are static. */
SR_API bool sr_format_at(int i, sr_format_info *info);

/* ---------------------------------------------------------------- tokenizer */

typedef struct sr_tokenizer sr_tokenizer;

/* Tokenizer of a path that sr_checkpoint_open takes; a vocabulary-only GGUF or a directory without weights is enough.
 */
SR_API sr_status sr_tokenizer_open(const char *path, sr_tokenizer **out, sr_err *err);
SR_API void sr_tokenizer_free(sr_tokenizer *t);
SR_API int32_t sr_tokenizer_n_vocab(const sr_tokenizer *t);
/* Ids of special tokens, -1 when there is none. */
SR_API int32_t sr_tokenizer_bos(const sr_tokenizer *t);
SR_API int32_t sr_tokenizer_eos(const sr_tokenizer *t);
/* Whether the model's own convention puts BOS in front of a text. */
SR_API bool sr_tokenizer_adds_bos(const sr_tokenizer *t);

enum {
    SR_TOKENIZE_NO_BOS = 1,    /* leave out what the tokenizer would add in front (and behind) */
    SR_TOKENIZE_NO_SPECIAL = 2 /* spellings of special tokens in the text are plain text */
};
/* Writes up to `cap` ids to `ids` and the full count to *n (call with cap 0 to measure). The text is any `n_text`
 * bytes; bytes that are not UTF-8 are tokenized as U+FFFD each. SR_LIMIT: the pre-tokenizer's regex hit its match or
 * depth limit on this text; the message names the pattern. */
SR_API sr_status sr_tokenize(const sr_tokenizer *t, const char *text, size_t n_text, unsigned flags, int32_t *ids,
                             size_t cap, size_t *n, sr_err *err);
/* The bytes that an id stands for in the middle of a text; borrowed. Special tokens give their spelling.
 * Returns false and an empty string when the id is out of range. */
SR_API bool sr_token_bytes(const sr_tokenizer *t, int32_t id, const char **bytes, size_t *n);
SR_API bool sr_token_is_special(const sr_tokenizer *t, int32_t id);
/* The vocabulary's own spelling of an id ("\u0120the", "<0x0A>"); borrowed, NULL when out of range. */
SR_API const char *sr_token_piece(const sr_tokenizer *t, int32_t id);

/* Streaming ids to text: never splits a character, holds back what may be the start of a stop string. */
typedef struct sr_detok sr_detok;
/* stops: n_stops zero-terminated strings, copied; the output ends before the first one that appears. */
SR_API sr_status sr_detok_create(const sr_tokenizer *t, const char *const *stops, int n_stops, sr_detok **out,
                                 sr_err *err);
SR_API void sr_detok_free(sr_detok *d);
/* Starts a new text. at_start: the first token begins a sequence (its leading space may be dropped). */
SR_API void sr_detok_reset(sr_detok *d, bool at_start);
/* Adds one id; *text (valid until the next call, zero-terminated, *n bytes of complete UTF-8) is what became certain.
 * Special tokens add nothing. Returns true when a stop string was completed: generation should end. */
SR_API bool sr_detok_push(sr_detok *d, int32_t id, const char **text, size_t *n);
/* The rest at the end of a generation; an incomplete character comes out as U+FFFD. */
SR_API void sr_detok_flush(sr_detok *d, const char **text, size_t *n);

/* ---------------------------------------------------------------- chat templates */

/* A template in the language of Jinja 3.1, as the transformers package sets it up: a conversation to the text of a
 * prompt. Immutable, may be shared by threads. It sees the variables that it is given and nothing else, and what a
 * rendering costs is bounded. */
typedef struct sr_template sr_template;

/* The chat template of a path that sr_checkpoint_open takes, or of a file whose name ends in .jinja, or in .json: then
 * its member chat_template, as in tokenizer_config.json. tools: the one that the model keeps for conversations with
 * tools, where there is such a one. The model's special tokens become the variables bos_token, eos_token, unk_token,
 * pad_token ... SR_UNSUPPORTED: it has no chat template, or one that says what chat templates do not (include, import,
 * extends); SR_CORRUPT: it is no template. Messages of this section name the template, line and column. */
SR_API sr_status sr_template_open(const char *path, bool tools, sr_template **out, sr_err *err);
/* The same from n bytes of text; `origin` names it in messages. Both are copied. */
SR_API sr_status sr_template_parse(const char *text, size_t n, const char *origin, sr_template **out, sr_err *err);
SR_API void sr_template_free(sr_template *t);
/* Where it stood: "tokenizer_config.json", a key of GGUF, a path; borrowed. */
SR_API const char *sr_template_home(const sr_template *t);
/* Renders with `variables`, n_variables bytes of a JSON object: messages, tools, add_generation_prompt and whatever
 * else the template asks for. Messages are made what templates expect: members that are null are left out, the
 * arguments of tool calls become objects where they are the text of one, reasoning gets its usual names; so are tools
 * and documents that are null or empty. *text (zero-terminated; *n bytes, which may hold zeros) is released with
 * sr_text_free, and NULL after a failure. SR_INVALID: the template refuses or cannot work with these values; SR_LIMIT:
 * it takes too much time, memory or depth. */
SR_API sr_status sr_template_render(const sr_template *t, const char *variables, size_t n_variables, char **text,
                                    size_t *n, sr_err *err);
SR_API void sr_text_free(char *text);

/* ---------------------------------------------------------------- sampler */

typedef struct sr_logit_bias {
    int32_t id;
    float bias;
} sr_logit_bias;

/* Applied in this order: DRY, frequency and presence penalty (counts over generated tokens: logit -= count * frequency
 * + (count > 0) * presence), repetition penalty (prompt and generated tokens: logit > 0 is divided, else multiplied),
 * logit_bias (added), temperature, softmax, top_k, top_p, min_p, draw.
 *
 * DRY ("don't repeat yourself", p-e-w, oobabooga/text-generation-webui#5677): a token that would make the last n tokens
 * followed by it a repetition of something earlier, n >= dry_allowed_length, loses dry_multiplier * dry_base ^ (n -
 * dry_allowed_length). The longest n of each token counts, at most 50; no repetition reaches across a breaker, and
 * breakers themselves lose nothing. Prompt and generated tokens count, the last 32768 of them. */
typedef struct sr_sampling {
    float temperature; /* < 1e-7: the largest logit, the first of equals */
    int top_k;         /* <= 0: off */
    float top_p;       /* 0 < p < 1, else off: a token goes once the mass before it reaches p of what top_k left */
    float min_p;       /* 0 < p < 1, else off: drops probabilities <= p * the largest */
    float repetition_penalty;                  /* 1: off */
    float frequency_penalty, presence_penalty; /* 0: off */
    uint64_t seed;                             /* same seed, same logits: same ids */
    const sr_logit_bias *logit_bias;           /* borrowed for the create call only */
    int n_logit_bias;
    float dry_multiplier; /* 0: off */
    float dry_base;
    int dry_allowed_length;
    const int32_t *dry_breaker; /* ids; borrowed for the create call only; see sr_dry_breakers */
    int n_dry_breaker;
} sr_sampling;

/* temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, no penalties (dry_base 1.75 and dry_allowed_length 2 are ready),
 * seed 0. */
SR_API sr_sampling sr_sampling_default(void);

typedef struct sr_sampler sr_sampler;
/* SR_INVALID: NaN or a value out of its range, a logit_bias id outside 0..n_vocab-1. */
SR_API sr_status sr_sampler_create(const sr_sampling *s, int32_t n_vocab, sr_sampler **out, sr_err *err);
SR_API void sr_sampler_free(sr_sampler *s);
/* Forgets all accepted tokens, those of the prompt too, and restarts the random sequence from the seed. */
SR_API void sr_sampler_reset(sr_sampler *s);
/* Tells the sampler of a token of the prompt (generated = false) or of one it chose (generated = true). */
SR_API void sr_sampler_accept(sr_sampler *s, int32_t id, bool generated);
/* Chooses an id from logits[V] (read only). NaN logits are never chosen; if none is finite the result is -1. Allocates
 * nothing. The generator is xoshiro256** seeded through splitmix64. */
SR_API int32_t sr_sample(sr_sampler *s, const float *logits);

typedef struct sr_logprob {
    int32_t id;
    float logprob; /* natural logarithm of the probability */
} sr_logprob;
/* Of the latest sr_sample: the logarithm of the probability of `id`, and the `n` most probable tokens in order (fewer
 * than n are had where fewer have a chance; returns how many). The distribution is that after penalties, bias and
 * temperature (1 where the largest logit is taken), before anything is cut off. Destroys nothing; allocates nothing. */
SR_API int sr_sampler_logprobs(sr_sampler *s, int32_t id, float *logprob, sr_logprob *top, int n);

/* The id that stands for each text in sr_sampling.dry_breaker: the last token of "a" and the text. texts NULL: newline,
 * colon, quotation mark, asterisk. ids [n], or [4]; *n_ids is how many were found. */
SR_API sr_status sr_dry_breakers(const sr_tokenizer *t, const char *const *texts, int n, int32_t *ids, int *n_ids,
                                 sr_err *err);

/* ---------------------------------------------------------------- engine */

typedef struct sr_engine sr_engine;

typedef struct sr_engine_options {
    int threads;        /* 0: one per processor */
    int batch;          /* most tokens in one step; 0: 512 */
    const char *device; /* "cpu" or NULL (the best one) */
    const char *isa;    /* "portable", "avx2", "avx512", "amx" or NULL: the fastest that this machine has */
    bool exact;         /* weights as decoded and activations in f32: slow, the reference */
} sr_engine_options;

SR_API sr_status sr_engine_create(const sr_engine_options *options, sr_engine **out, sr_err *err);
SR_API void sr_engine_free(sr_engine *e);
SR_API int sr_engine_threads(const sr_engine *e);
SR_API int sr_engine_batch(const sr_engine *e);
/* Name of the kernel set in use ("avx512"), and of those that this build and machine offer: index 0.., NULL at the end.
 */
SR_API const char *sr_engine_isa(const sr_engine *e);
SR_API const char *sr_isa_available(int i);
/* Features of this processor as words ("avx2 fma avx512f avx512vnni"); borrowed, static. */
SR_API const char *sr_cpu_features(void);
/* Sets or clears the cancel flag. Safe from a signal handler or another thread: a running step ends with SR_CANCELLED
 * at the next layer and the session keeps what was complete before the step. */
SR_API void sr_engine_cancel(sr_engine *e, bool cancel);

/* ---------------------------------------------------------------- model */

typedef struct sr_model sr_model;
typedef struct sr_imatrix sr_imatrix;

/* Which type for which matrix: rules of which the last that matches counts. A file has a rule a line, "REGEX = TYPE";
 * the expression is searched in the matrix's name in the checkpoint and in GGUF ("blk.3.ffn_down.weight"), and "3" or
 * "0-8" on its place mean layers (the second number is not among them). '#' begins a comment. Files .yaml and .yml are
 * mistral.rs's topologies. */
typedef struct sr_recipe sr_recipe;
/* SR_INVALID and SR_CORRUPT name the line; SR_UNSUPPORTED: a topology, and this build reads no YAML. */
SR_API sr_status sr_recipe_read(const char *path, sr_recipe **out, sr_err *err);
/* comment: of the first line. */
SR_API sr_status sr_recipe_write(const sr_recipe *r, const char *path, const char *comment, sr_err *err);
SR_API void sr_recipe_free(sr_recipe *r);

typedef struct sr_model_options {
    const char *format;           /* "gguf", "ggml", "plain" or NULL */
    int gqa;                      /* GGML: heads a key-value head that the file must have, or 0 */
    const char *isq;              /* in-situ quantization: "4", "q4k", "q8_0" ... or NULL */
    bool experts_only;            /* isq is for the experts of a mixture alone */
    sr_recipe *recipe;            /* types that go before isq, which may be NULL then; or NULL. Used in the call only */
    const sr_imatrix *importance; /* what isq should spare; or NULL. Used in the call only */
    const char *scratch_dir;      /* where files without names hold matrices that opening turns around (experts of
                                     gpt-oss, keys of latent attention) instead of memory; or NULL */
    sr_progress_fn progress;      /* may be NULL */
    void *user;
} sr_model_options;

/* Opens a model for running. options may be NULL. The weights stay in the read-only map of the file except those that
 * --isq rewrites and those that must be turned around. The engine must outlive the model. */
SR_API sr_status sr_model_open(sr_engine *e, const char *path, const sr_model_options *options, sr_model **out,
                               sr_err *err);
SR_API void sr_model_close(sr_model *m);

typedef struct sr_model_info {
    const char *arch;      /* "llama" */
    const char *container; /* "GGUF v3", "safetensors" */
    int64_t n_params;
    int64_t weight_bytes;           /* after isq */
    int64_t n_active, active_bytes; /* of these what one token is multiplied with: of experts those it chooses, and not
                                       the embedding, of which it takes a row */
    double bits_per_weight;
    int32_t n_vocab, n_layer, d_model, n_head, n_kv_head, head_dim, d_ff;
    int32_t n_ctx_train; /* context the model was trained for */
    bool has_chat_template;
    const char *isq; /* type that --isq resolved to ("q4_k"), "recipe" where only that was given, or NULL */
} sr_model_info;
SR_API void sr_model_get_info(const sr_model *m, sr_model_info *info);
/* Borrowed until sr_model_close; NULL for a checkpoint of weights alone, which takes and gives ids only. */
SR_API const sr_tokenizer *sr_model_tokenizer(const sr_model *m);
/* The chat template of an open model, as sr_template_open; SR_UNSUPPORTED where it has none. The caller frees it. */
SR_API sr_status sr_model_template(const sr_model *m, bool tools, sr_template **out, sr_err *err);
/* Whether a generation ends with this id (eos and its relatives, generation_config.json included). */
SR_API bool sr_model_is_end(const sr_model *m, int32_t id);
/* Sampling defaults: those of the model's generation_config.json (GGUF: general.sampling) where it has one, else
 * sr_sampling_default. Tokens that the model says to suppress are in logit_bias, borrowed from the model. */
SR_API void sr_model_sampling(const sr_model *m, sr_sampling *s);

/* ---------------------------------------------------------------- session */

typedef struct sr_session sr_session;

typedef struct sr_session_options {
    int32_t n_ctx; /* positions; 0: min(trained context, 8192). More than the trained ones are allowed and logged */
    const char *kv_type; /* how keys and values are kept: "f16", "bf16", "q8_0" (int8 and an f16 scale for 32 features:
                            half the memory), "q4_0" (4 bits likewise: a quarter), "f32"; NULL: f16, in exact mode f32.
                            Heads are rotated before they are rounded to q8_0 and q4_0, which spreads outliers */
} sr_session_options;

/* options may be NULL. SR_INVALID lists the types; SR_NOMEM names the bytes that were asked for. The model must outlive
 * the session. */
SR_API sr_status sr_session_create(sr_model *m, const sr_session_options *options, sr_session **out, sr_err *err);
SR_API void sr_session_free(sr_session *s);
/* Bytes that sr_session_create would take, -1 where it would refuse the options. */
SR_API int64_t sr_session_bytes(const sr_model *m, const sr_session_options *options);
SR_API int32_t sr_session_n_ctx(const sr_session *s);
SR_API const char *sr_session_kv_type(const sr_session *s); /* static */

/* Makes the session's tokens equal to ids[n]: the longest common prefix keeps its KV, the rest becomes pending (at
 * least the last token, so that its logits are computed). SR_LIMIT when n > n_ctx, SR_INVALID for n < 1 or an id out of
 * range. */
SR_API sr_status sr_session_sync(sr_session *s, const int32_t *ids, int32_t n, sr_err *err);
/* Adds one pending token. */
SR_API sr_status sr_session_append(sr_session *s, int32_t id, sr_err *err);
SR_API int32_t sr_session_n_tokens(const sr_session *s); /* pending ones included */
SR_API int32_t sr_session_n_pending(const sr_session *s);
SR_API const int32_t *sr_session_tokens(const sr_session *s);

/* Receives logits[V] of position `position` of session s during a step; `logits` is valid during the call. */
typedef void (*sr_logits_fn)(void *user, sr_session *s, int32_t position, const float *logits);
/* Asks for the logits of every position from now on (NULL: only those of the last token, the default). */
SR_API void sr_session_on_logits(sr_session *s, sr_logits_fn fn, void *user);

/* Evaluates pending tokens of n sessions of one model together, at most sr_engine_batch tokens in all (in order; what
 * does not fit stays pending). Prefill and decode are the same call: repeat until n_pending is 0. Allocates nothing.
 * SR_CANCELLED leaves the sessions as they were before the call. */
SR_API sr_status sr_step(sr_session *const *s, int n, sr_err *err);
/* Logits [V] of the last token once nothing is pending, else NULL. Valid until the next step with this session. */
SR_API const float *sr_session_logits(const sr_session *s);

/* The machine's limits, for doctor and bench: bytes a second of a sequential read past the last cache over all threads,
 * and 8-bit operations a second (a multiplication and an addition are two) of the kernel set in use. Takes about
 * `seconds`, and memory of twice the last cache while it runs. */
typedef struct sr_probe {
    double read_bytes_per_s, int8_ops_per_s;
} sr_probe;
SR_API void sr_engine_probe(sr_engine *e, double seconds, sr_probe *probe);

/* Names that sr_model_options.isq takes, and the format that each resolves to: for i = 0, 1, ... until it returns
 * false. Both texts are static. */
SR_API bool sr_isq_name(int i, const char **name, const char **resolved);

/* ---------------------------------------------------------------- what quantizing cost: matrices */

typedef struct sr_matrix_error {
    const char *role;      /* as GGUF calls it: "attn_q", "ffn_down_exps"; static */
    int32_t layer;         /* -1: embedding and head */
    int64_t N, K;          /* of all experts or heads together */
    const char *from, *to; /* formats in a and b; static */
    double error, power;   /* sums of (a - b)^2 and a^2: the relative error is the root of their quotient */
} sr_matrix_error;
/* `e` is valid during the call. Returning false stops. */
typedef bool (*sr_matrix_error_fn)(void *user, const sr_matrix_error *e);
/* Compares each matrix of b with that of a, as both multiply with it: whatever they are stored as, under which names,
 * fused or not, and after in-situ quantization. Norms and biases are left out; so scales that a method moved from norms
 * into matrices (AWQ) count as error. Runs on the threads of a's engine, while neither steps. SR_INVALID: the models
 * are not built alike; SR_CANCELLED: `each` said so. */
SR_API sr_status sr_compare_matrices(const sr_model *a, const sr_model *b, sr_matrix_error_fn each, void *user,
                                     sr_err *err);

/* ---------------------------------------------------------------- importance matrix */

/* sr_imatrix: the mean square of what each column of each matrix is multiplied with, over a text: what rounding should
 * spare. */
/* From here on the steps of this model's sessions are summed up, until sr_imatrix_free. One at a time an engine; the
 * model and its engine must outlive it. */
SR_API sr_status sr_imatrix_observe(sr_model *m, sr_imatrix **out, sr_err *err);
/* Counts a window of the text that was stepped through, for the file. */
SR_API void sr_imatrix_chunk(sr_imatrix *im);
/* Reads llama.cpp's files (.gguf, .dat) and mistral.rs's (.cimatrix). `im` NULL: a new one; else it is added to that
 * one, and *out is it. SR_CORRUPT: it is none, or of another model than what is there. */
SR_API sr_status sr_imatrix_read(sr_imatrix *im, const char *path, sr_imatrix **out, sr_err *err);
/* As .dat where the path ends so, else as GGUF. chunk: tokens of a window. */
SR_API sr_status sr_imatrix_write(const sr_imatrix *im, const char *path, int64_t chunk, sr_err *err);
SR_API int sr_imatrix_entries(const sr_imatrix *im);
SR_API void sr_imatrix_free(sr_imatrix *im);

/* ---------------------------------------------------------------- quantizer: any checkpoint into any format */

typedef struct sr_quantizer sr_quantizer;

typedef struct sr_quantize_options {
    const char *to;               /* "gguf:q4_k_m", "gptq:4,group=128,sym", "uqff:q4k": a wrong one lists them */
    const char *format;           /* of the source: "gguf", "ggml", "plain" or NULL */
    int threads;                  /* 0: one per processor */
    int64_t shard_bytes;          /* most bytes of one safetensors file; 0: 5 GiB */
    bool overwrite;               /* the result replaces what stands there */
    const sr_imatrix *importance; /* NULL: none. Must outlive the quantizer */
    const char *method;           /* "rtn", "imatrix", "gptq", "awq", "hqq"; NULL: imatrix with importances, else rtn */
    const int32_t *calibration; /* [n_windows][window] ids for gptq and awq: texts that the model is to be good at. Must
                                   outlive the quantizer */
    int64_t n_windows;
    int window;
    sr_recipe *recipe;       /* GGUF: types that go before those of `to`; NULL: none. Used while planning */
    sr_progress_fn progress; /* weights done; may be NULL. Returning false stops: sr_quantizer_run can go on later */
    void *user;
} sr_quantize_options;

/* Decides what becomes what, from the directory of the checkpoint alone; nothing is written. `result` is a file for
 * GGUF, else a directory. options->to is required. SR_INVALID lists the targets; SR_UNSUPPORTED: the model or the
 * target cannot be written. */
SR_API sr_status sr_quantizer_plan(const char *path, const char *result, const sr_quantize_options *options,
                                   sr_quantizer **out, sr_err *err);
SR_API void sr_quantizer_free(sr_quantizer *q);

typedef struct sr_quantize_info {
    const char *container, *arch; /* of the source */
    int64_t bytes_in, bytes_out;  /* of tensors */
    int64_t memory;  /* bytes of the process at most, beside the map of the source: with what it has by now */
    int64_t scratch; /* bytes of files without a name, beside the result, while it is calibrated */
    int n_files, n_tensors, n_quantized;
    double bits_per_weight; /* of all matrices in the result */
} sr_quantize_info;
SR_API void sr_quantizer_info(const sr_quantizer *q, sr_quantize_info *info);
/* About how long sr_quantizer_run would take: some rows of each kind of matrix are converted, and what else it does is
 * timed, for some seconds at most unless a whole matrix is the least that can be; a few MiB are written to a file
 * without a name beside the result. Progress is reported as "timing". SR_CANCELLED: it said no; with another error
 * *seconds is NAN, and a run may still succeed. */
SR_API sr_status sr_quantizer_seconds(sr_quantizer *q, double *seconds, sr_err *err);

typedef struct sr_quantize_tensor {
    const char *name;      /* of the module or tensor; borrowed until sr_quantizer_free */
    const char *from, *to; /* types; to NULL: copied as it is */
    int64_t N, K;          /* 0: no matrix */
    int64_t bytes;         /* in the result */
    double error;          /* squared error relative to the squares, once written; -1: not known */
    double seen;           /* share of the rows that the calibration had data for (experts may never be chosen); -1:
                              nothing was to be calibrated */
} sr_quantize_tensor;
/* For i = 0, 1, ... until it returns false. */
SR_API bool sr_quantizer_tensor(const sr_quantizer *q, int i, sr_quantize_tensor *t);

/* Writes the result, into `result`.part first, which is renamed when everything is there and was read back. With
 * `resume` it goes on where an earlier run of the same plan ended, however that was: the result is the same to the
 * byte. SR_IO: the disk, which may be full; SR_CANCELLED: progress said so. What stood at `result` stays until the end.
 */
SR_API sr_status sr_quantizer_run(sr_quantizer *q, bool resume, sr_err *err);

/* ---------------------------------------------------------------- types of GGUF under a limit */

/* What is known of a model: what rounding each of its matrices to each of GGUF's types costs. */
typedef struct sr_costs sr_costs;

typedef struct sr_costs_options {
    sr_model *model;    /* open as it is stored, to measure with; NULL: costs are estimated from the errors of matrices
                           and what they are. It must outlive the costs, and is as it was behind each call */
    const int32_t *ids; /* [n_windows][n_ctx] of a text */
    int64_t n_windows;
    int32_t n_ctx;
    const char *cache;       /* a directory in which measurements are kept; NULL: none */
    sr_progress_fn progress; /* may be NULL */
    void *user;
} sr_costs_options;
/* o as for sr_quantizer_plan; its `to` and `recipe` do not count. Measuring runs the text once for each matrix, or each
 * of about 50 groups of matrices of one kind. */
SR_API sr_status sr_costs_find(const char *path, const sr_quantize_options *o, const sr_costs_options *c,
                               sr_costs **out, sr_err *err);
SR_API void sr_costs_free(sr_costs *c);

/* The limit: the first that is above 0. */
typedef struct sr_goal {
    double bits_per_weight; /* of all matrices */
    int64_t bytes;          /* of the file */
    double kld;             /* mean divergence from the source over the text, in nats */
} sr_goal;
typedef struct sr_allotment {
    double bits_per_weight;
    int64_t bytes;       /* of the file */
    double kld;          /* expected; without a text it is a rough guess */
    double kld_measured; /* with these types on the text; NAN without one */
    int n_matrices;
} sr_allotment;
/* The types with the least divergence under the limit, or the fewest bytes, as a recipe, which the caller frees. info
 * may be NULL. SR_INVALID: the goal cannot be met; the message says what can. */
SR_API sr_status sr_costs_allot(sr_costs *c, const sr_goal *goal, sr_recipe **out, sr_allotment *info, sr_err *err);

/* ---------------------------------------------------------------- what a type would take */

/* A model as it would be after in-situ quantization to a type. */
typedef struct sr_forecast {
    const char *type; /* static: what isq resolves to, or the type of most weights as they are stored */
    int64_t weight_bytes, session_bytes, scratch_bytes, other_bytes; /* exact, exact, of full steps; this process now */
    int64_t memory; /* all of them: resident once the context is full, weights in the map of the file included */
    double bits_per_weight;
    double kld;     /* a rough guess from the errors of the type and the roles of matrices; 0 where nothing changes */
    double seconds; /* of a token, decoded alone in an empty context; NAN where it was not timed */
} sr_forecast;
/* m is open as it is stored. isq NULL: it stays so. session NULL: as sr_session_create. timed: the product with a
 * matrix of each of the types is timed, which takes some 100 ms and 96 MiB. */
SR_API sr_status sr_model_forecast(sr_model *m, const char *isq, bool experts_only, const sr_session_options *session,
                                   bool timed, sr_forecast *out, sr_err *err);

/* ---------------------------------------------------------------- hub: models by name */

/* Where models by name come from and go to. The cache has the layout of the huggingface_hub package and is shared with
 * it. Texts are borrowed for the call. */
typedef struct sr_hub_options {
    const char *cache;       /* folder of the cache; required */
    const char *endpoint;    /* NULL: https://huggingface.co */
    const char *token;       /* sent to the endpoint's host only; NULL: none */
    const char *revision;    /* branch, tag or commit; NULL: what the name says after '@', else "main" */
    const char *quant;       /* which GGUF or UQFF of several: "q4_k_m", a file, a number of bits; NULL: the only */
    const char *format;      /* "gguf", "plain" or NULL: safetensors where the repository has both */
    bool tokenizer_only;     /* leave the weights out where a tokenizer's file is there */
    bool offline;            /* use the cache alone */
    bool copies;             /* files instead of links in snapshots, as where a file system has no links */
    double timeout;          /* seconds without an answer, or with less than 1 KiB/s, that end an attempt; 0: 10 */
    double patience;         /* longest wait between attempts, in seconds, also where the server asks for it; 0: 60 */
    sr_progress_fn progress; /* bytes that this call loads, in all; may be NULL. Returning false cancels, and what has
                                come so far is used by the next call */
    void *user;
} sr_hub_options;

/* Whether a text reads like "organization/model" or "organization/model@revision". Looks at no file. */
SR_API bool sr_hub_is_name(const char *text);
/* Whether this build can download; without libcurl only the cache is used. */
SR_API bool sr_hub_downloads(void);
/* Brings the files of a model into the cache, as far as they are missing there, and writes the path for sr_model_open
 * to `path`: the directory of the snapshot, or the GGUF or UQFF file in it. One call at a time in a process; several
 * processes may share a cache. Sizes and hashes are checked. SR_INVALID: the name, the revision, or access (the message
 * says which); SR_IO: network or disk; SR_CORRUPT: the server sent something else than it announced; SR_UNSUPPORTED:
 * the repository holds nothing that can be opened, or this build cannot download; SR_LIMIT: `cap` is too small. */
SR_API sr_status sr_hub_resolve(const char *name, const sr_hub_options *options, char *path, size_t cap, sr_err *err);

typedef struct sr_hub_entry {
    const char *name;     /* "organization/model" */
    const char *revision; /* "main"; NULL when no branch or tag points to the commit */
    const char *commit;
    const char *path;   /* the snapshot's directory */
    const char *format; /* "gguf", "safetensors gptq" ...; "" when there are no weights */
    int64_t bytes;
    int n_files, n_missing; /* missing: entries whose content is gone */
} sr_hub_entry;
/* One call for each snapshot in the cache, by name, until it returns false. `e` is valid during the call. */
typedef bool (*sr_hub_entry_fn)(void *user, const sr_hub_entry *e);
/* A cache that is not there has no entries. */
SR_API sr_status sr_hub_list(const sr_hub_options *options, sr_hub_entry_fn each, void *user, sr_err *err);
/* Removes all snapshots of "organization/model" and writes the bytes that became free. Links are not followed. */
SR_API sr_status sr_hub_delete(const sr_hub_options *options, const char *name, int64_t *bytes, sr_err *err);

#ifdef __cplusplus
}
#endif

#endif
