/* Converting checkpoints: from any that can be read to any format that can be written. What is made of what is decided
 * first (plan.c), from the directory alone; then the tensors are written one after the other (run.c). */
#ifndef SR_QUANT_QUANT_H
#define SR_QUANT_QUANT_H

#include "arch/arch.h"
#include "base/buffer.h"
#include "base/digest.h"
#include "fmt/fmt.h"
#include "fmt/recipe.h"
#include "sirocco.h"

enum { SR_TARGET_TEXT = 96 };

/* How codes are chosen. */
typedef enum sr_method {
    SR_RTN,     /* the nearest to each weight */
    SR_IMATRIX, /* scales for weights of an importance each */
    SR_GPTQ,    /* later weights make up for the errors of earlier ones */
    SR_AWQ,     /* columns with large inputs are made larger, and their inputs smaller */
    SR_HQQ      /* minimums that large errors count less for */
} sr_method;
const char *sr_method_name(sr_method m);
static inline bool sr_method_calibrates(sr_method m) {
    return m == SR_GPTQ || m == SR_AWQ;
}

/* What a --to says. */
typedef struct sr_target {
    char text[SR_TARGET_TEXT]; /* as it was given, lower case */
    bool gguf, uqff;           /* the container; else a Hugging Face directory */
    const sr_format *fmt;      /* of most matrices */
    sr_qspec spec;
    const struct sr_mix *mix; /* GGUF's rules for single tensors, or NULL */
    const sr_format *more;    /* of some matrices, by the rule of mlx-lm's mixed recipes; or NULL */
    bool edges;               /* embedding and head are quantized too (MLX) */
    bool floats;              /* scales have the source's type, where it is one of 16 bits */
    bool experts;             /* stacks of experts alone are quantized: all that the family's loaders know */
    bool group_said;          /* by an option */
} sr_target;
/* "gguf:q4_k_m", "gptq:4,group=128,sym": SR_INVALID lists what there is. */
sr_status sr_target_parse(const char *text, sr_target *t, sr_err *err);
bool sr_target_is_mlx(const sr_target *t);
/* A method that this family's loaders have in a layout of their own becomes that one. SR_UNSUPPORTED: they have none.
 */
sr_status sr_target_suit(const sr_arch *arch, sr_target *t, sr_err *err);

/* A type that matrices of a result may have. */
typedef struct sr_type {
    const sr_format *fmt;
    sr_qspec spec;
} sr_type;
/* Whether loaders of the target read a directory of matrices in several types. SR_UNSUPPORTED: they do not. */
sr_status sr_target_mixes(const sr_target *t, sr_err *err);
/* What a rule's type is there: a number of bits is one of the target's own types, and what the rule leaves open is as
 * in the target. SR_INVALID: the target has no such type. */
sr_status sr_target_type(const sr_target *t, const sr_rule *rule, const char *recipe, sr_type *type, sr_err *err);
/* For i = 0, 1, ... until it returns false: types to choose from for a directory, of few bits first. */
bool sr_target_candidate(const sr_target *t, int i, sr_type *type);

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
/* Roles that rules count together: of values (v, qkv, kv_b), all the ways down, ... */
int sr_mix_kind(sr_role role);
/* A tensor among those of its kind, in the order of layers, and in one by name. */
typedef struct sr_mix_place {
    int layer; /* -1: none */
    int i, n;
} sr_mix_place;
/* The type of the matrix in this role. K columns: types whose blocks do not divide them are replaced. */
const sr_format *sr_mix_type(const sr_mix *m, const sr_mix_model *model, sr_role role, sr_mix_place at, int64_t K);
/* The type, or what replaces it where its blocks do not divide K. */
const sr_format *sr_mix_fitting(const sr_format *fmt, int64_t K);
/* Whether it is a type of GGUF's that this build writes; and general.file_type of a file of mostly this one. */
bool sr_mix_has(const sr_format *fmt);
int sr_mix_ftype_of(const sr_format *fmt);

/* ---- plan.c ---- */

