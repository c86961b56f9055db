/* Devices: memory and operations. Slots name mathematics, never formats or models. The forward pass calls them in
 * order; a device may queue them and must have finished when `end` returns.
 *
 * Buffers are device memory obtained by `alloc`; on the CPU they are ordinary pointers. All activations are f32.
 * Letters: T tokens of the step, d features. ld is the distance between consecutive tokens in elements. */
#ifndef SR_DEV_DEV_H
#define SR_DEV_DEV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "fmt/fmt.h"

typedef struct sr_dev sr_dev; /* an opened device; its struct starts with `const struct sr_device *ops` */

typedef struct sr_dev_options {
    int threads;     /* >= 1 */
    int batch;       /* most tokens a step */
    const char *isa; /* NULL: the best */
    bool exact;
} sr_dev_options;

/* Kinds are added together with the kernels and the family that need them. */
typedef enum sr_norm_kind { SR_NORM_RMS, SR_NORM_LAYER } sr_norm_kind;
typedef enum sr_act_kind {
    SR_ACT_SILU,
    SR_ACT_GELU_TANH,
    SR_ACT_RELU2,
    SR_ACT_SWIGLU,
    SR_ACT_SWIGLU_PAIRS,
    SR_N_ACTS
} sr_act_kind;
typedef enum sr_rope_kind { SR_ROPE_NONE, SR_ROPE_ADJACENT, SR_ROPE_HALVES } sr_rope_kind;

/* Rotation of the first 2 * n_pair features of a head. freq[n_table][n_pair] are radians a position; cos and sin are
 * multiplied by scale[n_table]. ADJACENT turns (x[2i], x[2i+1]), HALVES turns (x[i], x[i + n_pair]). Which table a
 * sequence uses is the caller's, by its length. */
typedef struct sr_rope {
    sr_rope_kind kind;
    int n_pair, n_table;
    const float *freq, *scale;
} sr_rope;

/* How a device keeps keys and values: a head's features in blocks, of which the last one is padded. */
typedef struct sr_kv_type {
    const char *name;
    int block, block_bytes;
} sr_kv_type;
/* Bytes of one position of a head of hd features. */
static inline size_t sr_kv_bytes(const sr_kv_type *type, int hd) {
    return (size_t)((hd + type->block - 1) / type->block) * (size_t)type->block_bytes;
}

/* KV of one layer of one session: pages of SR_KV_PAGE positions, [page][n_kv_head] of SR_KV_PAGE * sr_kv_bytes each,
 * whose inside is the device's own; position p lies in page table[p / SR_KV_PAGE]. */
enum { SR_KV_PAGE = 256 };
typedef struct sr_kv {
    void *k, *v; /* v NULL: the values are the first features of the keys */
    const int32_t *table;
    const sr_kv_type *type; /* a row of the device's */
} sr_kv;

/* A run of consecutive tokens of one session inside the step's T tokens. */
typedef struct sr_span {
    int first, n;    /* rows first .. first+n of the step */
    int32_t pos0;    /* position of its first token */
    const sr_kv *kv; /* [n_layer] */
} sr_span;

/* One matrix of each of E experts (or heads), N x K: a stack of rows (n = 1), or a weight each (n = E). */
typedef struct sr_experts {
    const sr_weight *w; /* [n] */
    int n;
    int64_t N, K, pitch, row0; /* of a stack: rows from one expert's first to the next one's, and the first one's */
} sr_experts;

/* Which experts a step's tokens chose, host memory. A choice is a token with an expert; choices are numbered by expert,
 * those of one expert by token, and no token chooses an expert twice. */
typedef struct sr_choices {
    int n, n_expert;
    const int32_t *first; /* [n_expert + 1]: expert e has the choices first[e] .. first[e + 1] */
    const int32_t *token; /* [n]: whose choice it is */
} sr_choices;

/* Causal attention of a whole step: for each span, positions 0 .. pos of each token, the last `window` of them when
 * window > 0 (key masked when q_pos - k_pos >= window). score = scale * q.k, capped by cap * tanh(score / cap) when
 * cap > 0. Where stretch > 0, scale grows with the query's position: times 1 + stretch * ln(1 + floor(pos /
 * stretch_every)). q [T][n_head * hd_k] with ld_q, out [T][n_head * hd_v] with ld_out. K and V of the step's tokens are
 * stored first. sink [n_head] or NULL: a score of each head that takes its share of the softmax and adds nothing.
 * Each query splits its keys in fixed chunks of SR_KV_PAGE positions merged in order, so that the result
 * does not depend on the thread count. */
typedef struct sr_attend {
    int layer, n_head, n_kv_head, hd_k, hd_v;
    float scale, cap, stretch;
    int32_t window, stretch_every;
    const sr_span *span;
    int n_span;
    const float *sink;
    const float *q, *k, *v; /* k, v: [T][n_kv_head * hd] of this step, already rotated */
    int64_t ld_q, ld_kv, ld_out;
    float *out;
} sr_attend;

