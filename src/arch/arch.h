/* Architectures as data: what a checkpoint says about its shape, and the differences between families as flags. */
#ifndef SR_ARCH_ARCH_H
#define SR_ARCH_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "dev/dev.h"
#include "file/file.h"

/* ------------------------------------------------------------------ hyper-parameters */

typedef enum sr_rope_scaling {
    SR_SCALE_NONE,
    SR_SCALE_LINEAR,
    SR_SCALE_LLAMA3,
    SR_SCALE_DYNAMIC,
    SR_SCALE_YARN,
    SR_SCALE_LONGROPE
} sr_rope_scaling;

/* What layers rotate by; decoder.c has the formulas. */
typedef struct sr_rotation {
    sr_rope_scaling scaling;
    float theta, factor;
    float low, high;            /* llama3 */
    float beta_fast, beta_slow; /* yarn: turns within orig_ctx where its blend begins and ends */
    bool truncate;              /* yarn: to whole features */
    float mscale[2];            /* cosines and sines are multiplied by it; longrope: of either table */
    int32_t orig_ctx;
    const sr_value *short_factor, *long_factor; /* longrope, of a config; GGUF has tensors */
} sr_rotation;
enum { SR_ROTATIONS = 2 }; /* of all layers or the full ones, and of the sliding ones */

/* How a token's experts follow from its router's logits; route.c has the formulas. */
typedef enum sr_gate_kind {
    SR_GATE_SOFTMAX, /* softmax over all, then the best */
    SR_GATE_CHOSEN,  /* the best, then softmax over them */
    SR_GATE_SIGMOID, /* each for itself; a group counts as its two best */
    SR_GATE_SPARSEMIXER
} sr_gate_kind;
enum { SR_MOST_EXPERTS = 1024 };
typedef struct sr_gating {
    sr_gate_kind kind;
    int32_t n, used;             /* experts, and of a token; n 0: no mixture */
    int32_t groups, groups_used; /* equal: no limit. Groups are n / groups experts each */
    bool norm;                   /* weights are divided by their sum + eps, */
    float eps, scale;            /* and all multiplied by scale */
    float jitter;                /* sparsemixer */
} sr_gating;

/* What differs between the layers of one model. */
typedef struct sr_layer_kind {
    int32_t n_head, n_kv_head, d_ff;
    bool sparse;    /* a mixture of experts instead of one MLP */
    int32_t window; /* 0: none */
    int8_t rope;    /* which of the rotations, -1: none */
} sr_layer_kind;

/* Latent attention: what is kept of a token is a vector of `rank`, and the features that rotate. */
typedef struct sr_latent {
    int32_t rank, q_rank; /* q_rank 0: queries come of one matrix */
    int32_t d_nope, d_v;  /* features of a head's keys that do not rotate (its first), and of its values */
    float mscale;         /* scores are multiplied by its square */
} sr_latent;

/* A model's hyper-parameters, filled from config.json or GGUF keys by sr_arch_read, then immutable. */
typedef struct sr_hparams {
    int32_t n_layer, d_model, head_dim, n_vocab, n_ctx_train;
    int32_t n_head, n_kv_head, d_ff; /* the largest of any layer */
    sr_layer_kind *kind;             /* [n_layer] */
    int32_t n_rot;                   /* features of a head that rotate */
    sr_rope_kind rope;
    sr_rotation rotation[SR_ROTATIONS];
    int n_rotation;
    sr_gating gating;
    sr_latent latent;           /* all zero: plain attention */
    int32_t d_expert, d_shared; /* d_ff of an expert, and of what all tokens pass; 0: none */
    sr_act_kind act;
    uint8_t bias;                                   /* SR_BIAS_*: matrices that must have one */
    float eps, attn_scale, attn_cap, logit_cap;     /* caps: 0 is none */
    float embed_scale, residual_scale, logit_scale; /* of embeddings, of what a branch adds, of logits */
    float stretch;                                  /* of attn_scale with the position: sr_attend */
    int32_t stretch_every;
    bool tied; /* no output matrix: the embedding serves */
} sr_hparams;

/* ------------------------------------------------------------------ families */