/* Something that becomes one or more tensors of the result. */
typedef struct sr_job {
    char *module;        /* source: name of the module, or of the tensor that is copied */
    const sr_part *copy; /* not NULL: this tensor as it is, or in the type `as` */
    bool dropped;        /* it has no place in the result */
    const char *as;      /* of a vector: the type that it gets, */
    bool plus1, minus1;  /* with 1 added or taken away, */
    bool as_row;         /* and a matrix of one row; */
    const sr_part *with; /* or its numbers in turns with those of this one */
    sr_role role;
    int layer, expert; /* -1: of none, or of all experts */
    const char **from; /* [n_from] modules whose rows become one matrix, one behind the other */
    int n_from;
    /* NULL or factors of columns [experts][K] and rows [N]; by_row also of a vector's numbers. */
    float *by_col, *by_row;
    bool around1;  /* of a vector: its numbers are factors minus 1 */
    int64_t stack; /* experts that it is a stack of, else 0 */
    bool entry;    /* UQFF: in the .uqff files, as a layer or a part of one */
    /* Which rows of the source: of each `pitch` rows (an expert, a head) `take` of them from row0 on, `step` apart; 0:
     * all. Or, not 0: of each `head_rows` rows (a head) the last rot_rows change from halves to pairs, or back. */
    int64_t pitch, take, row0;
    int step, head_rows, rot_rows;
    bool to_halves;
    int64_t weave[3]; /* not 0: in turns so many rows of each of n_from, instead of one behind the other */
    /* Of the first of n_from: n pieces of so many rows, `pitch` apart: rows become columns first. n 0: they do not. */
    struct {
        int64_t n, pitch, rows;
    } turn;
    bool braid;           /* instead of weave: of each of n_from, turned so; columns take turns */
    int64_t N, K;         /* of all n_from */
    const sr_format *was; /* format of the source */
    const char *floats;   /* "f16" or "bf16" where its weights or scales are stored so, else NULL */
    const sr_format *fmt; /* NULL: parts are copied */
    sr_qspec spec;
    int first_part, n_parts; /* of the plan's parts */
    int64_t work;            /* bytes a thread that are allocated to make them */
    double error;            /* relative squared error, once written; -1 before, or where none is computed */
    double seen;             /* share of the rows that something was calibrated for; -1: nothing was to be */
} sr_job;

/* Those of a source. */
typedef struct sr_jobs {
    const sr_job *job;
    int n;
} sr_jobs;

typedef struct sr_out_file {
    char *name; /* in the directory of the result */
    sr_content content;
} sr_out_file;

struct sr_quantizer {
    sr_target target;
    const char *source, *result, *format; /* paths; of the source, or NULL */
    sr_file *file;
    sr_qconfig *config;
    const sr_arch *arch;
    sr_hparams h;
    sr_naming naming, to; /* of the source, and of the result */
    bool from_gguf;       /* to a directory */
    const char *floats;   /* of that: the type of what is not quantized */
    struct {
        sr_buffer config, generation, tokenizer, tokenizer_config;
    } text; /* of that: its files; no tokenizer: empty ones */
    sr_arena arena;
    sr_job *job;
    int n_jobs;
    int *order;               /* [n_jobs]: in which they are carried out */
    sr_part *part;            /* of the result, in the order of jobs */
    int *part_file, *part_at; /* [n_parts]: where each lies */
    int n_parts, cap_parts;
    sr_out_file *out;
    int n_out;
    sr_value *value; /* of the result: GGUF's metadata */
    int n_values;
    sr_engine *engine; /* for the device's encoders */
    const sr_imatrix *importance;
    sr_recipe *recipe; /* while planning */
    sr_method method;
    struct {
        const int32_t *ids; /* [n_windows][n_ctx] */
        int64_t n_windows;
        int n_ctx;
    } calibration;
    int64_t process_bytes; /* of memory, once this is planned */
    int64_t step_bytes;    /* of a calibration, beside moments */
    int64_t moments_bytes; /* of one input that are in memory at most; larger ones are in a file */
    int64_t matrix_bytes;  /* the same of a matrix in its new format */
    double damp;
    int threads;
    bool overwrite;
    int64_t bytes_in, bytes_out, shard_bytes;
    double n_weights;
    sr_progress_fn progress;
    void *user;
};

