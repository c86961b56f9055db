/* What conversions from one container to another share: jobs under the result's names, and whether both say the same.
 */
#include <math.h>
#include <string.h>

#include "quant/quant.h"

char *sr_job_name(sr_quantizer *q, sr_role role, int layer, int expert, const char *suffix, sr_err *err) {
    char name[SR_NAME];
    if (!sr_name_expert(&q->to, role, layer, expert, suffix, name)) {
        sr_fail(err, SR_UNSUPPORTED, "%s has no name for a tensor of %s", q->to.gguf ? "GGUF" : "Hugging Face",
                q->arch->name);
        return NULL;
    }
    char *copy = sr_arena_strndup(&q->arena, name, strlen(name));
    if (!copy) sr_fail(err, SR_NOMEM, "no memory for a name");
    return copy;
}

sr_status sr_job_add(sr_quantizer *q, const sr_job *j, sr_err *err) {
    sr_job *to = &q->job[q->n_jobs];
    *to = *j;
    to->module = sr_job_name(q, j->role, j->layer, j->expert, j->copy ? ".bias" : "", err);
    q->n_jobs += to->module != NULL;
    return err->code;
}

sr_status sr_job_add_rows(sr_quantizer *q, const sr_job *j, sr_role role, int64_t pitch, int64_t take, int64_t row0,
                          int step, sr_err *err) {
    sr_job part = *j;
    part.role = role;
    part.pitch = pitch;
    part.take = take;
    part.row0 = row0;
    part.step = step;
    part.N = j->N / pitch * take;
    return sr_job_add(q, &part, err);
}

const sr_job *sr_jobs_find(const sr_jobs *of, sr_role role, int layer) {
    for (int i = 0; i < of->n; i++)
        if (of->job[i].n_from && of->job[i].role == role && of->job[i].layer == layer) return &of->job[i];
    return NULL;
}

sr_status sr_job_join(sr_quantizer *q, const sr_jobs *of, const sr_job *first, sr_role role, int n,
                      const sr_role *roles, const int64_t *rows, sr_err *err) {
    sr_job j = *first;
    const char **from = sr_arena_small(&q->arena, (size_t)n, sizeof *from);
    if (!from) return sr_fail(err, SR_NOMEM, "no memory for a plan");
    j.N = 0;
    for (int i = 0; i < n; i++) {
        const sr_job *one = sr_jobs_find(of, roles[i], first->layer);
        if (!one || one->K != first->K || one->N % rows[i] || one->N / rows[i] != first->N / rows[0])
            return sr_fail(err, SR_UNSUPPORTED,
                           "%s: %s becomes one matrix with others of its layer, of which one is missing or of another "
                           "size (%s)",
                           q->file->path, first->module, q->arch->name);
        from[i] = one->from[0];
        j.weave[i] = rows[i];
        j.N += one->N;
    }
    j.from = from;
    j.n_from = n;
    j.role = role;
    return sr_job_add(q, &j, err);
}

bool sr_is_norm(sr_role role) {
    switch (role) {
    case SR_OUT_NORM:
    case SR_ATTN_NORM:
    case SR_Q_A_NORM:
    case SR_KV_A_NORM:
    case SR_Q_NORM:
    case SR_K_NORM:
    case SR_ATTN_POST_NORM:
    case SR_FFN_NORM:
    case SR_FFN_POST_NORM:
        return true;
    default:
        return false;
    }
}

/* ---------------------------------------------------------------- the same model */

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-6 * (fabs(a) + fabs(b));
}

static bool same_layer(const sr_layer_kind *a, const sr_layer_kind *b) {
    return a->n_head == b->n_head && a->n_kv_head == b->n_kv_head && a->d_ff == b->d_ff && a->sparse == b->sparse &&
           a->window == b->window && a->rope == b->rope;
}

static bool same_rotation(const sr_rotation *want, const sr_rotation *got) {
    if (!near(got->theta, want->theta)) return false;
    if (want->scaling == SR_SCALE_LLAMA3 && got->scaling == SR_SCALE_NONE) return true;
    if (want->scaling == SR_SCALE_YARN && (got->truncate != want->truncate || !near(got->beta_fast, want->beta_fast) ||
                                           !near(got->beta_slow, want->beta_slow) || got->orig_ctx != want->orig_ctx))
        return false;
    if (want->scaling == SR_SCALE_LLAMA3 &&
        (!near(got->low, want->low) || !near(got->high, want->high) || got->orig_ctx != want->orig_ctx))
        return false;
    return got->scaling == want->scaling && near(got->factor, want->factor) && near(got->mscale[0], want->mscale[0]);
}

static const char *difference(const sr_hparams *h, const sr_hparams *g) {
    if (g->n_layer != h->n_layer || g->d_model != h->d_model || g->n_vocab != h->n_vocab) return "sizes";
    if (g->head_dim != h->head_dim || g->n_rot != h->n_rot || g->n_head != h->n_head || g->n_kv_head != h->n_kv_head)
        return "heads";
    const sr_gating *a = &g->gating, *b = &h->gating;
    if (g->d_expert != h->d_expert || g->d_shared != h->d_shared || a->n != b->n || a->used != b->used ||
        a->kind != b->kind || a->norm != b->norm || !near(a->scale, b->scale))
        return "experts";
    if (a->groups_used != a->groups || b->groups_used != b->groups)
        if (a->groups != b->groups || a->groups_used != b->groups_used) return "groups of experts";
    if (g->latent.rank != h->latent.rank || g->latent.q_rank != h->latent.q_rank || g->latent.d_v != h->latent.d_v ||
        g->latent.d_nope != h->latent.d_nope || !near(g->latent.mscale, h->latent.mscale))
        return "latents";
    for (int i = 0; i < h->n_layer; i++)
        if (!same_layer(&g->kind[i], &h->kind[i])) return "layers";
    for (int i = 0; i < h->n_rotation; i++)
        if (!same_rotation(&h->rotation[i], &g->rotation[i < g->n_rotation ? i : 0])) return "rotation";
    if (!near(g->attn_scale, h->attn_scale) || !near(g->attn_cap, h->attn_cap) || !near(g->logit_cap, h->logit_cap) ||
        !near(g->embed_scale, h->embed_scale) || !near(g->residual_scale, h->residual_scale) ||
        !near(g->logit_scale, h->logit_scale) || !near(g->stretch, h->stretch))
        return "scales";
    const bool pairs = (h->act == SR_ACT_SWIGLU_PAIRS && g->act == SR_ACT_SWIGLU) ||
                       (g->act == SR_ACT_SWIGLU_PAIRS && h->act == SR_ACT_SWIGLU); /* apart, or in turns */
    if ((g->act != h->act && !pairs) || g->tied != h->tied || !near(g->eps, h->eps)) return "activation, norm or head";
    return NULL;
}

sr_status sr_file_differs(const sr_quantizer *q, const sr_file *file, const char **what, sr_err *err) {
    const sr_arch *arch;
    sr_hparams g;
    sr_arena arena = {0};
    sr_status s = sr_arch_find(file, &arch, err);
    if (s == SR_OK) s = sr_arch_read(file, arch, &arena, &g, err);
    *what = s == SR_OK ? difference(&q->h, &g) : NULL;
    sr_arena_free(&arena);
    return s;
}

double sr_llama3_divisor(const sr_rotation *t, int i, int n_rot) {
    const double turns = t->orig_ctx / (2 * 3.14159265358979323846 * pow(t->theta, 2.0 * i / n_rot));
    const double mix = fmin(fmax((turns - t->low) / (t->high - t->low), 0), 1);
    return 1 / ((1 - mix) / t->factor + mix);
}