/* Matrices and vectors by what the decoder does with them. */
typedef enum sr_role {
    SR_EMBED,
    SR_HEAD,
    SR_OUT_NORM,
    SR_ROPE_FREQS,
    SR_ROPE_LONG,
    SR_ROPE_SHORT,
    SR_ATTN_NORM,
    SR_Q,
    SR_K,
    SR_V,
    SR_QKV,
    SR_Q_A, /* of latent attention: queries by two matrices, with a norm between */
    SR_Q_A_NORM,
    SR_Q_B,
    SR_KV_A, /* latent and rotating features, */
    SR_KV_A_NORM,
    SR_KV_B, /* the matrices of each head's keys and values, */
    SR_K_B,  /* or those of keys turned around, */
    SR_V_B,  /* and those of values */
    SR_Q_NORM,
    SR_K_NORM,
    SR_SINKS,
    SR_ATTN_OUT,
    SR_ATTN_POST_NORM,
    SR_FFN_NORM,
    SR_GATE,
    SR_UP,
    SR_GATE_UP,
    SR_DOWN,
    SR_ROUTER,
    SR_ROUTER_BIAS,  /* of the choice alone */
    SR_EXPERTS_GATE, /* of all experts as one stack, */
    SR_EXPERTS_UP,
    SR_EXPERTS_GATE_UP,
    SR_EXPERTS_DOWN,
    SR_SWITCH_GATE, /* the same as MLX calls them, */
    SR_SWITCH_UP,
    SR_SWITCH_DOWN,
    SR_EXPERT_GATE, /* and of one, whose number stands for the name's '*' */
    SR_EXPERT_UP,
    SR_EXPERT_DOWN,
    SR_SHARED_GATE,
    SR_SHARED_UP,
    SR_SHARED_GATE_UP,
    SR_SHARED_DOWN,
    SR_SHARED_SHARE, /* how much of it a token takes */
    SR_FFN_POST_NORM,
    SR_N_ROLES
} sr_role;

/* How both containers call it, without the layer's prefix; NULL: the container has none. */
typedef struct sr_name {
    sr_role role;
    const char *hf, *gguf;
} sr_name;

/* A key in both containers, NULL where one has none, and what an absent one means. */
typedef struct sr_default {
    const char *hf, *gguf;
    double value;
} sr_default;

/* Keys that must be absent, zero, false or none, and what they would change. */
typedef struct sr_reject {
    const char *hf, *gguf, *why;
} sr_reject;

enum { SR_BIAS_QKV = 1, SR_BIAS_ATTN_OUT = 2, SR_BIAS_MLP = 4, SR_BIAS_HEAD = 8 };
enum { SR_FUSED_QKV = 1, SR_FUSED_GATE_UP = 2 };

/* One row a family. Lists end with an element of zeros. */
typedef struct sr_arch {
    const char *name;                /* "llama" */
    const char *gguf_name;           /* general.architecture */
    const char *gguf_key;            /* key (after "<arch>.") that must be set for this row to be the one, or NULL */
    const char *const *hf;           /* what architectures[0] of config.json, or else model_type, may be */
    sr_rope_kind gguf_rope, hf_rope; /* pairing of the rotation in each container */
    sr_norm_kind norm;               /* LAYER: every norm has a bias */
    const char *hf_eps;              /* its epsilon's key; NULL: rms_norm_eps */
    sr_act_kind act;                 /* where a config does not say */
    uint8_t bias;                    /* SR_BIAS_*: required; elsewhere they are used when present */
    uint8_t fused;                   /* SR_FUSED_*: what Hugging Face's classes have in one matrix */
    bool norm_plus1;                 /* Hugging Face's norms multiply by 1 + weight */
    bool post_norms;                 /* what attention and MLP add is normalized first */
    bool parallel;                   /* attention and MLP share one norm and one addition */
    bool ungated;                    /* down(act(up x)) instead of down(act(gate x) * up x) */
    bool qk_norm;                    /* norm a head on q and k, before the rotation */
    bool qk_norm_late;               /* behind it */
    bool qk_norm_optional;           /* where tensors have it */
    bool embed_sqrt;                 /* embeddings times sqrt(d_model) */
    bool window;                     /* obeys sliding_window */
    uint8_t window_period;           /* of each so many layers the last is full; 0: all slide */
    bool local_rope;                 /* sliding layers have a rotation of their own */
    bool sinks;                      /* a score a head besides those of keys */
    bool latent;                     /* latent attention */
    uint8_t nope_every;              /* of each so many layers the last does not rotate; 0: all do */
    const char *experts;             /* a mixture of experts: config's key of their number, */
    const char *experts_used;        /* and of a token's; NULL: num_experts_per_tok */
    sr_gate_kind gate;               /* where files do not say */
    bool stacked_experts;            /* Hugging Face has them in two stacks: gate and up, down, */
    bool turned_experts;             /* which are turned around ([in][out]) where nothing quantized them */
    bool shared;                     /* one MLP beside them that all tokens pass, */
    bool shared_share;               /* times the sigmoid of a logit of its own */
    const sr_name *names;            /* where they differ from most (names.c) */
    const sr_default *defaults;
    const sr_reject *rejects;
    /* Family rules after all keys are read; returns why the model can't run, or NULL. */
    const char *(*check)(const sr_file *file, sr_hparams *h);
} sr_arch;

