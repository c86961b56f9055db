/* What becomes what, from the directory of the source alone. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/path.h"
#include "quant/algebra.h"
#include "quant/quant.h"

enum { MODULE = 512 };

static sr_status no_memory(sr_err *err) {
    return sr_fail(err, SR_NOMEM, "no memory for the plan of a conversion");
}

static bool is_matrix_role(sr_role role) {
    switch (role) {
    case SR_EMBED:
    case SR_HEAD:
    case SR_Q:
    case SR_K:
    case SR_V:
    case SR_QKV:
    case SR_Q_A:
    case SR_Q_B:
    case SR_KV_A:
    case SR_KV_B:
    case SR_K_B:
    case SR_V_B:
    case SR_ATTN_OUT:
    case SR_GATE:
    case SR_UP:
    case SR_GATE_UP:
    case SR_DOWN:
    case SR_ROUTER:
    case SR_EXPERTS_GATE:
    case SR_EXPERTS_UP:
    case SR_EXPERTS_GATE_UP:
    case SR_EXPERTS_DOWN:
    case SR_SWITCH_GATE:
    case SR_SWITCH_UP:
    case SR_SWITCH_DOWN:
    case SR_EXPERT_GATE:
    case SR_EXPERT_UP:
    case SR_EXPERT_DOWN:
    case SR_SHARED_GATE:
    case SR_SHARED_UP:
    case SR_SHARED_GATE_UP:
    case SR_SHARED_DOWN:
        return true;
    default:
        return false;
    }
}

/* ---------------------------------------------------------------- jobs */

static sr_job *add_job(sr_quantizer *q, const char *module, sr_err *err) {
    sr_job *j = &q->job[q->n_jobs];
    *j = (sr_job){.layer = -1, .expert = -1, .error = -1, .seen = -1};
    j->module = sr_arena_strndup(&q->arena, module, strlen(module));
    if (!j->module) {
        no_memory(err);
        return NULL;
    }
    q->n_jobs++;
    return j;
}

/* A module whose parts are those of a matrix. */
static sr_status add_matrix(sr_quantizer *q, const sr_parts *parts, sr_role role, int layer, int expert,
                            const sr_weight *w, sr_err *err) {
    sr_job *j = add_job(q, parts->name, err);
    if (!j) return err->code;
    for (int i = 0; i < parts->n; i++) {
        const char *type = parts->item[i].part->type->name;
        if (strcmp(type, "f16") == 0 || strcmp(type, "bf16") == 0) j->floats = type;
    }
    const char **from = sr_arena_small(&q->arena, 1, sizeof *from);
    if (!from) return no_memory(err);
    from[0] = j->module;
    j->from = from;
    j->n_from = 1;
    j->role = role;
    j->layer = layer;
    j->expert = expert;
    j->N = w->N;
    j->K = w->K;
    j->was = w->fmt;
    return SR_OK;
}

static sr_status add_copies(sr_quantizer *q, const sr_parts *parts, sr_err *err) {
    for (int i = 0; i < parts->n; i++) {
        sr_job *j = add_job(q, parts->item[i].part->name, err);
        if (!j) return err->code;
        j->copy = parts->item[i].part;
    }
    return SR_OK;
}

/* Every tensor becomes part of one job, in the order of the file. */
static sr_status list_jobs(sr_quantizer *q, sr_err *err) {
    const sr_file *file = q->file;
    q->job = sr_arena_alloc(&q->arena, (size_t)file->n_parts + 4, sizeof *q->job); /* and up to three made ones */
    bool *done = calloc((size_t)file->n_parts + 1, sizeof *done);
    if (!q->job || !done) {
        free(done);
        return no_memory(err);
    }
    sr_status s = SR_OK;
    for (int i = 0; i < file->n_parts && s == SR_OK; i++) {
        char module[MODULE];
        sr_parts parts;
        sr_role role;
        int layer, expert;
        const char *suffix;
        const sr_part *part = &file->part[i];
        if (done[i]) continue;
        if (!sr_part_module(part->name, module, sizeof module)) snprintf(module, sizeof module, "%s", part->name);
        const bool gathered = strlen(part->name) < MODULE && sr_weight_parts(file, module, &parts) && parts.n > 0;
        if (!gathered) parts = (sr_parts){.name = module, .file = file, .n = 1, .item = {{"", part}}};
        for (int p = 0; p < parts.n; p++) done[parts.item[p].part - file->part] = true;
        if (!done[i]) {
            parts.item[parts.n < SR_MOST_PARTS ? parts.n++ : 0].part = part;
            done[i] = true;
        }
        sr_weight w;
        sr_err none = {0};
        if (gathered && sr_name_parse(&q->naming, module, &role, &layer, &expert, &suffix) && !*suffix &&
            is_matrix_role(role) && sr_weight_bind(file, q->config, module, -1, -1, NULL, &w, &none) == SR_OK &&
            w.N > 1)
            s = add_matrix(q, &parts, role, layer, expert, &w, err);
        else
            s = add_copies(q, &parts, err);
    }
    free(done);
    return s;
}

/* ---------------------------------------------------------------- formats */