/* Whether a directory's loaders have it in plain numbers, of a family whose stacks are parameters. */
bool sr_job_is_left(const sr_quantizer *q, const sr_job *job);
/* Whether a matrix of N x K may have that type, resolved for rows of K columns. */
bool sr_type_fits(const sr_type *type, int64_t N, int64_t K);
sr_type sr_type_for(const sr_type *type, int64_t K);
/* What GGUF calls a job's matrix, or the stack that its expert is in there, without ".weight". False: nothing. */
bool sr_job_gguf_name(const sr_quantizer *q, const sr_job *job, char name[SR_NAME]);
/* What is known of a job's columns, in the arena: [*n][K], of which each has N / *n rows; *n 0: nothing. */
sr_status sr_job_importance(const sr_quantizer *q, const sr_job *job, sr_arena *arena, float **importance, int *n,
                            sr_err *err);
/* Whether a matrix of this format has the job's already, row by row and column by column. */
static inline bool sr_job_stays(const sr_job *j, const sr_format *was) {
    return was == j->fmt && !j->head_rows && !j->pitch && !j->turn.n && !j->by_col && !j->by_row;
}
/* Plain numbers; NULL is none. */
static inline bool sr_is_plain(const sr_format *fmt) {
    return fmt && fmt->block == 1 && !fmt->spec.method;
}
/* general.file_type of the result. */
int sr_plan_ftype(const sr_quantizer *q);
/* A vector's numbers as the model multiplies with them, out [n]; what `v` of them becomes once it is stored. */
sr_status sr_job_vector(const sr_job *job, float *out, sr_err *err);
int64_t sr_job_elements(const sr_job *job);
const sr_format *sr_job_vector_format(const sr_job *job);
float sr_job_stored(const sr_job *job, float v);
/* Sizes and beginnings of the source's files: what work on it that is kept depends on. */
void sr_digest_source(const sr_quantizer *q, sr_digest *d);
/* Matrices that its rows are divided among evenly: experts, or 1. */
int sr_job_experts(const sr_quantizer *q, const sr_job *job);
/* A matrix that is of its new format already, of n modules of which w is the first: nothing but its bytes describes it,
 * or both are grouped alike. */
bool sr_job_is_kept(const sr_job *job, const sr_weight *w, const sr_weight *to, int n);
/* How its codes are chosen; SR_IMATRIX: with importances where there are some. */
sr_method sr_job_method(const sr_quantizer *q, const sr_job *job, const sr_weight *to);
/* Squared error of what was made of rows, relative to their squares. */
sr_status sr_job_error(const sr_source *from, const sr_weight *w, int threads, double *error, sr_err *err);
/* Whether its method has moments for it. */
bool sr_job_is_solved(const sr_quantizer *q, const sr_job *job);
/* Moments and what is made are in memory as far as all that the process has, with what it has by now, stays below a
 * layer in bf16 and 256 MiB; where threads alone need more, there are fewer. */
sr_status sr_plan_memory(sr_quantizer *q, sr_err *err);
/* How many inputs the job at this place of the order is the first to need moments of. */
int sr_job_inputs(const sr_quantizer *q, int at);
/* The row of the source that becomes this one. */
int64_t sr_job_row(const sr_job *job, int64_t row);
/* A row of a weight with its columns in the order of x. */
void sr_decode_in_order(const sr_weight *w, int64_t row, float *out);
/* Binds a job's modules, calls fn with a source of its rows, and releases. */
typedef sr_status (*sr_rows_fn)(void *ctx, const sr_source *rows, const sr_weight *w, int n, sr_err *err);
/* Bytes that a thread has for rows which are columns of the source. */
int64_t sr_job_turn_bytes(const sr_job *job);
sr_status sr_job_open(const sr_quantizer *q, const sr_job *job, sr_rows_fn fn, void *ctx, sr_err *err);

