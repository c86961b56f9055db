/* To UQFF, mistral.rs's container (file/uqff.c has its layout): <stem>-<n>.uqff holds a layer for each matrix, with its
 * bias, and residual.safetensors everything else.
 *
 * What its own loader asks beyond the layout: embedding and head are layers of a finer type, experts are a stack under
 * three names (gpt-oss's under two, gates and ups in turns), what a type cannot hold is a layer of its plain values,
 * single numbers have no dimension, and config.json says nothing of quantization. Sources: mistral.rs:
 * mistralrs-core/src/pipeline/isq.rs (write_uqff_artifacts), mistralrs-core/src/models/{gpt_oss,granite}.rs,
 * mistralrs-quant/src/uqff/, IsqType::promote_for_sensitive_tensor; the reference page of the format. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/path.h"
#include "quant/quant.h"

/* ---------------------------------------------------------------- the tensors of a layer */

static enum sr_uqff_tag tag_of(const sr_format *fmt) {
    const char *method = fmt->spec.method;
    const sr_stored *type = sr_stored_by_name(fmt->name);
    if (method && strcmp(method, "hqq") == 0) return SR_UQFF_HQQ;
    if (method && strcmp(method, "fp8") == 0) return SR_UQFF_FP8;
    if (method) return strcmp(fmt->spec.layout, "affine") == 0 ? SR_UQFF_AFQ : SR_UQFF_MXFP4;
    return type->gguf_id < 0 ? SR_UQFF_F8Q8 : type->block == 1 ? SR_UQFF_UNQUANT : SR_UQFF_GGUF;
}

/* N x K, or a stack of such: w's rows are those of all experts. */
static int dims_of(const sr_job *j, int64_t n, int64_t k, int64_t shape[4]) {
    if (j->stack > 1) shape[0] = j->stack, shape[1] = n / j->stack, shape[2] = k;
    if (j->stack <= 1) shape[0] = n, shape[1] = k;
    return j->stack > 1 ? 3 : 2;
}

/* An entry that is a number of its own. */
static uint32_t number(enum sr_uqff_tag tag, const char *name, const sr_weight *w) {
    enum { F8_E4M3 = 9, STEPS = 20 }; /* of the reader's list of types; of fmt/hqq.c's solver */
    if (strcmp(name, "dtype") == 0)
        return tag == SR_UQFF_FP8 ? F8_E4M3 : (uint32_t)sr_stored_by_name(w->fmt->name)->gguf_id;
    if (strcmp(name, "num_blocks") == 0) return (uint32_t)(w->plane[0].bytes / w->plane[0].type->bytes);
    if (strcmp(name, "bits") == 0) return w->fmt->spec.bits;
    if (strcmp(name, "group_size") == 0) return (uint32_t)w->spec.group;
    if (strcmp(name, "axis") == 0) return w->spec.axis;
    if (strcmp(name, "optimization_steps") == 0) return STEPS;
    return strcmp(name, "channel_wise") == 0; /* round_zeros: no */
}

static void set_bytes(sr_tensor *t, const void *data, size_t n) {
    memcpy(t->own, data, n);
    t->data = NULL;
    t->bytes = (int64_t)n;
}

static void set_number(const sr_job *j, enum sr_uqff_tag tag, const sr_uqff_entry *e, const sr_weight *w,
                       sr_tensor *t) {
    *t = (sr_tensor){.type = sr_stored_by_name(e->type)};
    if (strcmp(e->suffix, "shape") == 0) {
        int64_t dims[4];
        uint32_t small[4];
        const int n = dims_of(j, w->N, w->K, dims);
        for (int d = 0; d < n; d++) small[d] = (uint32_t)dims[d];
        t->n_dims = 1;
        t->shape[0] = n;
        set_bytes(t, small, (size_t)n * 4);
    } else if (strcmp(e->type, "f32") == 0) { /* of FP8: activations get a scale of their own where they are used */
        const float scale = sr_plane_float(w, 1, 0);
        const float v = strcmp(e->suffix, "quant_scale") == 0 && scale > 0 ? 1 / scale : scale;
        set_bytes(t, &v, sizeof v);
    } else {
        const uint32_t v = number(tag, e->suffix, w);
        set_bytes(t, &v, t->type->bytes); /* the machine is little-endian, as files are */
    }
}