/* A whole row, as the checkpoint's own reader resolves it (fmt/bind.c). */
sr_type sr_type_for(const sr_type *type, int64_t K) {
    sr_type t = *type;
    if (t.spec.group < 0 || t.spec.group > K) t.spec.group = (int32_t)K;
    return t;
}

bool sr_type_fits(const sr_type *type, int64_t N, int64_t K) {
    sr_planes planes = {0};
    const sr_format *fmt = type->fmt;
    const sr_qspec *spec = &type->spec;
    const bool grouped = !fmt->group && spec->group > 0 && spec->group < K;
    return K % fmt->block == 0 && (!grouped || K % spec->group == 0) &&
           fmt->layout(fmt, N, K, spec, &planes, NULL) == SR_OK;
}

bool sr_job_gguf_name(const sr_quantizer *q, const sr_job *job, char name[SR_NAME]) {
    const sr_naming gguf = {q->arch, true, "", ""};
    return job->n_from && sr_name_full(&gguf, sr_role_stacked(job->role), job->layer, "", name);
}

/* The recipe's rule for a job by the names of a directory and of GGUF; *rule NULL: none. */
static sr_status find_rule(sr_quantizer *q, const sr_job *j, const sr_rule **rule, sr_err *err) {
    char gguf[SR_NAME];
    *rule = NULL;
    return q->recipe ? sr_recipe_find(q->recipe, q->from_gguf ? j->module : j->from[0],
                                      sr_job_gguf_name(q, j, gguf) ? gguf : NULL, j->layer, rule, err)
                     : SR_OK;
}

/* What the recipe says goes before the mix. */
static sr_status choose_recipe(sr_quantizer *q, sr_err *err) {
    sr_status s = SR_OK;
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        sr_job *j = &q->job[i];
        const sr_rule *rule;
        if (!j->n_from) continue;
        s = find_rule(q, j, &rule, err);
        if (s != SR_OK || !rule) continue;
        const sr_format *fmt = rule->fmt;
        if (!sr_mix_has(fmt))
            return sr_fail(err, SR_INVALID, "%s: %s is no type that GGUF files hold; '--to %s' needs one as q4_k",
                           q->recipe->name, fmt->name, q->target.text);
        const sr_format *fitting = sr_mix_fitting(fmt, j->K);
        if (fitting != fmt)
            sr_log(SR_LOG_WARNING, "%s: blocks of %s do not divide its %lld columns: %s instead", j->module, fmt->name,
                   (long long)j->K, fitting->name);
        j->fmt = fitting == j->was && q->file->gguf ? NULL : fitting;
    }
    if (s == SR_OK) sr_recipe_warn(q->recipe);
    return s;
}

int sr_plan_ftype(const sr_quantizer *q) {
    const sr_format *most = NULL;
    double best = 0;
    if (!q->recipe) return sr_mix_ftype(q->target.mix);
    for (int f = 0; sr_formats[f]; f++) {
        double weights = 0;
        for (int i = 0; i < q->n_jobs; i++)
            if (q->job[i].n_from && (q->job[i].fmt ? q->job[i].fmt : q->job[i].was) == sr_formats[f])
                weights += (double)q->job[i].N * (double)q->job[i].K;
        if (weights > best) best = weights, most = sr_formats[f];
    }
    return sr_mix_ftype_of(most);
}

/* Of all tensors of its kind, in the order that llama.cpp's quantizer has them in. */
static sr_mix_place place_of(const sr_quantizer *q, const sr_job *j) {
    sr_mix_place at = {.layer = j->layer};
    for (const sr_job *o = q->job; o < q->job + q->n_jobs; o++) {
        if (!o->n_from || sr_mix_kind(o->role) != sr_mix_kind(j->role)) continue;
        at.n++;
        at.i += o->layer != j->layer ? o->layer < j->layer : o->role != j->role ? o->role < j->role : o < j;
    }
    return at;
}

/* The types of GGUF by its rules. */
static void choose_mix(sr_quantizer *q) {
    const sr_mix_model model = {.n_layer = q->h.n_layer,
                                .n_head = q->h.n_head,
                                .n_kv_head = q->h.n_kv_head,
                                .n_expert = q->h.gating.n,
                                .tied = q->h.tied,
                                .has_importance = q->importance || sr_method_calibrates(q->method),
                                .arch = q->arch->gguf_name ? q->arch->gguf_name : ""};
    for (int i = 0; i < q->n_jobs; i++) {
        sr_job *j = &q->job[i];
        if (!j->n_from) continue;
        /* Routers are small, and a wrong expert costs more than bits save. */
        j->fmt = j->role == SR_ROUTER ? (q->file->gguf ? j->was : sr_format_by_name("f32"))
                                      : sr_mix_type(q->target.mix, &model, j->role, place_of(q, j), j->K);
        if (j->fmt == j->was && q->file->gguf) j->fmt = NULL;
    }
}

bool sr_job_is_left(const sr_quantizer *q, const sr_job *j) {
    if (!sr_stacks_are_parameters(q) || !q->target.fmt->spec.method) return false;
    return (j->stack > 1) != q->target.experts;
}

/* Nothing in the result would say how it was packed. */
static void leave_plain(sr_job *j) {
    j->fmt = j->was->spec.method ? sr_format_by_name(j->floats ? j->floats : "bf16") : j->was;
    j->spec = j->fmt->spec;
}