/* ---- watch.c: what a model's matrices are multiplied with ---- */

typedef struct sr_watched {
    const sr_weight *w; /* of experts the first */
    sr_role role;       /* as GGUF divides them: experts are one stack */
    int layer, n;       /* n: matrices, of experts */
    int64_t K;
} sr_watched;
/* T rows [K], ld apart, that one of an item's matrices is about to be multiplied with. */
typedef void (*sr_watch_fn)(void *ctx, int item, int matrix, const float *x, int T, int64_t ld);
typedef struct sr_watch sr_watch;
/* From now on fn is called for each multiplication of the model's engine; one watch at a time. */
sr_status sr_watch_open(sr_model *m, sr_watch_fn fn, void *ctx, sr_watch **out, sr_err *err);
const sr_watched *sr_watch_items(const sr_watch *w, int *n);
void sr_watch_close(sr_watch *w);

/* ---- calibrate.c: second moments of what matrices are multiplied with ---- */

/* Over a text, of one matrix or of several that are multiplied with the same. */
typedef struct sr_moments {
    int64_t K, tokens;
    float *h; /* upper triangle (algebra.h): mean of x x^T; once factored U of U diag(d) U^T, unit upper triangular */
    float *d; /* [K], once factored */
    int32_t *order; /* [K]: row i of h is column order[i]; NULL: i */
    bool factored;
} sr_moments;
typedef struct sr_calibration sr_calibration;
/* Bytes that moments, or what is made, take. */
typedef struct sr_kept {
    int64_t memory, disk;
} sr_kept;
/* Whether what a job makes lies in a file without a name until it is written. */
bool sr_job_filed(const sr_quantizer *q, const sr_job *j);
/* Adds those of K columns to what a pass over the text sums up. False: they wait for another pass. */
bool sr_moments_join(const sr_quantizer *q, int64_t K, sr_kept *kept);
/* Of the quantizer's source and text; `stage` is where the states of all tokens go to (files without a name). */
/* Matrices are asked for in the order of layers, and in this order inside of one. */
int sr_calibration_place(sr_role role);
bool sr_calibration_knows(sr_role role);
/* Bytes of memory and of disk beside moments. */
sr_status sr_calibration_step(const sr_quantizer *q, int64_t *bytes, sr_err *err);
int64_t sr_calibration_disk(const sr_quantizer *q);
sr_status sr_calibration_open(const sr_quantizer *q, const char *stage, sr_calibration **out, sr_err *err);
void sr_calibration_close(sr_calibration *c);
/* What the matrices in this role are multiplied with: `matrix` counts experts, else 0. *out is NULL where nothing is
 * known: another role, an expert that was never chosen, a layer before the last one asked for. It stays until the next
 * call, and for the same input as long as nothing else is asked for. */
sr_status sr_calibration_moments(sr_calibration *c, int layer, sr_role role, int matrix, sr_moments **out, sr_err *err);
/* Factors, once: `damp` times the diagonal's mean is added to it. lane not 0: columns by their diagonal, the largest
 * first, so many behind each other stay together. */
sr_status sr_moments_factor(sr_moments *m, int lane, double damp, int threads, sr_err *err);

/* ---- hqq.c ---- */

/* Whether its groups have minimums that are no multiples of their scales. */
bool sr_hqq_fits(const sr_format *fmt, const sr_qspec *spec);
/* As sr_encode. */
sr_status sr_hqq_encode(sr_weight *w, const sr_source *from, int threads, sr_err *err);

/* ---- awq.c ---- */