bool sr_uqff_tensor(const sr_job *j, const sr_weight *w, int i, sr_tensor *t) {
    const enum sr_uqff_tag tag = tag_of(w->fmt);
    const sr_uqff_entry format = {"format", "u8", true, NULL}, weight = {"", NULL, false, sr_uqff_weight(tag)};
    const sr_uqff_entry *e = i == 0 ? &weight : i == 1 ? &format : sr_uqff_entry_at(tag, i - 2);
    sr_planes planes = {0};
    if (!e) return false;
    w->fmt->layout(w->fmt, w->N, w->K, &w->spec, &planes, NULL);
    const int p = sr_planes_find(&planes, e->to);
    if (e == &format) {
        const uint8_t v = (uint8_t)tag;
        *t = (sr_tensor){.type = sr_stored_by_name("u8")};
        set_bytes(t, &v, 1);
    } else if (p < 0)
        set_number(j, tag, e, w, t);
    else {
        sr_tensor_plane(w, &planes, p, t);
        if (e->one)
            t->n_dims = 0;
        else if (p > 0 || tag == SR_UQFF_FP8 || tag == SR_UQFF_UNQUANT || tag == SR_UQFF_AFQ) {
            if (t->n_dims == 2 && t->shape[0] == w->N) t->n_dims = dims_of(j, w->N, t->shape[1], t->shape);
        } else if (tag == SR_UQFF_MXFP4) { /* bytes of MLX's words */
            t->type = sr_stored_by_name("u8");
            t->n_dims = dims_of(j, w->N, 4 * t->shape[1], t->shape);
        } else if (tag == SR_UQFF_GGUF || tag == SR_UQFF_F8Q8) { /* blocks */
            t->type = sr_stored_by_name("u8");
            t->n_dims = 1;
            t->shape[0] = t->bytes;
        }
    }
    snprintf(t->suffix, sizeof t->suffix, "weight%s%s", e->suffix[0] ? "." : "", e->suffix);
    return true;
}

/* ---------------------------------------------------------------- what becomes which layer */

/* As the module's type: other than a matrix's, a stack is multiplied by some types only. */
bool sr_uqff_takes(const sr_job *j, const sr_type *type) {
    const sr_format *fmt = type->fmt;
    const enum sr_uqff_tag tag = tag_of(fmt);
    sr_planes planes = {0};
    if (j->K % fmt->block || fmt->layout(fmt, j->N, j->K, &type->spec, &planes, NULL) != SR_OK) return false;
    if (fmt->across && type->spec.axis == 0 && j->N * j->K % type->spec.group) return false;
    return j->stack <= 1 || tag == SR_UQFF_GGUF || tag == SR_UQFF_AFQ || tag == SR_UQFF_MXFP4 || sr_is_plain(fmt);
}

/* What the recipe has set already, or the target's type. */
static void choose_layer(sr_quantizer *q, sr_job *j) {
    const bool edge = j->role == SR_EMBED || j->role == SR_HEAD;
    const sr_type wanted = j->fmt ? (sr_type){j->fmt, j->spec} : (sr_type){q->target.fmt, q->target.spec};
    const sr_format *fmt = wanted.fmt;
    if (edge && !j->fmt && fmt->promote) fmt = sr_format_by_name(fmt->promote);
    const sr_format *const tries[] = {fmt, sr_format_by_name(fmt->fallback[0]), sr_format_by_name(fmt->fallback[1])};
    j->entry = true;
    for (int t = 0; t < 3; t++) {
        if (!tries[t]) continue;
        sr_type type = tries[t] == wanted.fmt ? wanted : (sr_type){tries[t], tries[t]->spec};
        if (tag_of(type.fmt) == SR_UQFF_AFQ) type.spec.floats = j->floats;
        j->fmt = type.fmt;
        j->spec = type.spec;
        if (sr_uqff_takes(j, &type)) return;
    }
    j->fmt = sr_is_plain(j->was) ? j->was : sr_format_by_name("bf16");
    j->spec = j->fmt->spec;
    sr_log(SR_LOG_WARNING, "%s: %lld x %lld does not fit %s: it stays %s", j->module, (long long)j->N, (long long)j->K,
           wanted.fmt->name, j->fmt->name);
}