/* Whether mlx-lm's mixed recipes give a matrix more bits: the head, and of the first, the last and every third layer
 * values and the ways down. Source: mlx-lm, mlx_lm/convert.py. */
static bool gets_more(const sr_quantizer *q, const sr_job *j) {
    static const char *const of_layers[] = {"v_proj", "v_a_proj", "v_b_proj", "down_proj"};
    const int n = q->h.n_layer, layer = j->layer < 0 ? 0 : j->layer;
    if (strstr(j->module, "lm_head")) return true;
    const bool chosen = layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    for (size_t i = 0; i < sizeof of_layers / sizeof *of_layers && chosen; i++)
        if (strstr(j->module, of_layers[i])) return true;
    return false;
}

/* Of a directory: as the recipe says, or the target. */
static sr_status choose_type(sr_quantizer *q, sr_job *j, sr_err *err) {
    const bool edge = j->role == SR_EMBED || j->role == SR_HEAD;
    const sr_rule *rule;
    sr_type type = {q->target.fmt, q->target.spec};
    sr_status s = find_rule(q, j, &rule, err);
    if (s == SR_OK && rule) s = sr_target_type(&q->target, rule, q->recipe->name, &type, err);
    if (s != SR_OK) return s;
    if (j->role == SR_ROUTER || (edge && !q->target.edges) || sr_job_is_left(q, j)) {
        if (j->was->spec.method && !q->from_gguf) leave_plain(j);
        if (edge && rule && type.fmt->spec.method)
            sr_log(SR_LOG_WARNING, "%s: the rule '%.80s' does not count: embedding and head stay %s in %s", j->module,
                   rule->text, j->was->name, q->target.text);
        return SR_OK;
    }
    if (q->target.more && gets_more(q, j)) type.fmt = q->target.more, type.spec.bits = type.fmt->spec.bits;
    type = sr_type_for(&type, j->K);
    if (!sr_type_fits(&type, j->N, j->K)) {
        /* A stack has another name, and maybe not all rows: sr_part_stacks. */
        if ((j->stack > 1 || j->was->spec.method) && !q->from_gguf) leave_plain(j);
        sr_log(SR_LOG_WARNING, "%s: %lld x %lld does not fit %s: left as %s", j->module, (long long)j->N,
               (long long)j->K, rule ? type.fmt->name : q->target.text, j->fmt ? j->fmt->name : j->was->name);
        return SR_OK;
    }
    const bool renamed = j->stack > 1 && sr_target_is_mlx(&q->target);
    if (j->was == type.fmt && !j->was->spec.method && !q->from_gguf && !renamed) return SR_OK;
    j->fmt = type.fmt;
    j->spec = type.spec;
    if (q->target.floats) j->spec.floats = j->floats;
    return SR_OK;
}

/* Of UQFF: what the recipe says first. */
static sr_status choose_layers(sr_quantizer *q, sr_err *err) {
    sr_status s = SR_OK;
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        sr_job *j = &q->job[i];
        const sr_rule *rule;
        sr_type type;
        if (!j->n_from || j->role == SR_ROUTER) continue;
        s = find_rule(q, j, &rule, err);
        if (s == SR_OK && rule) s = sr_target_type(&q->target, rule, q->recipe->name, &type, err);
        if (s == SR_OK && rule) j->fmt = type.fmt, j->spec = type.spec;
    }
    if (s == SR_OK && q->recipe) sr_recipe_warn(q->recipe);
    if (s == SR_OK) sr_uqff_choose(q);
    return s;
}

static sr_status choose(sr_quantizer *q, sr_err *err) {
    int left = 0;
    if (q->target.gguf) {
        choose_mix(q);
        return q->recipe ? choose_recipe(q, err) : SR_OK;
    }
    if (q->target.uqff) return choose_layers(q, err);
    sr_status s = SR_OK;
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        sr_job *j = &q->job[i];
        if (!j->n_from) continue;
        left += sr_job_is_left(q, j) && j->stack > 1;
        s = choose_type(q, j, err);
    }
    if (s == SR_OK && q->recipe) sr_recipe_warn(q->recipe);
    if (s == SR_OK && left)
        sr_log(
            SR_LOG_WARNING,
            "%s: %d stacks of experts stay plain numbers, as loaders of %s have them in %s: mxfp4, mlx, uqff and gguf "
            "quantize them",
            q->file->path, left, q->target.fmt->spec.method, q->arch->name);
    return s;
}

/* Small tensors that say how a matrix was packed ("q_proj.channel_wise"), which goes into another format. */
static bool is_obsolete(const sr_quantizer *q, const sr_job *copy) {
    const char *dot = strrchr(copy->module, '.');
    if (!dot || strcmp(dot, ".bias") == 0 || strcmp(dot, ".weight") == 0) return false;
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        for (int f = 0; f < j->n_from && j->fmt; f++)
            if (strlen(j->from[f]) == (size_t)(dot - copy->module) &&
                memcmp(j->from[f], copy->module, (size_t)(dot - copy->module)) == 0)
                return true;
    }
    return false;
}

/* ---------------------------------------------------------------- tensors and files of the result */

bool sr_job_is_solved(const sr_quantizer *q, const sr_job *j) {
    return sr_method_calibrates(q->method) && j->n_from && j->layer >= 0 && sr_calibration_knows(j->role);
}