/* Sets by_col and by_row of the jobs of a layer, in the arena. */
sr_status sr_awq_layer(const sr_quantizer *q, sr_calibration *c, int layer, sr_arena *arena, sr_err *err);
/* That a thread works on, for K columns. */
int64_t sr_awq_bytes(int64_t K);
/* Sets of scales that are tried beside none, on so many rows mostly; and on how many of N. */
enum { SR_AWQ_TRIES = 20, SR_AWQ_ROWS = 128 };
int64_t sr_awq_sample(int64_t N);
/* Whether scales are looked for for the columns of matrices in this role. */
bool sr_awq_scales(const sr_quantizer *q, sr_role role);

enum { SR_SOLVE_ROWS = 32 }; /* that a thread of a solver works on together */

/* ---- gptq.c ---- */

/* Rows row0 .. row0 + n of a weight that has begun (sr_encode_begin), from their source: each column is rounded to what
 * makes up best for the errors of those before it, given factored moments. With m->order, w->perm is the same; or it is
 * NULL, and columns are visited in that order, in whole lanes of the format, and stay where they are. */
sr_status sr_gptq_rows(sr_weight *w, const sr_source *from, int64_t row0, int64_t n, const sr_moments *m, int threads,
                       sr_err *err);
/* That a thread works on; ordered: columns are visited in an order. */
int64_t sr_gptq_bytes(const sr_weight *w, bool ordered);

/* ---- error.c ---- */

/* n rows of K, as they should be and as they are: row[.](ctx, i, out [K]), called from several threads. */
typedef struct sr_rows_pair {
    void (*row[2])(void *ctx, int64_t i, float *out);
    void *ctx;
    int64_t n, K;
} sr_rows_pair;
/* Sums of squared differences, and of squares of the first: the same for any number of threads. */
sr_status sr_rows_compare(const sr_rows_pair *p, int threads, double *error, double *power, sr_err *err);

/* ---- stacks.c ---- */

/* Jobs of single experts become one for all of them, under the source's name of a stack. SR_CORRUPT: one is missing. */
sr_status sr_stack_experts(sr_quantizer *q, sr_err *err);
/* What MLX calls such a stack; other roles are as they are. */
sr_role sr_role_switch(sr_role stack);
/* Whether experts are to be stacks as mlx-lm's models have them: a name in its config stands for all of a layer's. */
bool sr_needs_switches(const sr_quantizer *q);
/* Single experts of a directory become such stacks. */
sr_status sr_switch_experts(sr_quantizer *q, sr_err *err);
/* Jobs of two stacks of a matrix or a vector that is gates and ups, one behind the other or in turns; n: of each. */
sr_status sr_job_add_halves(sr_quantizer *q, const sr_job *j, sr_role gate, sr_role up, int64_t n, sr_err *err);
/* Of "x.bias", and "x_bias" beside a stack that is a parameter. */
bool sr_bias_parse(const sr_naming *naming, const char *name, sr_role *role, int *layer);
/* MLX has gates and ups apart. SR_UNSUPPORTED: no loader of the target reads this family's stacks. */
sr_status sr_part_stacks(sr_quantizer *q, sr_err *err);
/* Of a stack whose rows are columns (and of no other job): they become rows. */
void sr_turn_stack(const sr_quantizer *q, sr_job *j);
/* Of a family whose class has stacks turned around, in a directory of its own layout: they are parameters. */
bool sr_stacks_are_parameters(const sr_quantizer *q);
/* Of such a family, whose gates and ups are apart here: adds what the target's loader expects of this stack, or of this
 * bias of one. SR_UNSUPPORTED: its blocks do not fit. */
sr_status sr_stack_in_turns(sr_quantizer *q, const sr_jobs *of, const sr_job *stack, sr_err *err);
sr_status sr_bias_in_turns(sr_quantizer *q, const sr_job *bias, sr_err *err);

/* ---- tensors.c ---- */

