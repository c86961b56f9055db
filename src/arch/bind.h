/* What the files of the decoder share: binding weights by name, and latent attention. Private to arch. */
#ifndef SR_ARCH_BIND_H
#define SR_ARCH_BIND_H

#include "arch/arch.h"

struct sr_binder {
    const sr_file *file;
    sr_qconfig *config;
    const sr_arch *arch;
    sr_naming naming;
    sr_arena *arena;
    const char *scratch_dir; /* or NULL */
    sr_weight_fn visit;
    void *user;
    bool *used; /* [n_parts] */
    sr_err *err;
};

/* Each names what it does not find, and does nothing once there was an error. */
void sr_bind_norm(struct sr_binder *b, sr_role role, int layer, int64_t n, sr_norm *norm);
void sr_bind_matrix(struct sr_binder *b, sr_role role, int layer, int64_t n, int64_t k, bool bias_required,
                    sr_weight *w);
void sr_bind_visit(struct sr_binder *b, const char *stem, bool is_edge, sr_weight *w);
/* The matrix whose columns are the first `rows` of each `pitch` rows of `from`, n pieces [from->K][rows], bit for bit.
 * It is visited as `stem`. */
void sr_bind_turned(struct sr_binder *b, const char *stem, const sr_weight *from, int64_t n, int64_t pitch,
                    int64_t rows, sr_weight *to);
bool sr_bind_has(const struct sr_binder *b, sr_role role, int layer);

/* ------------------------------------------------------------------ latent.c */

void sr_latent_bind(struct sr_binder *b, const sr_hparams *h, int layer, sr_layer *l);
/* scratch->normed [T][d] -> scratch->branch [T][d] */
void sr_latent_attend(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_step_view *step, int layer);
/* Floats a token of scratch->qkv and scratch->attn. */
void sr_latent_scratch(const sr_hparams *h, int64_t *qkv, int64_t *attn);

#endif
