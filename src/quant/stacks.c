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

bool sr_needs_switches(const sr_quantizer *q) {
    return sr_target_is_mlx(&q->target) && (q->recipe || q->target.more);
}

sr_role sr_role_switch(sr_role stack) {
    static const sr_role to[SR_N_ROLES] = {
        [SR_EXPERTS_GATE] = SR_SWITCH_GATE, [SR_EXPERTS_UP] = SR_SWITCH_UP, [SR_EXPERTS_DOWN] = SR_SWITCH_DOWN};
    return to[stack] ? to[stack] : stack;
}

sr_status sr_switch_experts(sr_quantizer *q, sr_err *err) {
    bool single = false;
    for (int i = 0; i < q->n_jobs; i++) single = single || (q->job[i].n_from && q->job[i].expert >= 0);
    if (!single) return SR_OK;
    sr_status s = sr_stack_experts(q, err);
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        sr_job *j = &q->job[i];
        if (j->n_from <= 1 || sr_role_switch(j->role) == j->role) continue;
        j->role = sr_role_switch(j->role);
        s = rename_job(q, j, err);
    }
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

/* ---------------------------------------------------------------- stacks of a layout of their own
 *
 *     plain         experts.gate_up_proj         [E][in][2 ff], columns g0 u0 g1 u1 ...
 *     MXFP4         experts.gate_up_proj_blocks  [E][2 ff][in / 32][16], rows g0 u0 g1 u1 ...
 *     both          experts.gate_up_proj_bias    [E][2 ff]
 *     GGUF and MLX  gates [E][ff][in], ups [E][ff][in]
 *
 * Source: transformers: models/gpt_oss/modeling_gpt_oss.py, integrations/mxfp4.py. */

bool sr_stacks_are_parameters(const sr_quantizer *q) {
    return q->arch->turned_experts && !q->target.gguf && !q->target.uqff && !sr_target_is_mlx(&q->target);
}

/* A stack of rows, which stays so where it is quantized; else they become columns. */
static sr_status place(const sr_quantizer *q, sr_job *j, sr_err *err) {
    const int64_t rows = j->N / j->stack, K = j->K;
    if (!sr_stacks_are_parameters(q)) return SR_OK;
    if (q->target.experts && K % q->target.fmt->block == 0) return SR_OK;
    if (q->target.experts)
        return sr_fail(err, SR_UNSUPPORTED,
                       "%s: %s has %lld columns, which blocks of %d do not divide, and loaders expect all experts in "
                       "%s: choose another target, as bf16",
                       q->file->path, j->module, (long long)K, q->target.fmt->block, q->target.text);
    j->braid = j->weave[0] > 0;
    memset(j->weave, 0, sizeof j->weave);
    j->turn.n = j->stack;
    j->turn.pitch = j->turn.rows = j->braid ? rows / j->n_from : rows;
    j->N = j->stack * K;
    j->K = rows;
    return SR_OK;
}

sr_status sr_stack_in_turns(sr_quantizer *q, const sr_jobs *of, const sr_job *stack, sr_err *err) {
    static const sr_role gates[] = {SR_EXPERTS_GATE, SR_EXPERTS_UP};
    static const int64_t one_each[] = {1, 1};
    const bool apart = sr_target_is_mlx(&q->target);
    if (stack->role == SR_EXPERTS_UP && !apart) return SR_OK; /* with the gate */
    sr_status s = stack->role == SR_EXPERTS_GATE && !apart
                      ? sr_job_join(q, of, stack, SR_EXPERTS_GATE_UP, 2, gates, one_each, err)
                      : sr_job_add(q, stack, err);
    return s == SR_OK ? place(q, &q->job[q->n_jobs - 1], err) : s;
}

sr_status sr_bias_in_turns(sr_quantizer *q, const sr_job *bias, sr_err *err) {
    sr_job j = *bias;
    char up[SR_NAME];
    if (!sr_target_is_mlx(&q->target) && j.role == SR_EXPERTS_UP) return SR_OK;
    if (!sr_target_is_mlx(&q->target) && j.role == SR_EXPERTS_GATE) {
        sr_name_full(&q->naming, SR_EXPERTS_UP, j.layer, ".bias", up);
        j.with = sr_file_part(q->file, up);
        if (!j.with || j.with->n_elements != j.copy->n_elements)
            return sr_fail(err, SR_CORRUPT, "%s: found no %s of the size of %s", q->file->path, up, j.copy->name);
        j.role = SR_EXPERTS_GATE_UP;
    }
    j.module = sr_job_name(q, j.role, j.layer, -1, sr_stacks_are_parameters(q) ? "_bias" : ".bias", err);
    if (j.module) q->job[q->n_jobs++] = j;
    return err->code;
}

/* What a directory has of such a stack, or of its biases, in the layout of another. */
static sr_status parameter_job(sr_quantizer *q, const sr_jobs *of, sr_job *j, sr_err *err) {
    sr_role role = j->role;
    int layer = j->layer;
    if (!j->n_from && !sr_bias_parse(&q->naming, j->module, &role, &layer)) role = SR_EMBED;
    const bool apart = role == SR_EXPERTS_GATE || role == SR_EXPERTS_UP;
    if (!apart && role != SR_EXPERTS_GATE_UP && role != SR_EXPERTS_DOWN) {
        q->job[q->n_jobs++] = *j;
        return SR_OK;
    }
    j->role = role;
    j->layer = layer;
    if (!j->n_from && role != SR_EXPERTS_GATE_UP) j->as = j->copy->type->name;
    if (!j->n_from && role != SR_EXPERTS_GATE_UP) return sr_bias_in_turns(q, j, err);
    if (j->n_from) {
        j->stack = q->h.gating.n;
        const bool turned = sr_file_part(q->file, j->from[0]) != NULL;
        if (turned && q->target.experts) sr_turn_stack(q, j);
        if (!turned || q->target.experts) return sr_stack_in_turns(q, of, j, err);
    }
    q->job[q->n_jobs++] = *j; /* as it is */
    return SR_OK;
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
    const sr_jobs of = {from, n};
    const bool parameters = sr_stacks_are_parameters(q);
    if (!q->arch->stacked_experts || !(parameters || sr_target_is_mlx(&q->target))) return SR_OK;
    q->job = sr_arena_alloc(&q->arena, 2 * (size_t)n + 2, sizeof *q->job);
    if (!q->job) return sr_fail(err, SR_NOMEM, "no memory for a plan");
    q->n_jobs = 0;
    for (int i = 0; i < n && s == SR_OK; i++) {
        sr_job j = from[i];
        s = parameters ? parameter_job(q, &of, &j, err) : part_job(q, &j, err);
    }
    return s;
}