static sr_part *add_part(sr_quantizer *q, const char *module, const char *suffix, const sr_stored *type, int n_dims,
                         const int64_t *shape, sr_err *err) {
    char name[MODULE + 64];
    if (q->n_parts == q->cap_parts) {
        const int cap = 2 * q->cap_parts + 256;
        sr_part *more = realloc(q->part, (size_t)cap * sizeof *more);
        if (more) q->part = more;
        if (!more) {
            no_memory(err);
            return NULL;
        }
        q->cap_parts = cap;
    }
    sr_part *p = &q->part[q->n_parts];
    const char *dot = suffix[0] == 0 || suffix[0] == '_' ? "" : ".";
    snprintf(name, sizeof name, "%s%s%s", module, dot, suffix);
    *p = (sr_part){.name = sr_arena_strndup(&q->arena, name, strlen(name)), .type = type, .n_dims = n_dims};
    p->n_elements = 1;
    for (int d = 0; d < n_dims; d++) p->n_elements *= p->shape[d] = shape[d];
    if (!p->name || !sr_stored_bytes(type, p->n_elements, &p->bytes)) {
        no_memory(err);
        return NULL;
    }
    q->n_parts++;
    return p;
}

/* What its encoder or solver has a thread while it works on a job. */
static int64_t work_of(const sr_quantizer *q, const sr_job *j, const sr_weight *w) {
    int64_t encoder = sr_encode_scratch(j->fmt, &j->spec) * j->K * (int64_t)sizeof(float), solver = 0;
    if (sr_job_is_solved(q, j) && q->method == SR_GPTQ)
        solver = sr_gptq_bytes(w, q->target.spec.static_groups && !j->spec.act_order);
    if (sr_job_is_solved(q, j) && q->method == SR_AWQ) solver = sr_awq_bytes(j->K);
    return (encoder > solver ? encoder : solver) + sr_job_turn_bytes(j);
}

static sr_status matrix_parts(sr_quantizer *q, sr_job *j, sr_err *err) {
    sr_arena arena = {0}; /* nothing is written to it: pages of what is large stay untouched */
    sr_weight w;
    sr_tensor t;
    sr_status s = sr_weight_create(j->fmt, j->N, j->K, &j->spec, &arena, &w, err);
    if (s == SR_OK) j->work = work_of(q, j, &w);
    const bool plain = j->stack > 1 && !q->target.uqff && !j->fmt->spec.method,
               parameter = plain && sr_stacks_are_parameters(q), plain_stack = parameter || (plain && q->from_gguf);
    for (int i = 0; s == SR_OK && sr_job_tensor(j, &w, i, &t); i++)
        if (!add_part(q, j->module, parameter ? "" : t.suffix, t.type, t.n_dims, t.shape, err)) s = err->code;
    sr_arena_free(&arena);
    if ((q->target.gguf || plain_stack) && s == SR_OK) { /* experts are one matrix to us, and a stack in the file */
        const sr_part *was = q->target.gguf ? sr_file_part(q->file, q->part[j->first_part].name) : NULL;
        sr_part *p = &q->part[j->first_part];
        if (was && was->n_dims == 3) {
            p->n_dims = 3;
            memcpy(p->shape, was->shape, 3 * sizeof *p->shape);
        } else if (j->stack > 1) {
            p->n_dims = 3;
            p->shape[0] = j->stack, p->shape[1] = j->N / j->stack, p->shape[2] = j->K;
        }
    }
    return s;
}

static sr_status copy_part(sr_quantizer *q, const char *name, const sr_part *from, const sr_job *j, sr_err *err) {
    int64_t shape[SR_MAX_DIMS];
    memcpy(shape, from->shape, sizeof shape);
    int n_dims = from->n_dims;
    if (j->as_row) shape[1] = from->n_elements, shape[0] = 1, n_dims = 2;
    if (j->with && from->n_dims > 0) shape[from->n_dims - 1] *= 2;
    if (j->pitch && from->n_dims > 0) shape[from->n_dims - 1] = shape[from->n_dims - 1] / j->pitch * j->take;
    sr_part *p = add_part(q, name, "", j->as ? sr_stored_by_name(j->as) : from->type, n_dims, shape, err);
    return p ? SR_OK : err->code;
}

static sr_status list_parts(sr_quantizer *q, sr_err *err) {
    sr_status s = SR_OK;
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        sr_job *j = &q->job[i];
        sr_parts parts;
        j->first_part = q->n_parts;
        if (j->copy && is_obsolete(q, j))
            j->dropped = true;
        else if (j->copy)
            s = copy_part(q, j->module, j->copy, j, err);
        else if (j->fmt)
            s = matrix_parts(q, j, err);
        else {
            sr_weight_parts(q->file, j->from[0], &parts);
            for (int p = 0; p < parts.n && s == SR_OK; p++)
                s = copy_part(q, parts.item[p].part->name, parts.item[p].part, j, err);
        }
        j->n_parts = q->n_parts - j->first_part;
        for (int p = 0; p < j->n_parts; p++) q->bytes_out += q->part[j->first_part + p].bytes;
        if (j->n_from) q->n_weights += (double)j->N * (double)j->K;
    }
    return s;
}

