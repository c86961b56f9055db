/* The objects behind sirocco.h, and who owns what: engine > model > session. Private to core and quant. */
#ifndef SR_CORE_CORE_H
#define SR_CORE_CORE_H

#include "arch/arch.h"
#include "dev/dev.h"
#include "fmt/recipe.h"
#include "text/text.h"

/* Step scratch belongs to the engine and grows to its largest model, when that model is opened. */
struct sr_engine {
    sr_dev *dev;
    int threads, batch;
    bool exact;
    volatile bool cancel;
    sr_scratch scratch;
    size_t scratch_bytes[SR_N_SCRATCH], host_bytes;
    float *logits; /* [logits_rows][n_vocab] of the largest model */
    size_t logits_bytes;
    float *rows; /* [batch][d_model]: the states whose logits are wanted */
    size_t rows_bytes;
    int32_t *ids, *pos, *rope_table; /* [batch] */
    sr_span *span;                   /* [batch] */
    struct sr_ready {
        sr_session *session;
        int row; /* of the step: its last token */
    } * ready;   /* [batch] */
};

struct sr_model {
    sr_engine *engine;
    sr_file *file;
    sr_tokenizer *tokenizer;
    sr_decoder dec;
    sr_arena arena;
    int64_t n_params, weight_bytes, n_active, active_bytes; /* as in sr_model_info */
    const char *isq;                                        /* static: the type, "recipe" or NULL */
    sr_logit_bias *suppressed;                              /* in the arena */
    int n_suppressed;
};

struct sr_session {
    sr_model *model;
    int32_t n_ctx, n_tokens, n_done; /* tokens[0 .. n_done) have their KV */
    int32_t *tokens;                 /* [n_ctx] */
    float *logits;                   /* [n_vocab] of the last token */
    bool has_logits;
    sr_logits_fn on_logits;
    void *user;
    int32_t rope_table; /* what its keys are rotated by: sr_decoder_table */
    sr_kv *kv;          /* [n_layer] */
    int32_t *table;     /* [n_pages], shared by the layers */
    void *pages;        /* device memory behind kv */
    size_t page_bytes;
    sr_arena arena;
};

/* Rows of logits computed at once when every position's are wanted. */
int sr_engine_logits_rows(const sr_engine *e, int32_t n_vocab);
/* Grows the scratch for a model. */
sr_status sr_engine_reserve(sr_engine *e, const sr_decoder *dec, sr_err *err);

/* What a sr_imatrix begins with: core asks it for the importances [n][K] of a matrix of GGUF, and knows no more of it.
 * *n 0: there are none. most: experts at most. */
typedef struct sr_importances {
    sr_status (*of)(const sr_imatrix *im, const char *name, int64_t K, int most, sr_arena *arena, float **values,
                    int *n, sr_err *err);
} sr_importances;

/* In-situ quantization (isq.c). */
typedef struct sr_isq {
    const sr_format *fmt, *edge; /* for matrices, and for embedding and head; NULL: they stay as they are */
    bool experts_only;           /* nothing but experts gets them */
    sr_recipe *recipe;           /* goes before them; or NULL */
    const sr_imatrix *importance;
    sr_naming naming; /* of the checkpoint */
    int n_expert;
    sr_engine *engine;
    sr_arena *arena;
    sr_progress_fn progress;
    void *user;
    double done, total; /* weights */
    bool warned;
} sr_isq;
bool sr_isq_takes(const sr_format *fmt);
/* "4", "q4k", "Q8_0": SR_INVALID lists what is there. */
sr_status sr_isq_resolve(const char *name, sr_isq *isq, sr_err *err);
/* sr_weight_fn */
sr_status sr_isq_visit(void *isq, const char *name, bool is_edge, sr_weight *w, sr_err *err);
/* What sr_isq_visit would make of a matrix of this role: its type (its own where it stays), and its bytes. */
void sr_isq_expect(const sr_isq *isq, sr_role role, const sr_weight *w, const sr_format **fmt, int64_t *bytes);
/* A matrix of an open model in this type (spec NULL: as usual), in the arena, placed. */
sr_status sr_isq_make(sr_isq *isq, const sr_format *fmt, const sr_qspec *spec, sr_role role, int layer, int expert,
                      sr_weight *w, sr_err *err);

#endif