extern const sr_arch *const sr_archs[]; /* NULL-terminated; arch/table.c */
/* The row of a checkpoint. SR_UNSUPPORTED names what was found, and the keys and tensors that no row would place. */
sr_status sr_arch_find(const sr_file *file, const sr_arch **arch, sr_err *err);
/* Reads and checks every hyper-parameter: afterwards no product of them wraps and no divisor is zero. */
sr_status sr_arch_read(const sr_file *file, const sr_arch *arch, sr_arena *arena, sr_hparams *h, sr_err *err);

/* Whether the embedding is also the head (bind.c). */
bool sr_arch_tied(const sr_file *file, const sr_arch *arch, sr_err *err);

/* ------------------------------------------------------------------ mixtures of experts */

/* The experts [used] of one token, none twice, and their weights, from the router's logits [n]. bias [n] or NULL is
 * added to what they are chosen by, not to what they count for. Whatever the logits are, the experts exist. */
void sr_route(const sr_gating *g, const float *logits, const float *bias, int32_t *expert, float *weight);

/* ------------------------------------------------------------------ names */

enum { SR_NAME = 192 };

/* How one checkpoint spells names. */
typedef struct sr_naming {
    const sr_arch *arch;
    bool gguf;
    const char *body, *head; /* Hugging Face: in front of the model's parts, and of the head */
} sr_naming;

/* "text_config." where a config nests the text model in one of several modalities, else "". */
const char *sr_config_prefix(const sr_file *file);
sr_naming sr_naming_of(const sr_file *file, const sr_arch *arch);
/* "model.layers.3.self_attn.q_proj" + suffix; layer < 0: no layer. False: the container has no such name. */
bool sr_name_full(const sr_naming *naming, sr_role role, int layer, const char *suffix, char out[SR_NAME]);
bool sr_name_expert(const sr_naming *naming, sr_role role, int layer, int expert, const char *suffix,
                    char out[SR_NAME]);
/* The other way: what a tensor or module is, its layer and expert (-1: none), and what stands behind (".weight", or
 * nothing), inside `tensor`. Of roles that share a name (a norm that is post_attention_layernorm here and ffn_norm
 * there) the first whose name it is. */
bool sr_name_parse(const sr_naming *naming, const char *tensor, sr_role *role, int *layer, int *expert,
                   const char **suffix);
/* The role under which GGUF has all experts, of a matrix of one of them; else the role itself. */
sr_role sr_role_stacked(sr_role role);
/* Whether some family has a place for a tensor of this name. */
bool sr_name_known(bool gguf, const char *tensor);

/* ------------------------------------------------------------------ the decoder */

typedef struct sr_norm {
    const float *weight, *bias; /* weight NULL: this layer has no such norm */
} sr_norm;

typedef struct sr_mixture {
    sr_weight router, share; /* share.N 0: none */
    const float *bias;       /* [n] or NULL */
    sr_experts up[2], down;  /* as of sr_layer */
    int n_up, n_weights;
    sr_weight *weight; /* [n_weights] behind up and down */
} sr_mixture;

/* Of latent attention. qkv of its layer are: queries, or what q_b makes them of; latent and rotating features. The
 * layer's q_norm and k_norm are those of the latents. */
typedef struct sr_latent_layer {
    sr_weight q_b;   /* N 0: none */
    sr_weight kv[2]; /* what k and v are in */
    sr_experts k, v; /* a head each: rank x d_nope, d_v x rank */
} sr_latent_layer;

typedef struct sr_layer {
    sr_norm attn_norm, q_norm, k_norm, attn_post_norm, ffn_norm, ffn_post_norm;
    sr_weight qkv[3];        /* q, k, v; or only [0] when fused */
    sr_latent_layer *latent; /* NULL: plain attention */
    const float *sinks;      /* [n_head] or NULL */
    sr_weight attn_out;
    sr_weight up[2]; /* gate, up; or only [0] when fused or ungated */
    sr_weight down;
    struct sr_mixture *mixture; /* NULL: up and down are the MLP; else they are what all tokens pass, if anything */
    int n_qkv, n_up;            /* matrices of qkv and of up; n_up 0: no such MLP */
} sr_layer;

