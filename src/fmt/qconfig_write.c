/* The reverse of qconfig.c: what a format's loaders want to read about a checkpoint of it. Keys and their values are
 * those that the loaders' own tools write: transformers (utils/quantization_config.py), GPTQModel
 * (quantization/config.py), compressed-tensors (quantization/quant_config.py), modelopt (torch/export), mlx-lm
 * (utils.py). */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fmt/fmt.h"

/* Counts first, then writes: `at` is NULL while counting. */
typedef struct text {
    char *at;
    size_t n;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->at ? t->at + t->n : NULL, t->at ? SIZE_MAX / 2 : 0, format, args);
    va_end(args);
    t->n += n > 0 ? (size_t)n : 0;
}

/* Characters of a JSON string; of a regular expression that means just these where `literal`. */
static void add_chars(text *t, const char *s, bool literal) {
    for (; *s; s++) {
        if (literal && strchr(".^$*+?()[]{}|", *s)) add(t, "\\\\");
        if (*s == '"' || *s == '\\')
            add(t, "\\%c", *s);
        else if ((unsigned char)*s < ' ')
            add(t, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            add(t, "%c", *s);
    }
}
static void add_quoted(text *t, const char *before, const char *s, const char *after, bool literal) {
    add(t, "\"%s", before);
    add_chars(t, s, literal);
    add(t, "%s\"", after);
}

typedef struct request {
    const sr_format *fmt;
    sr_qspec spec;
    const char *const *skip;
    int n_skip;
    const sr_qmodule *own;
    int n_own;
    bool *done; /* [n_own] */
} request;

static const char *yes(bool b) {
    return b ? "true" : "false";
}
static void add_skipped(text *t, const request *r, const char *key) {
    add(t, ", \"%s\": [", key);
    for (int i = 0; i < r->n_skip; i++) {
        if (i) add(t, ", ");
        add_quoted(t, "", r->skip[i], "", false);
    }
    add(t, "]");
}

/* ---------------------------------------------------------------- modules with a type of their own */

/* Where the number of a layer stands in "model.layers.3.mlp": its digits, or the end of the name. */
static void find_number(const char *name, size_t *from, size_t *to) {
    for (size_t at = strcspn(name, "."); name[at]; at += 1 + strcspn(name + at + 1, ".")) {
        size_t n = 0;
        while (isdigit((unsigned char)name[at + 1 + n])) n++;
        *from = at + 1;
        *to = at + 1 + n;
        if (n && (name[*to] == '.' || !name[*to])) return;
    }
    *from = *to = strlen(name);
}

static bool same_type(const sr_qmodule *a, const sr_qmodule *b) {
    return a->fmt == b->fmt && a->spec.group == b->spec.group;
}

/* The end of a name; where it is the first of what loaders fuse, also that which they make of it. */
static void add_tail(text *t, const char *tail) {
    static const char *const fused[][2] = {{".q_proj", ".(q|qkv)_proj"}, {".gate_proj", ".(gate|gate_up)_proj"}};
    const size_t n = strlen(tail);
    for (size_t i = 0; i < sizeof fused / sizeof *fused; i++) {
        const size_t m = strlen(fused[i][0]);
        if (n < m || strcmp(tail + n - m, fused[i][0]) != 0) continue;
        char front[512];
        snprintf(front, sizeof front, "%.*s", (int)(n - m), tail);
        add_chars(t, front, true);
        add(t, "\\\\%s", fused[i][1]);
        return;
    }
    add_chars(t, tail, true);
}

/* "model.layers.(0|3).mlp.down_proj" as a regular expression: the i-th module, and all of its type whose names differ
 * in the layer alone, which are done with that. One pattern for a module each would be as many to try for every one. */
static void add_layers(text *t, const request *r, int i, const char *before) {
    const char *name = r->own[i].name;
    size_t from, to, a, b;
    int n = 0;
    char head[512];
    find_number(name, &from, &to);
    snprintf(head, sizeof head, "%.*s", (int)from, name);
    add(t, "\"%s^", before);
    add_chars(t, head, true);
    for (int pass = 0; pass < 2; pass++) { /* counted, then listed */
        if (pass && n > 1) add(t, "(");
        for (int j = i, at = 0; j < r->n_own; j++) {
            const char *other = r->own[j].name;
            find_number(other, &a, &b);
            if (r->done[j] || !same_type(&r->own[i], &r->own[j]) || a != from || strncmp(name, other, from) != 0 ||
                strcmp(name + to, other + b) != 0)
                continue;
            if (!pass) n++;
            if (pass) add(t, "%s%.*s", at++ ? "|" : "", (int)(b - a), other + a);
            if (pass) r->done[j] = true;
        }
        if (pass && n > 1) add(t, ")");
    }
    add_tail(t, name + to);
    add(t, "$\"");
}

static void write_gptq(text *t, const request *r) {
    add(t,
        "\"bits\": %d, \"group_size\": %d, \"desc_act\": %s, \"static_groups\": %s, \"sym\": %s, \"lm_head\": false, "
        "\"checkpoint_format\": "
        "\"%s\", \"pack_dtype\": \"int32\", \"meta\": {\"quantizer\": \"sirocco\"}",
        r->spec.bits, r->spec.group, yes(r->spec.act_order), yes(r->spec.static_groups), yes(r->spec.sym),
        r->spec.layout);
    if (!r->n_skip && !r->n_own) return;
    const char *comma = "";
    add(t, ", \"dynamic\": {");
    for (int i = 0; i < r->n_own; i++) {
        if (r->done[i]) continue;
        add(t, "%s", comma);
        add_layers(t, r, i, "+:");
        add(t, ": {\"bits\": %d, \"group_size\": %d}", r->own[i].fmt->spec.bits, r->own[i].spec.group);
        comma = ", ";
    }
    for (int i = 0; i < r->n_skip; i++) {
        add(t, "%s", comma);
        add_quoted(t, "-:^", r->skip[i], "$", true);
        add(t, ": {}");
        comma = ", ";
    }
    add(t, "}");
}

static void write_awq(text *t, const request *r) {
    add(t, "\"bits\": %d, \"group_size\": %d, \"zero_point\": %s, \"version\": \"%s\"", r->spec.bits, r->spec.group,
        yes(!r->spec.sym), r->spec.layout);
    add_skipped(t, r, "modules_to_not_convert");
}

static void write_bnb(text *t, const request *r) {
    const bool eight = r->spec.bits == 8;
    add(t,
        "\"load_in_4bit\": %s, \"load_in_8bit\": %s, \"_load_in_4bit\": %s, \"_load_in_8bit\": %s, "
        "\"bnb_4bit_quant_type\": \"%s\", \"bnb_4bit_use_double_quant\": %s, \"bnb_4bit_compute_dtype\": "
        "\"bfloat16\", \"bnb_4bit_quant_storage\": \"uint8\", \"llm_int8_threshold\": 6.0, "
        "\"llm_int8_has_fp16_weight\": false, \"llm_int8_enable_fp32_cpu_offload\": false",
        yes(!eight), yes(eight), yes(!eight), yes(eight), eight ? "fp4" : r->spec.layout, yes(r->spec.nested));
    add_skipped(t, r, "llm_int8_skip_modules");
}

static void write_hqq(text *t, const request *r) {
    add(t,
        "\"quant_config\": {\"weight_quant_params\": {\"nbits\": %d, \"channel_wise\": true, \"group_size\": %d, "
        "\"optimize\": true, \"round_zero\": %s, \"axis\": %d, \"view_as_float\": false}, \"scale_quant_params\": "
        "null, "
        "\"zero_quant_params\": null, \"offload_meta\": false}",
        r->spec.bits, r->spec.group, yes(r->spec.bits == 4), r->spec.axis);
    add_skipped(t, r, "skip_modules");
}

/* A group of 0 or -1 columns: one scale a row, or one in all. */
static void write_fp8(text *t, const request *r) {
    add(t, "\"activation_scheme\": \"dynamic\", \"fmt\": \"%s\", \"weight_block_size\": ", r->fmt->spec.layout + 3);
    if (r->spec.group > 0 && r->spec.group_n > 0 && r->spec.group_n < INT32_MAX)
        add(t, "[%d, %d]", r->spec.group_n, r->spec.group);
    else
        add(t, "null");
    add_skipped(t, r, "modules_to_not_convert");
}

/* FP8 of this method has the type of its elements as layout, which is no format's name there. */
static bool is_fp8(const sr_qspec *s) {
    return !strncmp(s->layout, "f8_", 3);
}
static const char *ct_format(const sr_qspec *s) {
    return is_fp8(s) ? "float-quantized" : s->layout;
}

/* What stands behind the targets of a group. */
static void write_ct_scheme(text *t, const sr_qspec *s) {
    const bool fp8 = is_fp8(s), nv = strstr(s->layout, "nvfp4") != NULL;
    const bool mx = strstr(s->layout, "mxfp") != NULL, whole = s->group <= 0;
    const bool block = fp8 && !whole && s->group_n > 1, tensor = fp8 && whole && s->group_n > 1;
    add(t,
        "\"format\": \"%s\", \"input_activations\": null, \"output_activations\": null, \"weights\": {\"num_bits\": "
        "%d, \"type\": \"%s\", \"strategy\": \"%s\", \"symmetric\": %s, \"dynamic\": false",
        ct_format(s), s->bits, fp8 || nv || mx ? "float" : "int",
        nv       ? "tensor_group"
        : tensor ? "tensor"
        : block  ? "block"
        : whole  ? "channel"
                 : "group",
        yes(s->sym));
    if (block)
        add(t, ", \"block_structure\": [%d, %d], \"group_size\": null", s->group_n, s->group);
    else if (whole)
        add(t, ", \"group_size\": null");
    else
        add(t, ", \"group_size\": %d", s->group);
    if (nv || mx) add(t, ", \"scale_dtype\": \"%s\"", nv ? "torch.float8_e4m3fn" : "torch.uint8");
    add(t, ", \"actorder\": %s}}", s->act_order ? "\"group\"" : s->static_groups ? "\"weight\"" : "null");
}

/* A group of targets for each type; names go before the class. */
static void write_ct(text *t, const request *r) {
    bool mixed = false;
    for (int i = 0; i < r->n_own; i++) mixed = mixed || strcmp(ct_format(&r->own[i].spec), ct_format(&r->spec)) != 0;
    add(t,
        "\"format\": \"%s\", \"quantization_status\": \"compressed\", \"global_compression_ratio\": null, "
        "\"kv_cache_scheme\": null, \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], ",
        mixed ? "mixed-precision" : ct_format(&r->spec));
    write_ct_scheme(t, &r->spec);
    for (int i = 0, group = 1; i < r->n_own; i++) {
        if (r->done[i]) continue;
        add(t, ", \"group_%d\": {\"targets\": [", group++);
        const char *comma = "";
        for (int j = i; j < r->n_own; j++) {
            if (r->done[j] || !same_type(&r->own[i], &r->own[j])) continue;
            add(t, "%s", comma);
            add_layers(t, r, j, "re:");
            comma = ", ";
        }
        add(t, "], ");
        write_ct_scheme(t, &r->own[i].spec);
    }
    add(t, "}");
    add_skipped(t, r, "ignore");
}

static void write_modelopt(text *t, const request *r) {
    add(t, "\"quant_algo\": \"%s\", \"group_size\": %d, \"producer\": {\"name\": \"modelopt\"}", r->spec.layout,
        r->spec.group);
    add_skipped(t, r, "ignore");
}

static void write_mxfp4(text *t, const request *r) {
    add(t, "\"modules_to_not_convert\": [");
    for (int i = 0; i < r->n_skip; i++) {
        if (i) add(t, ", ");
        add_quoted(t, "", r->skip[i], "", false);
    }
    add(t, "]");
}

/* MLX names no method, and modules in the same object. */
static void write_mlx(text *t, const request *r) {
    add(t, "\"group_size\": %d, \"bits\": %d, \"mode\": \"%s\"", r->spec.group, r->spec.bits, r->spec.layout);
    for (int i = 0; i < r->n_own; i++) {
        const sr_qspec *s = &r->own[i].spec;
        add(t, ", ");
        add_quoted(t, "", r->own[i].name, "", false);
        add(t, ": {\"group_size\": %d, \"bits\": %d, \"mode\": \"%s\"}", s->group, s->bits, s->layout);
    }
    for (int i = 0; i < r->n_skip; i++) {
        add(t, ", ");
        add_quoted(t, "", r->skip[i], "", false);
        add(t, ": false");
    }
}

static const struct {
    const char *name;
    void (*write)(text *t, const request *r);
    bool mixes; /* modules have types of their own */
} methods[] = {
    {"gptq", write_gptq, true},          {"awq", write_awq, false},     {"bitsandbytes", write_bnb, false},
    {"hqq", write_hqq, false},           {"fp8", write_fp8, false},     {"compressed-tensors", write_ct, true},
    {"modelopt", write_modelopt, false}, {"mxfp4", write_mxfp4, false}, {"mlx", write_mlx, true},
};
enum { N_METHODS = sizeof methods / sizeof *methods };

static int method_of(const char *method) {
    int m = 0;
    while (method && m < N_METHODS && strcmp(methods[m].name, method)) m++;
    return method ? m : N_METHODS;
}

bool sr_qconfig_mixes(const sr_format *fmt) {
    const int m = method_of(fmt->spec.method);
    return m < N_METHODS && methods[m].mixes;
}

sr_status sr_qconfig_write(const sr_format *fmt, const sr_qspec *spec, const char *const *skip, int n_skip,
                           const sr_qmodule *own, int n_own, sr_arena *arena, const char **out, sr_err *err) {
    request r = {fmt, spec ? *spec : fmt->spec, skip, n_skip, own, n_own, NULL};
    const char *method = r.spec.method;
    const int m = method_of(method);
    if (m == N_METHODS)
        return sr_fail(err, SR_UNSUPPORTED,
                       "%s is described by no config, expected a format of gptq, awq, mlx, hqq, ...", fmt->name);
    if (n_own && !methods[m].mixes)
        return sr_fail(err, SR_UNSUPPORTED, "%s: a config of %s describes one type for all modules, and %s is another",
                       fmt->name, method, own->name);
    text t = {0};
    r.done = sr_arena_small(arena, (size_t)n_own + 1, sizeof *r.done);
    for (int pass = 0; pass < 2; pass++) {
        if (!r.done || (pass && !(t.at = sr_arena_alloc(arena, t.n + 1, 1))))
            return sr_fail(err, SR_NOMEM, "no memory for a config of %zu bytes", t.n);
        t.n = 0;
        memset(r.done, 0, (size_t)n_own * sizeof *r.done);
        add(&t, "{");
        if (methods[m].write != write_mlx) add(&t, "\"quant_method\": \"%s\", ", method);
        methods[m].write(&t, &r);
        add(&t, "}");
    }
    *out = t.at;
    return SR_OK;
}
