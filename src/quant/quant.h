/* Converting checkpoints: from any that can be read to any format that can be written. What is made of what is decided
 * first (plan.c), from the directory alone; then the tensors are written one after the other (run.c). */
#ifndef SR_QUANT_QUANT_H
#define SR_QUANT_QUANT_H

#include "arch/arch.h"
#include "fmt/fmt.h"
#include "sirocco.h"

enum { SR_TARGET_TEXT = 96 };

/* What a --to says. */
typedef struct sr_target {
    char text[SR_TARGET_TEXT]; /* as it was given, lower case */
    bool gguf;                 /* the container; else a Hugging Face directory */
    const sr_format *fmt;      /* of most matrices */
    sr_qspec spec;
    const struct sr_mix *mix; /* GGUF's rules for single tensors, or NULL */
    bool edges;               /* embedding and head are quantized too (MLX) */
} sr_target;
/* "gguf:q4_k_m", "gptq:4,group=128,sym": SR_INVALID lists what there is. */
sr_status sr_target_parse(const char *text, sr_target *t, sr_err *err);

/* ---- mix.c: which type llama.cpp gives a tensor ---- */

typedef struct sr_mix sr_mix;
/* By name ("q4_k_m", "q4_k", "iq2_m"); NULL: none. At i = 0, 1, ... until NULL. */
const sr_mix *sr_mix_by_name(const char *name);
const sr_mix *sr_mix_at(int i);
const char *sr_mix_name(const sr_mix *m);
int sr_mix_ftype(const sr_mix *m); /* general.file_type */
/* The type of most tensors. */
const sr_format *sr_mix_base(const sr_mix *m);

typedef struct sr_mix_model {
    int n_layer, n_head, n_kv_head, n_expert;
    bool tied, has_importance;
    const char *arch;
} sr_mix_model;
/* The type of the matrix in this role; i-th of n tensors of its kind (attn_v, ffn_down, ...), in the order of layers.
 * K columns: types whose blocks do not divide them are replaced. */
const sr_format *sr_mix_type(const sr_mix *m, const sr_mix_model *model, sr_role role, int i, int n, int64_t K);

/* ---- plan.c ---- */

/* Something that becomes one or more tensors of the result. */
typedef struct sr_job {
    char *module;        /* source: name of the module, or of the tensor that is copied */
    const sr_part *copy; /* not NULL: this tensor as it is, or as f32 where `as_f32` */
    bool dropped;        /* it has no place in the result */
    bool as_f32, plus1;  /* of a vector: f32, and 1 added */
    sr_role role;
    int layer;
    const char **from; /* [n_from] modules whose rows become one matrix, one behind the other */
    int n_from;
    int head_rows;        /* not 0: rows of each so many (a head) change from halves to pairs */
    int64_t N, K;         /* of all n_from */
    const sr_format *was; /* format of the source */
    const sr_format *fmt; /* NULL: parts are copied */
    sr_qspec spec;
    int first_part, n_parts; /* of the plan's parts */
    double error;            /* relative squared error, once written; -1 before, or where none is computed */
} sr_job;

typedef struct sr_out_file {
    char *name; /* in the directory of the result */
    sr_content content;
} sr_out_file;

struct sr_quantizer {
    sr_target target;
    const char *source, *result; /* paths */
    sr_file *file;
    sr_qconfig *config;
    const sr_arch *arch;
    sr_hparams h;
    sr_naming naming;
    sr_arena arena;
    sr_job *job;
    int n_jobs;
    sr_part *part;            /* of the result, in the order of jobs */
    int *part_file, *part_at; /* [n_parts]: where each lies */
    int n_parts, cap_parts;
    sr_out_file *out;
    int n_out;
    sr_value *value; /* of the result: GGUF's metadata */
    int n_values;
    sr_engine *engine; /* for the device's encoders */
    const sr_imatrix *importance;
    int threads;
    bool overwrite;
    int64_t bytes_in, bytes_out, shard_bytes;
    double n_weights;
    sr_progress_fn progress;
    void *user;
};

/* The row of the source that becomes this one. */
int64_t sr_job_row(const sr_job *job, int64_t row);
/* Binds a job's modules, calls fn with a source of its rows, and releases. */
typedef sr_status (*sr_rows_fn)(void *ctx, const sr_source *rows, const sr_weight *w, int n, sr_err *err);
sr_status sr_job_open(const sr_quantizer *q, const sr_job *job, sr_rows_fn fn, void *ctx, sr_err *err);

/* ---- imatrix.c ---- */

/* Importances [n][K] of a matrix by its name in GGUF, in the arena; n is 1, or the number of experts (most: of the
 * model). *n = 0: there are none. SR_INVALID: of other sizes. */
sr_status sr_imatrix_of(const sr_imatrix *im, const char *name, int64_t K, int most, sr_arena *arena, float **values,
                        int *n, sr_err *err);

/* ---- to_gguf.c: from a directory of Hugging Face's to GGUF ---- */

/* Jobs under GGUF's names, experts stacked. */
sr_status sr_gguf_jobs(sr_quantizer *q, sr_err *err);
/* q->value: metadata and tokenizer. */
sr_status sr_gguf_values(sr_quantizer *q, sr_err *err);
/* Whether what was written says the same as the source. */
sr_status sr_gguf_check(const sr_quantizer *q, const sr_file *file, sr_err *err);

/* ---- companions.c: what stands beside the weights in a directory ---- */

/* config.json, tokenizer, template, README.md, index: into the directory `stage`. */
sr_status sr_write_companions(const sr_quantizer *q, const char *stage, sr_err *err);

#endif