/* The layer that a bias belongs to. */
static bool is_of_layer(const sr_quantizer *q, const sr_job *bias) {
    static const char tail[] = ".bias";
    const size_t n = strlen(bias->module);
    if (!sr_ends_with(bias->module, tail)) return false;
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        if (j->fmt && j->entry && strlen(j->module) == n - sizeof tail + 1 &&
            memcmp(j->module, bias->module, strlen(j->module)) == 0)
            return true;
    }
    return false;
}

/* A number that every reader looks at first: job i. */
static sr_status set_version(sr_quantizer *q, int i, const char *key, uint32_t v, sr_err *err) {
    sr_part *part = sr_arena_small(&q->arena, 1, sizeof *part);
    uint8_t *data = sr_arena_small(&q->arena, 4, 1);
    if (!part || !data) return sr_fail(err, SR_NOMEM, "no memory for a plan");
    sr_put_u32(data, v);
    *part = (sr_part){.name = key, .type = sr_stored_by_name("u32"), .n_elements = 1, .data = data, .bytes = 4};
    q->job[i] = (sr_job){.module = (char *)(uintptr_t)key,
                         .copy = part,
                         .entry = true,
                         .layer = -1,
                         .expert = -1,
                         .error = -1,
                         .seen = -1};
    return SR_OK;
}

/* A bias beside a stack that is a parameter ("gate_up_proj_bias") gets the name that a layer's has. */
static sr_status name_bias(sr_quantizer *q, const char *stack, sr_err *err) {
    static const char tail[] = "bias";
    const size_t n = strlen(stack);
    for (int i = 0; i < q->n_jobs; i++) {
        sr_job *bias = &q->job[i];
        if (!bias->copy || strncmp(bias->module, stack, n) != 0 || bias->module[n] != '_' ||
            strcmp(bias->module + n + 1, tail) != 0)
            continue;
        sr_part *part = sr_arena_small(&q->arena, 1, sizeof *part);
        char *name = sr_arena_strndup(&q->arena, bias->module, n + sizeof tail);
        if (!part || !name) return sr_fail(err, SR_NOMEM, "no memory for a plan");
        name[n] = '.';
        *part = *bias->copy;
        part->name = bias->module = name;
        bias->copy = part;
    }
    return SR_OK;
}

/* Stacks that the reader's models have: gate, up and down, or gpt-oss's, whose gates and ups take turns in one. Of
 * Granite's mixtures it has the hybrid ones, and takes their experts unquantized from residual.safetensors. */
static sr_status check_stack(sr_quantizer *q, sr_job *j, sr_err *err) {
    if (j->role == SR_EXPERTS_GATE_UP && !q->arch->turned_experts)
        return sr_fail(err, SR_UNSUPPORTED,
                       "%s: %s is gate and up one behind the other (%s), and mistral.rs, whose format UQFF is, has no "
                       "loader that reads such experts quantized: choose another container, as gguf:q4_k_m",
                       q->file->path, j->module, q->arch->name);
    sr_turn_stack(q, j);
    return j->stack > 1 ? name_bias(q, j->module, err) : SR_OK;
}

sr_status sr_uqff_jobs(sr_quantizer *q, sr_err *err) {
    enum { VERSION = 3 };
    sr_status s = q->from_gguf ? SR_OK : sr_stack_experts(q, err); /* there they are stacks already */
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++)
        if (q->job[i].n_from) s = check_stack(q, &q->job[i], err);
    if (s != SR_OK) return s;
    memmove(q->job + VERSION, q->job, (size_t)q->n_jobs * sizeof *q->job);
    q->n_jobs += VERSION;
    s = set_version(q, 0, "uqff.version.major", SR_UQFF_MAJOR, err);
    if (s == SR_OK) s = set_version(q, 1, "uqff.version.minor", SR_UQFF_MINOR, err);
    return s == SR_OK ? set_version(q, 2, "uqff.version.patch", 0, err) : s;
}

void sr_uqff_choose(sr_quantizer *q) {
    for (int i = 0; i < q->n_jobs; i++) {
        sr_job *j = &q->job[i];
        if (j->n_from && j->role != SR_ROUTER)
            choose_layer(q, j);
        else if (j->n_from && !sr_is_plain(j->was)) /* nothing in the result would say how it was packed */
            j->fmt = sr_format_by_name("bf16"), j->spec = j->fmt->spec;
    }
    for (int i = 0; i < q->n_jobs; i++)
        if (q->job[i].copy && is_of_layer(q, &q->job[i])) q->job[i].entry = true;
}