/* File f of n, in the arena. */
static char *file_name(sr_quantizer *q, int f, int n) {
    char name[SR_TARGET_TEXT + 32] = "model.safetensors";
    if (q->target.gguf) return sr_arena_strndup(&q->arena, sr_path_base(q->result), strlen(sr_path_base(q->result)));
    if (q->target.uqff && f > 0) {
        const char *type = strchr(q->target.text, ':') + 1;
        snprintf(name, sizeof name, "%.*s-%d.uqff", (int)strcspn(type, ","), type, f - 1);
    } else if (q->target.uqff)
        snprintf(name, sizeof name, "residual.safetensors");
    else if (n > 1)
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", f + 1, n);
    return sr_arena_strndup(&q->arena, name, strlen(name));
}

/* What stands in the head of each file. */
static void set_values(const sr_quantizer *q, sr_content *c) {
    static const sr_value pytorch = {.key = "format", .kind = SR_KIND_STRING, .v.s = {"pt", 2}};
    static const sr_value mlx = {.key = "format", .kind = SR_KIND_STRING, .v.s = {"mlx", 3}};
    static const sr_value uqff[] = {
        {.key = "uqff.producer", .kind = SR_KIND_STRING, .v.s = {"sirocco", 7}},
        {.key = "uqff.producer.sirocco.version", .kind = SR_KIND_STRING, .v.s = {SR_VERSION, sizeof SR_VERSION - 1}},
        {.key = "uqff.version", .kind = SR_KIND_STRING, .v.s = {"1.2.0", 5}}};
    c->value = q->target.gguf                                  ? q->value
               : q->target.uqff                                ? uqff
               : q->target.edges && q->target.fmt->spec.method ? &mlx
                                                               : &pytorch;
    c->n_values = q->target.gguf ? q->n_values : q->target.uqff ? 3 : 1;
}

/* Jobs are not divided among files. UQFF: what is no layer is in the first. */
static sr_status list_files(sr_quantizer *q, sr_err *err) {
    int n = q->target.uqff ? 2 : 1;
    int64_t bytes = 0;
    q->part_file = sr_arena_small(&q->arena, (size_t)q->n_parts + 1, sizeof *q->part_file);
    q->part_at = sr_arena_small(&q->arena, (size_t)q->n_parts + 1, sizeof *q->part_at);
    if (!q->part_file || !q->part_at) return no_memory(err);
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        int64_t own = 0;
        const bool rest = q->target.uqff && !j->entry;
        for (int p = 0; p < j->n_parts; p++) own += q->part[j->first_part + p].bytes;
        if (bytes > 0 && bytes + own > q->shard_bytes && !q->target.gguf && !rest) n++, bytes = 0;
        bytes += rest ? 0 : own;
        for (int p = 0; p < j->n_parts; p++) q->part_file[j->first_part + p] = rest ? 0 : n - 1;
    }
    q->out = sr_arena_alloc(&q->arena, (size_t)n, sizeof *q->out);
    sr_part *part = sr_arena_alloc(&q->arena, (size_t)q->n_parts + 1, sizeof *part);
    if (!q->out || !part) return no_memory(err);
    q->n_out = n;
    for (int f = 0, at = 0; f < n; f++) {
        sr_out_file *out = &q->out[f];
        out->name = file_name(q, f, n);
        out->content = (sr_content){.gguf = q->target.gguf, .part = part + at};
        for (int p = 0; p < q->n_parts; p++)
            if (q->part_file[p] == f) {
                q->part_at[p] = out->content.n_parts++;
                part[at++] = q->part[p];
            }
        set_values(q, &out->content);
        sr_status s = out->name ? sr_content_lay(&out->content, err) : no_memory(err);
        if (s != SR_OK) return s;
    }
    return SR_OK;
}

/* ---------------------------------------------------------------- metadata of GGUF */

static bool is_kept(const char *key) {
    return strcmp(key, "general.file_type") != 0 && strcmp(key, "general.quantization_version") != 0 &&
           strcmp(key, "general.alignment") != 0 && strncmp(key, "split.", 6) != 0;
}

static sr_status copy_values(sr_quantizer *q, sr_err *err) {
    enum { T_U32 = 4, MORE = 2 };
    q->value = sr_arena_alloc(&q->arena, (size_t)q->file->n_values + MORE, sizeof *q->value);
    if (!q->value) return no_memory(err);
    for (int i = 0; i < q->file->n_values; i++)
        if (is_kept(q->file->value[i].key)) q->value[q->n_values++] = q->file->value[i];
    q->value[q->n_values++] =
        (sr_value){.key = "general.quantization_version", .kind = SR_KIND_U64, .stored = T_U32, .v.u = 2};
    q->value[q->n_values++] =
        (sr_value){.key = "general.file_type", .kind = SR_KIND_U64, .stored = T_U32, .v.u = (uint64_t)sr_plan_ftype(q)};
    return SR_OK;
}

/* ---------------------------------------------------------------- */

int sr_job_experts(const sr_quantizer *q, const sr_job *j) {
    const bool stack = j->expert < 0 && sr_calibration_place(j->role) >= sr_calibration_place(SR_EXPERTS_GATE);
    const bool apart = j->n_from > 1 && !j->weave[0];
    const int n = apart ? j->n_from : stack ? q->h.gating.n : 1;
    return apart || (n > 0 && j->N % n == 0) ? n : 1;
}

