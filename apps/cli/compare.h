/* What compare found, for its table, its JSON and its page. */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include "cli/output.h"
#include "cli/score.h"

enum { MOST_CANDIDATES = 16 };

/* A candidate, or the reference, of which only the first lines count. */
typedef struct compared {
    char name[256], type[72]; /* "model-q4.gguf", "bf16 -> q4_k" */
    char *path;               /* owned */
    const char *isq;          /* what --isq asked for, or NULL */
    int64_t bytes;            /* of matrices */
    double bits_per_weight;
    score score;
    sr_matrix_error *matrix; /* owned; none where the models are not built alike */
    int n_matrices;
} compared;

typedef struct comparison {
    const cli_args *args;
    opened model; /* the reference */
    score_text text;
    score_reference reference;
    compared a, candidate[MOST_CANDIDATES];
    int n;
} comparison;

/* Relative rms error of the matrices in a role (NULL: of all) of a layer (-2: all of them); NAN: there are none. */
double compare_error(const compared *c, const char *role, int layer);
/* The i-th role that any candidate has, or NULL. */
const char *compare_role(const comparison *c, int i);
/* Perplexity relative to the reference's, less 1, and the half width of its 95 % confidence interval: both from the
 * differences of the same tokens. */
double compare_change(const score *s, double *half);

/* One HTML page without scripts or anything from elsewhere; owned by the caller. */
out_text compare_page(const comparison *c);

#endif