enum { SR_ROPE_TABLES = 8 };

/* The weights of one model in the order of use. Everything is borrowed from the file's map or the model's arena. */
typedef struct sr_decoder {
    const sr_arch *arch;
    sr_hparams h;
    sr_weight embed, head; /* head.plane equals embed's when tied */
    sr_norm out_norm;
    sr_layer *layer; /* [n_layer] */
    sr_rope rope[SR_ROTATIONS];
    int32_t table_limit[SR_ROPE_TABLES]; /* most tokens of a sequence that uses this table of rope[0] */
} sr_decoder;

/* Features that a layer keeps of a token: n_kv_head keys and values of k and v each. v 0: values are part of keys. */
typedef struct sr_kv_shape {
    int32_t n_kv_head, k, v;
} sr_kv_shape;
sr_kv_shape sr_decoder_kv(const sr_decoder *dec, int layer);

/* Visits every matrix once for in-situ quantization before it is placed: `name` is the checkpoint's name without
 * ".weight", is_edge marks embedding and head. The visitor may replace *w. */
typedef sr_status (*sr_weight_fn)(void *user, const char *name, bool is_edge, sr_weight *w, sr_err *err);

/* Binds all weights by name (Hugging Face's or GGUF's), converts vectors to f32 in the arena, computes the rotation
 * tables. What must be turned around is in the arena too, or behind files in scratch_dir where it is not NULL. Missing
 * tensors are SR_CORRUPT naming tensor and family; unknown extra ones are logged. */
sr_status sr_decoder_bind(const sr_file *file, const sr_arch *arch, const sr_hparams *h, sr_arena *arena,
                          const char *scratch_dir, sr_weight_fn visit, void *user, sr_decoder *dec, sr_err *err);

/* Calls fn for every matrix of the decoder by what it is: layer and expert are -1 where it belongs to none. A stack of
 * experts or heads is one matrix. The head of a tied model is not called. */
typedef sr_status (*sr_matrix_fn)(void *user, sr_role role, int layer, int expert, sr_weight *w, sr_err *err);
sr_status sr_decoder_each(sr_decoder *dec, sr_matrix_fn fn, void *user, sr_err *err);

/* The rotation table of a sequence of n tokens. Keys rotated by one are of no use to another: when a sequence grows or
 * shrinks across a limit, it is computed again. */
int32_t sr_decoder_table(const sr_decoder *dec, int32_t n);

/* Scratch buffers of a step, device memory, sized by the engine for `batch` tokens. */
typedef struct sr_scratch {
    float *x, *normed, *qkv, *attn, *ff, *branch; /* [batch][...]: residual, its norm, q k v, heads, gate up, branch */
    float *router, *chosen, *parts;               /* of mixtures: logits, gate up of the choices, what is to be mixed */
    void *host;                                   /* routing, host memory */
} sr_scratch;
enum { SR_N_SCRATCH = 9 };
/* Elements a token that each device buffer needs, in the order of the fields, and bytes of the host's. */
void sr_decoder_scratch(const sr_decoder *dec, int64_t per_token[SR_N_SCRATCH]);
size_t sr_decoder_host_bytes(const sr_decoder *dec, int batch);
/* The most columns that a matrix has. */
int64_t sr_decoder_max_k(const sr_decoder *dec);

typedef struct sr_step_view {
    int T;
    const int32_t *ids, *pos, *table; /* [T] host; table: of its sequence's rotation */
    const sr_span *span;
    int n_span;
    const volatile bool *cancel; /* polled once a layer */
} sr_step_view;

/* The forward pass: straight-line, one layer after the other. Leaves the last layer's residual stream in
 * scratch->x [T][d_model]. SR_CANCELLED when the flag was seen. */
sr_status sr_decoder_forward(const sr_decoder *dec, sr_dev *dev, const sr_scratch *scratch, const sr_step_view *step);
/* One layer of it, on the residual stream in scratch->x. */
void sr_decoder_layer(const sr_decoder *dec, sr_dev *dev, const sr_scratch *scratch, const sr_step_view *step,
                      int layer);
/* logits[n][V] of n rows of the residual stream. x [n][d_model] is normalized in place. */
void sr_decoder_logits(const sr_decoder *dec, sr_dev *dev, float *x, int n, float *logits);

#endif