/* As tensors come, or for a calibration layer by layer, what is multiplied with the same one behind the other. */
struct place {
    int job, layer, input, expert;
};
static int by_place(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    return x->layer != y->layer     ? x->layer - y->layer
           : x->input != y->input   ? x->input - y->input
           : x->expert != y->expert ? x->expert - y->expert
                                    : x->job - y->job;
}
static int layer_of(const sr_quantizer *q, const char *name) {
    sr_role role;
    int layer, expert;
    const char *suffix;
    return sr_name_parse(&q->naming, name, &role, &layer, &expert, &suffix) ? layer : -1;
}
static sr_status order_jobs(sr_quantizer *q, sr_err *err) {
    struct place *place = malloc(((size_t)q->n_jobs + 1) * sizeof *place);
    q->order = sr_arena_small(&q->arena, (size_t)q->n_jobs + 1, sizeof *q->order);
    if (!place || !q->order) {
        free(place);
        return no_memory(err);
    }
    for (int i = 0; i < q->n_jobs; i++) {
        sr_job *j = &q->job[i];
        place[i] = (struct place){i, j->layer, sr_calibration_place(j->role), j->expert};
        if (j->copy) place[i].layer = j->layer = layer_of(q, j->copy->name), place[i].input = INT_MAX;
    }
    if (sr_method_calibrates(q->method)) qsort(place, (size_t)q->n_jobs, sizeof *place, by_place);
    for (int i = 0; i < q->n_jobs; i++) q->order[i] = place[i].job;
    free(place);
    return SR_OK;
}

/* ---------------------------------------------------------------- memory */

/* Of what is made; 0 where it is copied. */
static int64_t made_bytes(const sr_quantizer *q, const sr_job *j) {
    int64_t bytes = 0;
    if (j->n_from == 1 && sr_is_plain(j->fmt) && sr_job_stays(j, j->was)) return 0;
    for (int p = 0; p < j->n_parts && j->fmt; p++) bytes += q->part[j->first_part + p].bytes;
    return bytes;
}

bool sr_job_filed(const sr_quantizer *q, const sr_job *j) {
    return made_bytes(q, j) > q->matrix_bytes;
}

static sr_kept job_needs(const sr_quantizer *q, const sr_job *j) {
    const int64_t made = made_bytes(q, j);
    const bool filed = sr_job_filed(q, j);
    return (sr_kept){made ? q->threads * j->work + (filed ? 0 : made) : 0, filed ? made : 0};
}