/* One of the tensors that a matrix becomes. */
typedef struct sr_tensor {
    char suffix[48]; /* behind the module's name and a dot; one that begins with '_' needs none */
    const sr_stored *type;
    int n_dims;
    int64_t shape[4];
    const void *data; /* of w; NULL: own */
    int64_t bytes;
    uint8_t own[32];
} sr_tensor;
/* The i-th one of a job whose matrix is w, of job->fmt, written or about to be. False: there are no more. */
bool sr_job_tensor(const sr_job *job, const sr_weight *w, int i, sr_tensor *t);
/* A plane as it is. */
void sr_tensor_plane(const sr_weight *w, const sr_planes *planes, int p, sr_tensor *t);

/* ---- uqff.c ---- */

/* Stacks the experts, and adds what every reader looks for. */
sr_status sr_uqff_jobs(sr_quantizer *q, sr_err *err);
/* Formats and files, as mistral.rs chooses them where a job has no format yet. */
void sr_uqff_choose(sr_quantizer *q);
/* Whether a layer of its reader's can have that type. */
bool sr_uqff_takes(const sr_job *job, const sr_type *type);
bool sr_uqff_tensor(const sr_job *job, const sr_weight *w, int i, sr_tensor *t);

/* ---- imatrix.c ---- */

/* Importances [n][K] of a matrix by its name in GGUF, in the arena; n is 1, or the number of experts (most: of the
 * model). *n = 0: there are none. SR_INVALID: of other sizes. */
sr_status sr_imatrix_of(const sr_imatrix *im, const char *name, int64_t K, int most, sr_arena *arena, float **values,
                        int *n, sr_err *err);

/* ---- renamed.c: jobs of another container ---- */

/* In the arena, as the result calls it; NULL: an error. */
char *sr_job_name(sr_quantizer *q, sr_role role, int layer, int expert, const char *suffix, sr_err *err);
/* Appends a copy of the job under that name. */
sr_status sr_job_add(sr_quantizer *q, const sr_job *job, sr_err *err);
/* The same of rows row0, row0 + step, ... of each `pitch`, as a matrix of their own in another role. */
sr_status sr_job_add_rows(sr_quantizer *q, const sr_job *job, sr_role role, int64_t pitch, int64_t take, int64_t row0,
                          int step, sr_err *err);
/* The one in a role, or NULL. */
const sr_job *sr_jobs_find(const sr_jobs *of, sr_role role, int layer);
/* Appends a job of n matrices of one layer in turns of so many rows each; jobs of the others are done with it. */
sr_status sr_job_join(sr_quantizer *q, const sr_jobs *of, const sr_job *first, sr_role role, int n,
                      const sr_role *roles, const int64_t *rows, sr_err *err);
/* The numbers of a norm, which Gemma's directories have minus 1. */
bool sr_is_norm(sr_role role);
/* What a file that should be of the source's model differs in ("heads"); *what is NULL where nothing does. Fused gates
 * that the other one has apart do not count, nor does a rotation that the other one has in a tensor. */
sr_status sr_file_differs(const sr_quantizer *q, const sr_file *file, const char **what, sr_err *err);
/* What Llama 3's rotation divides frequency i by. */
double sr_llama3_divisor(const sr_rotation *t, int i, int n_rot);

/* ---- to_hf.c, hf_config.c: from GGUF to a directory of Hugging Face's, as if it had never been converted ---- */

/* Jobs under the directory's names. */
sr_status sr_hf_jobs(sr_quantizer *q, sr_err *err);
/* Types of what the target leaves as it is. */
sr_status sr_hf_choose(sr_quantizer *q, sr_err *err);
/* The texts. SR_UNSUPPORTED: config.json cannot say what the model is. */
sr_status sr_hf_values(sr_quantizer *q, sr_err *err);
/* Whether the directory's hyper-parameters and tokens are the source's; `file` has no weights perhaps. */
sr_status sr_hf_check(const sr_quantizer *q, const sr_file *file, sr_err *err);

/* ---- to_gguf.c: from a directory of Hugging Face's to GGUF ---- */

/* Jobs under GGUF's names, experts stacked. */
sr_status sr_gguf_jobs(sr_quantizer *q, sr_err *err);
/* q->value: metadata and tokenizer. */
sr_status sr_gguf_values(sr_quantizer *q, sr_err *err);
/* Whether what was written says the same as the source. */
sr_status sr_gguf_check(const sr_quantizer *q, const sr_file *file, sr_err *err);

