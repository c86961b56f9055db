/* Experts that are matrices of their own become stacks of all, as GGUF and UQFF have them; and stacks of gates and ups
 * two stacks, as GGUF and MLX have them. */
#include <stdio.h>
#include <string.h>

#include "quant/quant.h"

static sr_status rename_job(sr_quantizer *q, sr_job *j, sr_err *err) {
    char name[SR_NAME];
    if (!sr_name_full(&q->naming, j->role, j->layer, "", name))
        return sr_fail(err, SR_UNSUPPORTED, "%s has no name for a stack of experts", q->arch->name);
    j->module = sr_arena_strndup(&q->arena, name, strlen(name));
    return j->module ? SR_OK : sr_fail(err, SR_NOMEM, "no memory for a name");
}

static sr_status begin_stack(sr_quantizer *q, sr_job *j, sr_err *err) {
    j->from = sr_arena_small(&q->arena, (size_t)q->h.gating.n + 1, sizeof *j->from);
    if (!j->from) return sr_fail(err, SR_NOMEM, "no memory for a plan");
    j->n_from = j->stack = q->h.gating.n;
    j->expert = -1;
    j->N *= j->stack;
    return rename_job(q, j, err);
}

static sr_job *stack_of(sr_quantizer *q, const sr_job *j, int n) {
    for (int i = n - 1; i >= 0; i--)
        if (q->job[i].n_from && q->job[i].role == j->role && q->job[i].layer == j->layer) return &q->job[i];
    return NULL;
}

sr_status sr_stack_experts(sr_quantizer *q, sr_err *err) {
    int n = 0;
    sr_status s = SR_OK;
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        sr_job j = q->job[i];
        const sr_role was = j.role;
        sr_role role;
        int layer, expert = -1;
        const char *suffix, *module = j.module;
        if (!j.n_from || sr_role_stacked(was) < SR_EXPERTS_GATE || sr_role_stacked(was) > SR_EXPERTS_DOWN) {
            q->job[n++] = j;
            continue;
        }
        sr_name_parse(&q->naming, module, &role, &layer, &expert, &suffix);
        j.role = sr_role_stacked(was);
        sr_job *stack = expert >= 0 ? stack_of(q, &j, n) : NULL;
        if (!stack) {
            stack = &q->job[n++];
            *stack = j;
            stack->stack = q->h.gating.n;
            if (expert >= 0) s = begin_stack(q, stack, err);
            if (expert < 0 && was != j.role) s = rename_job(q, stack, err);
        }
        if (s != SR_OK || expert < 0) continue;
        if (expert >= stack->n_from || stack->from[expert])
            return sr_fail(err, SR_CORRUPT, "%s: found %s twice, or beyond the %d experts of config.json",
                           q->file->path, module, q->h.gating.n);
        stack->from[expert] = module;
    }
    q->n_jobs = n;
    for (int i = 0; i < n && s == SR_OK; i++)
        for (int e = 0; e < q->job[i].n_from && s == SR_OK; e++)
            if (!q->job[i].from[e])
                s = sr_fail(err, SR_CORRUPT, "%s: %s: found no expert %d, expected %d", q->file->path, q->job[i].module,
                            e, q->job[i].n_from);
    return s;
}

void sr_turn_stack(const sr_quantizer *q, sr_job *j) {
    const bool down = j->role == SR_EXPERTS_DOWN;
    const int64_t out = down ? q->h.d_model : 2 * (int64_t)q->h.d_expert, in = down ? q->h.d_expert : q->h.d_model;
    if (j->stack <= 1 || !q->arch->turned_experts || j->was->spec.method || !sr_file_part(q->file, j->from[0])) return;
    j->turn.n = j->stack;
    j->turn.pitch = j->turn.rows = j->K = in;
    j->N = j->stack * out;
}

sr_status sr_job_add_halves(sr_quantizer *q, const sr_job *j, sr_role gate, sr_role up, int64_t n, sr_err *err) {
    const bool turns = q->h.act == SR_ACT_SWIGLU_PAIRS;
    sr_status s = sr_job_add_rows(q, j, gate, 2 * n, n, 0, turns ? 2 : 1, err);
    return s == SR_OK ? sr_job_add_rows(q, j, up, 2 * n, n, turns ? 1 : n, turns ? 2 : 1, err) : s;
}

bool sr_bias_parse(const sr_naming *naming, const char *name, sr_role *role, int *layer) {
    char module[SR_NAME];
    int expert;
    const char *suffix;
    const size_t n = strlen(name);
    if (n < 5 || n >= sizeof module || (strcmp(name + n - 5, ".bias") != 0 && strcmp(name + n - 5, "_bias") != 0))
        return false;
    snprintf(module, sizeof module, "%s", name);
    module[n - 5] = '.';
    return sr_name_parse(naming, module, role, layer, &expert, &suffix) && strcmp(suffix, ".bias") == 0;
}

static sr_status part_job(sr_quantizer *q, sr_job *j, sr_err *err) {
    const bool turned = q->arch->turned_experts;
    const sr_role gate = turned ? SR_EXPERTS_GATE : SR_SWITCH_GATE, up = turned ? SR_EXPERTS_UP : SR_SWITCH_UP,
                  down = turned ? SR_EXPERTS_DOWN : SR_SWITCH_DOWN;
    sr_role role = j->role;
    int layer = j->layer;
    if (!j->n_from && !sr_bias_parse(&q->naming, j->module, &role, &layer)) role = SR_EMBED;
    if (role != SR_EXPERTS_GATE_UP && role != SR_EXPERTS_DOWN) {
        q->job[q->n_jobs++] = *j;
        return SR_OK;
    }
    j->role = role;
    j->layer = layer;
    if (!j->n_from) j->as = j->copy->type->name; /* row by row */
    if (j->n_from) j->stack = q->h.gating.n;
    if (j->n_from) sr_turn_stack(q, j);
    if (role == SR_EXPERTS_GATE_UP) return sr_job_add_halves(q, j, gate, up, q->h.d_expert, err);
    j->role = down;
    return sr_job_add(q, j, err);
}

sr_status sr_part_stacks(sr_quantizer *q, sr_err *err) {
    const int n = q->n_jobs;
    const sr_job *from = q->job;
    sr_status s = SR_OK;
    if (!q->arch->stacked_experts) return SR_OK;
    if (!sr_target_is_mlx(&q->target))
        return !q->arch->turned_experts
                   ? SR_OK
                   : sr_fail(err, SR_UNSUPPORTED,
                             "%s: the experts of %s are parameters of a layout of their own, which --to %s cannot say: "
                             "choose mlx:4, mlx:mxfp4, uqff:q4k or gguf:q4_k_m",
                             q->file->path, q->arch->name, q->target.text);
    q->job = sr_arena_alloc(&q->arena, 2 * (size_t)n + 2, sizeof *q->job);
    if (!q->job) return sr_fail(err, SR_NOMEM, "no memory for a plan");
    q->n_jobs = 0;
    for (int i = 0; i < n && s == SR_OK; i++) {
        sr_job j = from[i];
        s = part_job(q, &j, err);
    }
    return s;
}
