/* Architectures as data: what a checkpoint says about its shape, and the differences between families as flags. */
#ifndef SR_ARCH_ARCH_H
#define SR_ARCH_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "dev/dev.h"
#include "file/file.h"

typedef enum sr_rope_scaling { SR_SCALE_NONE, SR_SCALE_LINEAR, SR_SCALE_LLAMA3 } sr_rope_scaling;

/* A model's hyper-parameters, filled from config.json or GGUF keys by sr_arch_read, then immutable. */
typedef struct sr_hparams {
    int32_t n_layer, d_model, n_head, n_kv_head, head_dim, d_ff, n_vocab, n_ctx_train;
    int32_t n_rot;  /* features of a head that rotate */
    int32_t window; /* 0: none */
    float eps, rope_theta, attn_scale;
    sr_rope_kind rope;
    sr_rope_scaling scaling;
    float rope_factor, rope_low, rope_high;
    int32_t rope_orig_ctx;
    bool tied; /* no output matrix: the embedding serves */
} sr_hparams;

/* One row a family. */
typedef struct sr_arch {
    const char *name;           /* "llama" */
    const char *gguf_name;      /* general.architecture */
    const char *gguf_key;       /* key (after "<arch>.") that must exist for this row to be the one, or NULL */
    const char *hf_class;       /* architectures[0] of config.json */
    const char *hf_type;        /* model_type, where the class is absent */
    sr_rope_kind gguf_rope;     /* pairing in GGUF files; Hugging Face's is HALVES for every row here */
    bool qkv_bias;              /* q, k, v biases are required (elsewhere they are used when present) */
    bool qk_norm;               /* RMS norm a head on q and k before the rotation */
    bool window;                /* obeys sliding_window */
    const char *const *rejects; /* "hf key|gguf key", which must be absent, zero, false or none; NULL-terminated */
    /* Family rules after all keys are read; returns why the model can't run, or NULL. */
    const char *(*check)(const sr_file *file, sr_hparams *h);
} sr_arch;

extern const sr_arch *const sr_archs[]; /* NULL-terminated; arch/table.c */
/* The row of a checkpoint; SR_UNSUPPORTED names what was found and lists the rows. */
sr_status sr_arch_find(const sr_file *file, const sr_arch **arch, sr_err *err);
/* Reads and checks every hyper-parameter: afterwards no product of them wraps and no divisor is zero. */
sr_status sr_arch_read(const sr_file *file, const sr_arch *arch, sr_hparams *h, sr_err *err);

typedef struct sr_layer {
    const float *attn_norm, *ffn_norm, *q_norm, *k_norm;
    sr_weight qkv[3]; /* q, k, v; or only [0] when fused */
    sr_weight attn_out;
    sr_weight gate_up[2]; /* gate, up; or only [0] when fused */
    sr_weight down;
    bool qkv_fused, gate_up_fused;
} sr_layer;

/* The weights of one model in the order of use. Everything is borrowed from the file's map or the model's arena. */
typedef struct sr_decoder {
    const sr_arch *arch;
    sr_hparams h;
    sr_weight embed, head; /* head.plane equals embed's when tied */
    const float *out_norm;
    sr_layer *layer; /* [n_layer] */
    sr_rope rope;
} sr_decoder;

/* Visits every matrix once for in-situ quantization before it is placed: `name` is the checkpoint's name without
 * ".weight", is_edge marks embedding and head. The visitor may replace *w. */
typedef sr_status (*sr_weight_fn)(void *user, const char *name, bool is_edge, sr_weight *w, sr_err *err);

/* Binds all weights by name (Hugging Face's or GGUF's), converts vectors to f32 in the arena, computes the rotation
 * table. Missing tensors are SR_CORRUPT naming tensor and family; unknown extra ones are logged. */
sr_status sr_decoder_bind(const sr_file *file, const sr_arch *arch, const sr_hparams *h, sr_arena *arena,
                          sr_weight_fn visit, void *user, sr_decoder *dec, sr_err *err);

/* Scratch buffers of a step, device memory, sized by the engine for `batch` tokens. */
typedef struct sr_scratch {
    float *x, *normed, *qkv, *attn, *ff, *branch; /* [batch][...]: residual, its norm, q k v, heads, gate up, branch */
} sr_scratch;
/* Elements a token that each buffer needs, in the order of the fields. */
void sr_decoder_scratch(const sr_decoder *dec, int64_t per_token[6]);

typedef struct sr_step_view {
    int T;
    const int32_t *ids, *pos; /* [T] host */
    const sr_span *span;
    int n_span;
    const volatile bool *cancel; /* polled once a layer */
} sr_step_view;

/* The forward pass: straight-line, one layer after the other. Leaves the last layer's residual stream in
 * scratch->x [T][d_model]. SR_CANCELLED when the flag was seen. */
sr_status sr_decoder_forward(const sr_decoder *dec, sr_dev *dev, const sr_scratch *scratch, const sr_step_view *step);
/* logits[n][V] of n rows of the residual stream. x [n][d_model] is normalized in place. */
void sr_decoder_logits(const sr_decoder *dec, sr_dev *dev, float *x, int n, float *logits);

#endif