/* Of one layer with all weights in bf16, at most. */
static int64_t layer_bytes(const sr_quantizer *q) {
    int64_t most = 0, sum = 0;
    for (int at = 0; at < q->n_jobs; at++) {
        const sr_job *j = &q->job[q->order[at]];
        if (at && q->job[q->order[at - 1]].layer != j->layer) sum = 0;
        sum += j->layer >= 0 ? 2 * j->N * j->K : 0;
        most = sum > most ? sum : most;
    }
    return most;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

int sr_job_inputs(const sr_quantizer *q, int at) {
    const sr_job *j = &q->job[q->order[at]], *before = at ? &q->job[q->order[at - 1]] : NULL;
    const bool same = before && before->layer == j->layer && before->expert == j->expert &&
                      sr_calibration_place(before->role) == sr_calibration_place(j->role);
    return sr_job_is_solved(q, j) && !same ? sr_job_experts(q, j) : 0;
}

/* At most, beside what the process had before: what a job makes and what works on it, and where it is calibrated for,
 * the model's step and what moments there are. most->disk: of what lies in files without a name. */
static void find_most(const sr_quantizer *q, sr_kept *most) {
    sr_kept pass = {0}, jobs = {0}; /* of the moments, and of what is made with them */
    *most = (sr_kept){0};
    for (int at = 0; at < q->n_jobs; at++) {
        const sr_job *j = &q->job[q->order[at]];
        const int n = sr_job_inputs(q, at);
        if (at && q->job[q->order[at - 1]].layer != j->layer) pass = jobs = (sr_kept){0};
        for (int i = 0; i < n; i++)
            if (!sr_moments_join(q, j->K, &pass)) {
                pass = jobs = (sr_kept){0};
                sr_moments_join(q, j->K, &pass);
            }
        const sr_kept own = job_needs(q, j);
        jobs.memory = larger(jobs.memory, own.memory);
        jobs.disk = larger(jobs.disk, own.disk);
        most->memory =
            larger(most->memory, q->process_bytes + jobs.memory + (j->layer >= 0 ? pass.memory + q->step_bytes : 0));
        most->disk = larger(most->disk, pass.disk + jobs.disk);
    }
}

sr_status sr_plan_memory(sr_quantizer *q, sr_err *err) {
    enum { MORE = 256 << 20, LEAST = 64 << 20 };
    const int64_t most = layer_bytes(q) + MORE;
    const bool calibrates = sr_method_calibrates(q->method);
    sr_kept rest;
    sr_memory now;
    sr_memory_now(&now);
    q->process_bytes = (int64_t)now.rss_anon;
    q->moments_bytes = q->matrix_bytes = 0;
    sr_status s = calibrates ? sr_calibration_step(q, &q->step_bytes, err) : SR_OK;
    for (find_most(q, &rest); rest.memory > most && q->threads > 1; find_most(q, &rest)) q->threads /= 2;
    q->matrix_bytes = larger((most - rest.memory) / (calibrates ? 4 : 1), LEAST); /* moments are read more often */
    find_most(q, &rest);
    q->moments_bytes = larger(most - rest.memory, LEAST);
    return s;
}

static const struct {
    const char *name;
    sr_method method;
} methods[] = {{"rtn", SR_RTN}, {"imatrix", SR_IMATRIX}, {"gptq", SR_GPTQ}, {"awq", SR_AWQ}, {"hqq", SR_HQQ}};
enum { N_METHODS = sizeof methods / sizeof *methods };

const char *sr_method_name(sr_method m) {
    for (int i = 0; i < N_METHODS; i++)
        if (methods[i].method == m) return methods[i].name;
    return "";
}

static sr_status choose_method(sr_quantizer *q, const sr_quantize_options *o, sr_err *err) {
    q->importance = o->importance;
    q->calibration.ids = o->calibration;
    q->calibration.n_windows = o->n_windows;
    q->calibration.n_ctx = o->window;
    q->damp = 0.01;
    q->method = o->importance ? SR_IMATRIX : SR_RTN;
    if (q->target.spec.static_groups && (!o->method || strcmp(o->method, "gptq") != 0))
        return sr_fail(err, SR_INVALID,
                       "--to '%s': static_groups is an order in which method gptq rounds columns, and the method is "
                       "%s: add --method gptq, or leave it out",
                       q->target.text, o->method ? o->method : sr_method_name(q->method));
    if (!o->method) return SR_OK;
    for (int i = 0; i < N_METHODS; i++)
        if (strcmp(o->method, methods[i].name) == 0) {
            q->method = methods[i].method;
            if (q->method == SR_RTN || q->method == SR_HQQ) q->importance = NULL;
            if (q->method == SR_HQQ && !sr_hqq_fits(q->target.fmt, &q->target.spec))
                return sr_fail(err, SR_INVALID,
                               "method hqq moves the minimum of each group, and %s stores none: use it for hqq, mlx, "
                               "gguf:q4_1 or gguf:q5_1, or choose another method",
                               q->target.fmt->name);
            if (q->method == SR_IMATRIX && !o->importance)
                return sr_fail(err, SR_INVALID, "method imatrix needs importances: --imatrix or --calibration-file");
            if (sr_method_calibrates(q->method) && (!o->calibration || o->n_windows < 1 || o->window < 1))
                return sr_fail(err, SR_INVALID, "method %s needs a text to calibrate with: --calibration-file",
                               o->method);
            for (int64_t t = 0; sr_method_calibrates(q->method) && t < o->n_windows * o->window; t++)
                if (o->calibration[t] < 0 || o->calibration[t] >= q->h.n_vocab)
                    return sr_fail(err, SR_INVALID, "calibration: found token %d, expected 0 to %d", o->calibration[t],
                                   q->h.n_vocab - 1);
            return SR_OK;
        }
    return sr_fail(err, SR_INVALID, "--method: found '%.32s', expected rtn, imatrix, gptq, awq or hqq", o->method);
}

/* A copy is not what was asked for. */
static sr_status check_any(const sr_quantizer *q, sr_err *err) {
    int n = 0, same = 0;
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        if (j->fmt) return SR_OK;
        n += j->n_from > 0;
        same += j->n_from > 0 && j->was == q->target.fmt;
    }
    return sr_fail(
        err, SR_INVALID,
        "%s: there is nothing to convert to %s: of its %d matrices %d are %s already, and the others are left "
        "as they are (embedding, head, router, or rows that it does not divide)",
        sr_show_path(q->file->path), q->target.text, n, same, q->target.fmt->name);
}

