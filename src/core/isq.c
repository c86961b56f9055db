/* In-situ quantization: each matrix is rewritten once while the model opens, rows in parallel, straight from the map.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "core/core.h"

/* Plain types have no scales to fit. */
bool sr_isq_takes(const sr_format *fmt) {
    return fmt->fit != NULL;
}

bool sr_isq_name(int i, const char **name, const char **resolved) {
    if (i < 0) return false;
    if ((*name = sr_format_number(i, resolved))) return true;
    for (int n = 0; sr_format_number(n, resolved); n++) i--;
    for (int f = 0; sr_formats[f]; f++)
        if (sr_isq_takes(sr_formats[f]) && i-- == 0) {
            *name = sr_formats[f]->alias ? sr_formats[f]->alias : sr_formats[f]->name;
            *resolved = sr_formats[f]->name;
            return true;
        }
    return false;
}

sr_status sr_isq_resolve(const char *name, sr_isq *isq, sr_err *err) {
    const char *shown, *resolved;
    const sr_format *fmt = sr_format_asked(name);
    if (!fmt || !sr_isq_takes(fmt)) {
        char list[160] = "";
        for (int i = 0; sr_isq_name(i, &shown, &resolved); i++) {
            size_t at = strlen(list);
            if (at + strlen(shown) + 8 > sizeof list) {
                strcpy(list + at, " ...");
                break;
            }
            snprintf(list + at, sizeof list - at, "%s%s", i ? " " : "", shown);
        }
        return sr_fail(err, SR_INVALID, "--isq '%.32s' is unknown; expected one of %s", name, list);
    }
    isq->fmt = fmt;
    isq->edge = fmt->promote ? sr_format_by_name(fmt->promote) : fmt;
    return SR_OK;
}

static void decoded_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const sr_weight *from = ctx;
    for (int64_t i = 0; i < n; i++) from->fmt->decode(from, row0 + i, 0, from->K, out + i * from->K);
}

/* What a matrix is; its name in GGUF, "" where it has none there. */
struct place {
    sr_role role;
    int layer, expert;
    char gguf[SR_NAME];
};
static struct place place_of(const sr_isq *isq, sr_role role, int layer, int expert) {
    struct place p = {.role = sr_role_stacked(role), .layer = layer, .expert = expert};
    const sr_naming gguf = {isq->naming.arch, true, "", ""};
    if (!sr_name_full(&gguf, p.role, p.layer, "", p.gguf)) p.gguf[0] = 0;
    return p;
}
static struct place place_named(const sr_isq *isq, const char *name) {
    sr_role role;
    int layer, expert;
    const char *suffix;
    if (sr_name_parse(&isq->naming, name, &role, &layer, &expert, &suffix)) return place_of(isq, role, layer, expert);
    return (struct place){.role = SR_N_ROLES, .layer = -1, .expert = -1};
}

/* Importances [*n][K] of a matrix, in the order of its stored columns; NULL: there are none. */
static sr_status importance_of(const sr_isq *isq, const struct place *p, const sr_weight *w, sr_arena *arena,
                               float **values, int *n, sr_err *err) {
    /* Matrices that are rows of several in another model: what they are multiplied with is the same. */
    static const sr_role same[][2] = {{SR_QKV, SR_Q}, {SR_EXPERTS_GATE_UP, SR_EXPERTS_GATE}};
    const sr_importances *ask = (const sr_importances *)isq->importance;
    const sr_naming gguf = {isq->naming.arch, true, "", ""};
    *values = NULL;
    *n = 0;
    if (!ask || !p->gguf[0]) return SR_OK;
    sr_status s = ask->of(isq->importance, p->gguf, w->K, isq->n_expert, arena, values, n, err);
    for (size_t i = 0; i < sizeof same / sizeof *same && s == SR_OK && *n == 0; i++) {
        char name[SR_NAME];
        if (p->role == same[i][0] && sr_name_full(&gguf, same[i][1], p->layer, "", name))
            s = ask->of(isq->importance, name, w->K, isq->n_expert, arena, values, n, err);
    }
    if (s != SR_OK || *n == 0) return s;
    if (p->expert >= 0 && *n > 1) { /* one of them */
        if (p->expert < *n) *values += p->expert * w->K;
        *n = 1;
    }
    if (w->N % *n) *n = 1;
    if (!w->perm) return SR_OK;
    float *sorted = sr_arena_alloc(arena, (size_t)*n * (size_t)w->K, sizeof *sorted);
    if (!sorted) return sr_fail(err, SR_NOMEM, "no memory for importances");
    for (int64_t i = 0; i < *n; i++)
        for (int64_t k = 0; k < w->K; k++) sorted[i * w->K + k] = (*values)[i * w->K + w->perm[k]];
    *values = sorted;
    return SR_OK;
}

/* *w as fmt, in the arena, with importance [n][K] or NULL; *done false, and *w as it was, where this shape cannot be.
 */
