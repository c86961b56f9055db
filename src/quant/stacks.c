/* Experts that are matrices of their own become stacks of all, as GGUF and UQFF have them. */
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