/* ---- forecast.c ---- */

/* Bytes of an engine's scratch that a step of T tokens touches, of matrices that are quantized, plain, or both; beside
 * logits. The engine is reserved for the decoder. */
int64_t sr_step_bytes(const sr_engine *e, const sr_decoder *dec, int T, bool quantized, bool plain);
/* Seconds of a product of T rows with a new matrix of this type, at best; *bytes: of the matrix. It is repeated for so
 * many `seconds`. */
sr_status sr_time_product(sr_dev *dev, const sr_type *type, int64_t N, int64_t K, int T, double seconds, int64_t *bytes,
                          double *best, sr_err *err);

/* ---- costs.c, allot.c: which types, under a limit */

enum { SR_MOST_TYPES = 24 };
/* What rounding a matrix of the result costs: sense * error[type], in nats of divergence, where sense is known. Experts
 * of a layer that are matrices of their own count as one. */
typedef struct sr_cost {
    const sr_job *job;  /* of experts the first */
    char name[SR_NAME]; /* in GGUF */
    int group;          /* matrices that were measured together */
    int next;           /* another one that must have the same type, or -1; */
    bool follows;       /* it is such a one's next */
    double sense;
    float error[SR_MOST_TYPES];   /* squared, relative, weighed by importance; below 0: no such type for it */
    int64_t bytes[SR_MOST_TYPES]; /* -1: none */
} sr_cost;

/* A text, and what the model as it is stored says of it. */
typedef struct sr_reference {
    int32_t *ids; /* [n_windows][n_ctx] */
    int64_t n_windows;
    int32_t n_ctx, first; /* positions first .. n_ctx - 2 are compared */
    float *logits;        /* [n_windows][n_ctx - 1 - first][n_vocab] */
    double *norm;         /* log of the sum of their exponentials */
    sr_session *session;
    bool filled;
    int64_t window;
    double sum; /* of divergences, of n positions */
    int64_t n;
} sr_reference;

struct sr_costs {
    sr_quantizer *plan; /* a draft */
    sr_model *model;    /* NULL: nothing was measured */
    sr_type type[SR_MOST_TYPES];
    int n_types, n_usual; /* the first n_usual are for all matrices, the others for those that have them */
    sr_cost *cost;
    int n, n_groups;
    int64_t fixed_bytes;        /* of a file beside these matrices, */
    int64_t fixed_matrix_bytes; /* and of other matrices among them */
    double scale;               /* of a whole model against the sum over its matrices */
    sr_reference *reference;    /* NULL: no text */
    sr_progress_fn progress;
    void *user;
    sr_arena arena;
};
/* What a relative squared error of a matrix costs, about, where nothing was measured. */
double sr_cost_guess(const sr_hparams *h, sr_role role);
/* The type of each matrix, choice[n], for a goal. SR_INVALID: it cannot be met; the message says what can. */
sr_status sr_allot(const sr_costs *c, const sr_goal *goal, int *choice, sr_err *err);
/* Sum of bytes and of costs, with the scale. */
void sr_allot_sum(const sr_costs *c, const int *choice, int64_t *bytes, double *kld);
/* The choice as a recipe of patterns. */
sr_status sr_allot_recipe(const sr_costs *c, const int *choice, sr_recipe **out, sr_err *err);
/* The divergence of the open model with these types. */
sr_status sr_costs_try(sr_costs *c, const int *choice, double *kld, sr_err *err);

/* ---- companions.c: what stands beside the weights in a directory ---- */

/* config.json, tokenizer, template, README.md, index: into the directory `stage`. */
sr_status sr_write_companions(const sr_quantizer *q, const char *stage, sr_err *err);
/* Of a directory that is made of GGUF: those that say what the model and its tokens are. */
sr_status sr_write_texts(const sr_quantizer *q, const char *stage, sr_err *err);

#endif