static sr_status quantize(sr_isq *isq, const sr_format *fmt, const sr_qspec *spec, const float *importance, int n,
                          sr_weight *w, bool *done, sr_err *err) {
    const sr_engine *e = isq->engine;
    sr_source source = {.rows = decoded_rows, .ctx = w};
    sr_arena own = {0};
    sr_weight to;
    sr_err why = {0};
    sr_status s = sr_weight_create(fmt, w->N, w->K, spec, &own, &to, &why);
    if (s == SR_OK) to.encoder = sr_dev_encoder(e->dev, fmt);
    if (s == SR_OK) s = sr_encode(&to, &source, importance, n, e->threads, &why);
    *done = s == SR_OK;
    if (!*done) {
        sr_arena_free(&own);
        return s == SR_INVALID ? SR_OK : sr_fail(err, s, "%s", why.msg);
    }
    sr_arena_join(isq->arena, &own);
    to.bias = w->bias;
    to.perm = w->perm;
    *w = to;
    return SR_OK;
}

/* As `wanted` (spec NULL: as usual), or as what replaces it where the shape does not fit. */
static sr_status remake(sr_isq *isq, const struct place *p, const sr_format *wanted, const sr_qspec *spec,
                        const char *name, sr_weight *w, sr_err *err) {
    sr_arena arena = {0};
    float *importance = NULL;
    int n = 0;
    bool done = false;
    sr_status s = importance_of(isq, p, w, &arena, &importance, &n, err);
    if (s == SR_OK) s = quantize(isq, wanted, spec, importance, n, w, &done, err);
    for (int i = 0; i < 2 && s == SR_OK && !done && wanted->fallback[i]; i++) {
        const sr_format *other = sr_format_by_name(wanted->fallback[i]);
        done = other == w->fmt;
        if (!done) s = quantize(isq, other, NULL, importance, n, w, &done, err);
    }
    sr_arena_free(&arena);
    if (s == SR_OK && !done)
        sr_log(SR_LOG_WARNING, "%s: %lld x %lld does not fit %s: left as %s", name, (long long)w->N, (long long)w->K,
               wanted->name, w->fmt->name);
    return s;
}

static bool is_expert(sr_role role) {
    return role >= SR_EXPERTS_GATE && role <= SR_EXPERTS_DOWN;
}

/* The type that a matrix is to have, and its group, 0: as usual; NULL: it stays as it is. */
static sr_status wanted_type(sr_isq *isq, const struct place *p, const char *name, bool is_edge, const sr_format **fmt,
                             int32_t *group, sr_err *err) {
    const sr_rule *rule = NULL;
    sr_status s =
        isq->recipe ? sr_recipe_find(isq->recipe, name, p->gguf[0] ? p->gguf : NULL, p->layer, &rule, err) : SR_OK;
    *fmt = rule ? rule->fmt : NULL;
    *group = rule ? rule->group : 0;
    if (rule || s != SR_OK) return s;
    if (!isq->experts_only || is_expert(p->role)) *fmt = is_edge ? isq->edge : isq->fmt;
    return SR_OK;
}

sr_status sr_isq_visit(void *user, const char *name, bool is_edge, sr_weight *w, sr_err *err) {
    sr_isq *isq = user;
    const struct place p = place_named(isq, name);
    const sr_format *wanted;
    int32_t group;
    isq->done += (double)w->N * (double)w->K;
    if (isq->progress && !isq->progress(isq->user, "quantizing", isq->done, isq->total))
        return sr_fail(err, SR_CANCELLED, "quantizing was cancelled");
    sr_status s = wanted_type(isq, &p, name, is_edge, &wanted, &group, err);
    if (s != SR_OK || !wanted || wanted == w->fmt) return s;
    if (8 * sr_weight_bytes(w) < 16 * w->N * w->K && !isq->warned) {
        isq->warned = true;
        sr_log(SR_LOG_WARNING, "%s is quantized already (%s): quantizing again to %s adds its loss to the first", name,
               w->fmt->name, wanted->name);
    }
    sr_qspec spec = wanted->spec;
    if (group && spec.group > 0) spec.group = group; /* a number of bits is a type of GGUF's here */
    return remake(isq, &p, wanted, &spec, name, w, err);
}

void sr_isq_expect(const sr_isq *isq, sr_role role, const sr_weight *w, const sr_format **fmt, int64_t *bytes) {
    const sr_format *wanted = role == SR_EMBED || role == SR_HEAD ? isq->edge : isq->fmt;
    *fmt = w->fmt;
    *bytes = sr_weight_bytes(w);
    if (!wanted || role == SR_ROUTER || role == SR_SHARED_SHARE || (isq->experts_only && !is_expert(role))) return;
    for (int i = -1; i < 2; i++) {
        const sr_format *f = i < 0 ? wanted : wanted->fallback[i] ? sr_format_by_name(wanted->fallback[i]) : NULL;
        sr_arena arena = {0};
        sr_weight to;
        if (f == w->fmt) return;
        const bool fits = f && sr_weight_create(f, w->N, w->K, NULL, &arena, &to, NULL) == SR_OK;
        if (fits) *fmt = f, *bytes = sr_weight_bytes(&to);
        sr_arena_free(&arena);
        if (fits) return;
    }
}

sr_status sr_isq_make(sr_isq *isq, const sr_format *fmt, const sr_qspec *spec, sr_role role, int layer, int expert,
                      sr_weight *w, sr_err *err) {
    const struct place p = place_of(isq, role, layer, expert);
    sr_status s = remake(isq, &p, fmt, spec, p.gguf, w, err);
    return s == SR_OK ? isq->engine->dev->ops->place(isq->engine->dev, w, err) : s;
}