typedef struct sr_device {
    const char *name;
    sr_status (*open)(const sr_dev_options *options, sr_dev **dev, sr_err *err);
    void (*close)(sr_dev *dev);
    /* Prepares a weight (CPU: resolves its kernels; GPU: uploads). Sets w->fast or w->placed. */
    sr_status (*place)(sr_dev *dev, sr_weight *w, sr_err *err);
    /* Whether it has kernels made for this format; all others it multiplies through decode. */
    bool (*has_kernels)(const sr_format *fmt);
    /* Optional: what it writes this format with, faster than its row (sr_weight.encoder). NULL: nothing better. */
    const sr_encoder *(*encoder)(const sr_dev *dev, const sr_format *fmt);
    /* Scratch for steps with matrices up to these sizes; called once a model before its first step. */
    sr_status (*reserve)(sr_dev *dev, int64_t max_k, int64_t max_n, int n_head, int head_dim, sr_err *err);
    /* Bytes of that scratch which steps of T tokens write to, where matrices of at most max_k columns are quantized,
     * plain (f16 ...), or experts. The rest costs address space alone. */
    size_t (*working)(const sr_dev *dev, int T, int64_t max_k, bool quantized, bool plain, bool experts);
    void *(*alloc)(sr_dev *dev, size_t bytes); /* zeroed; NULL when out of memory */
    void (*free)(sr_dev *dev, void *at, size_t bytes);
    /* Type i of keys and values that it knows, NULL behind the last; "f16" and "f32" are among them. */
    const sr_kv_type *(*kv_type)(const sr_dev *dev, int i);
    void (*read)(sr_dev *dev, const void *at, void *host, size_t bytes);
    void (*write)(sr_dev *dev, void *at, const void *host, size_t bytes);
    void (*begin)(sr_dev *dev);
    sr_status (*end)(sr_dev *dev, sr_err *err);

    /* out[T][w->K] = rows ids[T] of the embedding, times scale. ids are host memory, checked by the caller. */
    void (*embed)(sr_dev *dev, const sr_weight *w, const int32_t *ids, int T, float scale, float *out);
    /* out = norm(x) * weight + bias over d features, for T * heads vectors: token t, head h starts at x + t * ld + h *
     * d; out may be x. RMS: x / sqrt(mean(x^2) + eps), without a bias; LAYER: (x - mean) / sqrt(variance + eps), whose
     * bias may be NULL. */
    void (*norm)(sr_dev *dev, sr_norm_kind kind, const float *x, int T, int heads, int64_t ld, int d,
                 const float *weight, const float *bias, float eps, float *out, int64_t ld_out);
    /* y[i][T][w[i]->N] = x[T][K] * w[i]^T + bias for n weights that share x and K; y[i] has ld_y[i]. */
    void (*matmul)(sr_dev *dev, const sr_weight *const *w, int n, const float *x, int T, int64_t ld_x, float *const *y,
                   const int64_t *ld_y);
    /* The same for experts, each with the tokens that chose it: y[i][c->n][w[i]->N], row c = x of choice c times the
     * matrix of its expert. x has a row a token, or (by_choice) one a choice. What a choice gets does not depend on the
     * others. */
    void (*matmul_experts)(sr_dev *dev, const sr_experts *const *w, int n, const sr_choices *c, const float *x,
                           int64_t ld_x, bool by_choice, float *const *y, const int64_t *ld_y);
    /* y[t * ld_y + h * step_y] [N] = x[t * ld_x + h * step_x] [K] * w^T of head h, for all tokens and heads. */
    void (*matmul_heads)(sr_dev *dev, const sr_experts *w, int n_head, const float *x, int T, int64_t ld_x,
                         int64_t step_x, float *y, int64_t ld_y, int64_t step_y);
    /* d features of each head of each token, to another place. */
    void (*copy)(sr_dev *dev, const float *x, int T, int64_t ld_x, int heads, int64_t step_x, int d, float *out,
                 int64_t ld_out, int64_t step_out);
    /* out[T][d]: row t = the sum over i < n of weight[t * n + i] * y[row[t * n + i]], in this order. row and weight are
     * host memory; y has ld d. */
    void (*mix)(sr_dev *dev, const float *y, const int32_t *row, const float *weight, int n, int T, int d, float *out);
    /* In place on x[T][n_head * head_dim]. pos[T], and table[T] (clipped to the last one that the rope has), host
     * memory. */
    void (*rope)(sr_dev *dev, const sr_rope *rope, const int32_t *pos, const int32_t *table, int T, float *x,
                 int64_t ld, int n_head, int head_dim);
    void (*attend)(sr_dev *dev, const sr_attend *a);
    /* out = act(gate) * up, [T][d], or act(gate) where up is NULL; gate and up have ld_in, out (which may be gate) has
     * ld_out. SILU: x / (1 + e^-x). GELU_TANH: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))). RELU2: max(x,
     * 0)^2. SWIGLU, for which up counts: min(x, 7) / (1 + e^-(1.702 min(x, 7)))
     * times (1 + up kept within -7 .. 7). SWIGLU_PAIRS: the same of gate's even and odd features, 2 d of them; up does
     * not count. */
    void (*act)(sr_dev *dev, sr_act_kind kind, const float *gate, const float *up, int T, int d, int64_t ld_in,
                float *out, int64_t ld_out);
    void (*add)(sr_dev *dev, float *x, const float *y, int64_t n, float scale); /* x += scale * y */
    /* x *= scale, then x = cap * tanh(x / cap) where cap > 0. */
    void (*soft_cap)(sr_dev *dev, float *x, int64_t n, float scale, float cap);
    /* Seconds-long measurement of the machine's limits; see sr_engine_probe. */
    void (*probe)(sr_dev *dev, double seconds, sr_probe *probe);
    const char *(*isa)(const sr_dev *dev);
} sr_device;

/* NULL-terminated; table.c names them. */
extern const sr_device *const sr_devices[];
const sr_device *sr_device_by_name(const char *name); /* NULL: the first */

struct sr_dev {
    const sr_device *ops;
};

/* For sr_weight.encoder of a weight that is about to be written. */
static inline const sr_encoder *sr_dev_encoder(const sr_dev *dev, const sr_format *fmt) {
    return dev->ops->encoder ? dev->ops->encoder(dev, fmt) : NULL;
}

#endif