static sr_status plan(sr_quantizer *q, const char *path, const sr_quantize_options *o, sr_err *err) {
    sr_status s = sr_target_parse(o->to, &q->target, err);
    sr_file_options file = {.format = o->format};
    if (s == SR_OK) s = sr_file_open(path, &file, &q->file, err);
    if (s == SR_OK) s = sr_qconfig_read(q->file, &q->arena, &q->config, err);
    if (s == SR_OK) s = sr_arch_find(q->file, &q->arch, err);
    if (s == SR_OK) s = sr_arch_read(q->file, q->arch, &q->arena, &q->h, err);
    if (s == SR_OK) s = sr_target_suit(q->arch, &q->target, err);
    if (s == SR_OK) s = choose_method(q, o, err);
    if (s != SR_OK) return s;
    if (q->recipe && !q->target.gguf && (s = sr_target_mixes(&q->target, err)) != SR_OK) return s;
    if (q->recipe && q->target.more)
        return sr_fail(err, SR_INVALID, "--to %s is a recipe of its own: leave the other one, or the limit, out",
                       q->target.text);
    if (q->target.gguf && !q->recipe && q->target.mix == sr_mix_by_name("mix"))
        return sr_fail(err, SR_INVALID,
                       "--to %s takes its types from --recipe, --target-bpw, --target-size or "
                       "--target-kld: give one of them, or name a type, as gguf:q4_k_m",
                       q->target.text);
    q->naming = q->to = sr_naming_of(q->file, q->arch);
    q->from_gguf = q->file->gguf && !q->target.gguf;
    if (q->file->gguf != q->target.gguf && (q->from_gguf || q->target.gguf))
        q->to = (sr_naming){q->arch, q->target.gguf, q->from_gguf ? "model." : "", ""};
    for (int i = 0; i < q->file->n_parts; i++) q->bytes_in += q->file->part[i].bytes;
    const bool converts = q->target.gguf && !q->file->gguf;
    s = list_jobs(q, err);
    if (s == SR_OK && converts) s = sr_gguf_jobs(q, err);
    if (s == SR_OK && q->from_gguf) s = sr_hf_jobs(q, err);
    if (s == SR_OK && !q->file->gguf && !q->target.gguf && !q->target.uqff) s = sr_part_stacks(q, err);
    if (s == SR_OK && !q->file->gguf && sr_needs_switches(q)) s = sr_switch_experts(q, err);
    if (s == SR_OK && q->target.uqff) s = sr_uqff_jobs(q, err);
    if (s == SR_OK) s = choose(q, err);
    if (s == SR_OK) s = check_any(q, err);
    if (s == SR_OK && q->from_gguf) s = sr_hf_choose(q, err);
    if (s == SR_OK) s = list_parts(q, err);
    if (s == SR_OK && q->target.gguf) s = converts ? sr_gguf_values(q, err) : copy_values(q, err);
    if (s == SR_OK && q->from_gguf) s = sr_hf_values(q, err);
    if (s == SR_OK) s = order_jobs(q, err);
    if (s == SR_OK) s = sr_plan_memory(q, err);
    return s == SR_OK ? list_files(q, err) : s;
}

sr_status sr_quantizer_plan(const char *path, const char *result, const sr_quantize_options *options,
                            sr_quantizer **out, sr_err *err) {
    enum { SHARD = 1 << 30, BATCH = 256 }; /* what calibrates has the moments for memory */
    sr_err own = {0};
    err = err ? err : &own;
    *out = NULL;
    sr_quantizer *q = calloc(1, sizeof *q);
    if (!q) return no_memory(err);
    q->threads = options->threads > 0 ? options->threads : sr_cpu_count();
    q->overwrite = options->overwrite;
    q->format = options->format;
    q->recipe = options->recipe;
    q->shard_bytes = options->shard_bytes > 0 ? options->shard_bytes : (int64_t)5 * SHARD;
    q->progress = options->progress;
    q->user = options->user;
    q->source = sr_arena_strndup(&q->arena, path, strlen(path));
    size_t n = strlen(result);
    while (n > 1 && result[n - 1] == '/') n--;
    q->result = sr_arena_strndup(&q->arena, result, n);
    sr_status s = sr_engine_create(&(sr_engine_options){.threads = q->threads, .batch = BATCH}, &q->engine, err);
    if (s == SR_OK) s = q->source && q->result ? plan(q, path, options, err) : no_memory(err);
    if (s != SR_OK) {
        sr_quantizer_free(q);
        return s;
    }
    *out = q;
    return SR_OK;
}

void sr_quantizer_free(sr_quantizer *q) {
    if (!q) return;
    for (int f = 0; f < q->n_out; f++) sr_content_free(&q->out[f].content);
    free(q->part);
    sr_buffer *const texts[] = {&q->text.config, &q->text.generation, &q->text.tokenizer, &q->text.tokenizer_config};
    for (int i = 0; i < 4; i++) sr_buffer_free(texts[i]);
    sr_file_close(q->file);
    sr_engine_free(q->engine);
    sr_arena_free(&q->arena);
    free(q);
}

void sr_quantizer_info(const sr_quantizer *q, sr_quantize_info *info) {
    *info = (sr_quantize_info){.container = q->file->container,
                               .arch = q->arch->name,
                               .bytes_in = q->bytes_in,
                               .bytes_out = q->bytes_out,
                               .n_files = q->n_out,
                               .n_tensors = q->n_jobs};
    double bytes = 0;
    sr_kept most;
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        for (int p = 0; p < j->n_parts && j->n_from; p++) bytes += (double)q->part[j->first_part + p].bytes;
        info->n_quantized += j->fmt != NULL;
    }
    if (q->n_weights > 0) info->bits_per_weight = 8 * bytes / q->n_weights;
    find_most(q, &most);
    info->memory = most.memory;
    info->scratch = most.disk + (sr_method_calibrates(q->method) ? sr_calibration_disk(q) : 0);
}

bool sr_quantizer_tensor(const sr_quantizer *q, int i, sr_quantize_tensor *t) {
    if (i < 0 || i >= q->n_jobs) return false;
    const sr_job *j = &q->job[i];
    *t = (sr_quantize_tensor){.name = j->module, .N = j->N, .K = j->K, .error = j->error, .seen = j->seen};
    t->from = j->was ? j->was->name : j->copy->type->name;
    t->to = j->fmt ? j->fmt->name : NULL;
    for (int p = 0; p < j->n_parts; p++) t->bytes += q->part[j->first_part + p].bytes;
    return true;
}
