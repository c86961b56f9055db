/* The reverse of qconfig.c: what a format's loaders want to read about a checkpoint of it. Keys and their values are
 * those that the loaders' own tools write: transformers (utils/quantization_config.py), GPTQModel
 * (quantization/config.py), compressed-tensors (quantization/quant_config.py), modelopt (torch/export), mlx-lm
 * (utils.py). */
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

/* A JSON string; as a regular expression that means just these characters where `literal`. */
static void add_quoted(text *t, const char *before, const char *s, const char *after, bool literal) {
    add(t, "\"%s", before);
    for (; *s; s++) {
        if (literal && strchr(".^$*+?()[]{}|", *s)) add(t, "\\\\");
        if (*s == '"' || *s == '\\')
            add(t, "\\%c", *s);
        else if ((unsigned char)*s < ' ')
            add(t, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            add(t, "%c", *s);
    }
    add(t, "%s\"", after);
}

typedef struct request {
    const sr_format *fmt;
    sr_qspec spec;
    const char *const *skip;
    int n_skip;
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

static void write_gptq(text *t, const request *r) {
    add(t,
        "\"bits\": %d, \"group_size\": %d, \"desc_act\": %s, \"static_groups\": %s, \"sym\": %s, \"lm_head\": false, "
        "\"checkpoint_format\": "
        "\"%s\", \"pack_dtype\": \"int32\", \"meta\": {\"quantizer\": \"sirocco\"}",
        r->spec.bits, r->spec.group, yes(r->spec.act_order), yes(r->spec.static_groups), yes(r->spec.sym),
        r->spec.layout);
    if (!r->n_skip) return;
    add(t, ", \"dynamic\": {");
    for (int i = 0; i < r->n_skip; i++) {
        if (i) add(t, ", ");
        add_quoted(t, "-:^", r->skip[i], "$", true);
        add(t, ": {}");
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
static void write_ct(text *t, const request *r) {
    const sr_qspec *s = &r->spec;
    const bool fp8 = !strncmp(s->layout, "f8_", 3), nv = strstr(s->layout, "nvfp4") != NULL;
    const bool mx = strstr(s->layout, "mxfp") != NULL, whole = s->group <= 0;
    const bool block = fp8 && !whole && s->group_n > 1, tensor = fp8 && whole && s->group_n > 1;
    const char *format = fp8 ? "float-quantized" : s->layout;
    add(t,
        "\"format\": \"%s\", \"quantization_status\": \"compressed\", \"global_compression_ratio\": null, "
        "\"kv_cache_scheme\": null, \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"format\": \"%s\", "
        "\"input_activations\": null, \"output_activations\": null, \"weights\": {\"num_bits\": %d, \"type\": \"%s\", "
        "\"strategy\": \"%s\", \"symmetric\": %s, \"dynamic\": false",
        format, format, s->bits, fp8 || nv || mx ? "float" : "int",
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
    add(t, ", \"actorder\": %s}}}", s->act_order ? "\"group\"" : s->static_groups ? "\"weight\"" : "null");
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
    for (int i = 0; i < r->n_skip; i++) {
        add(t, ", ");
        add_quoted(t, "", r->skip[i], "", false);
        add(t, ": false");
    }
}

static const struct {
    const char *name;
    void (*write)(text *t, const request *r);
} methods[] = {
    {"gptq", write_gptq},         {"awq", write_awq},     {"bitsandbytes", write_bnb},
    {"hqq", write_hqq},           {"fp8", write_fp8},     {"compressed-tensors", write_ct},
    {"modelopt", write_modelopt}, {"mxfp4", write_mxfp4}, {"mlx", write_mlx},
};
enum { N_METHODS = sizeof methods / sizeof *methods };

sr_status sr_qconfig_write(const sr_format *fmt, const sr_qspec *spec, const char *const *skip, int n_skip,
                           sr_arena *arena, const char **out, sr_err *err) {
    const request r = {fmt, spec ? *spec : fmt->spec, skip, n_skip};
    const char *method = r.spec.method;
    for (int m = 0; method && m < N_METHODS; m++) {
        if (strcmp(methods[m].name, method)) continue;
        text t = {0};
        for (int pass = 0; pass < 2; pass++) {
            if (pass && !(t.at = sr_arena_alloc(arena, t.n + 1, 1)))
                return sr_fail(err, SR_NOMEM, "no memory for a config of %zu bytes", t.n);
            t.n = 0;
            add(&t, "{");
            if (methods[m].write != write_mlx) add(&t, "\"quant_method\": \"%s\", ", method);
            methods[m].write(&t, &r);
            add(&t, "}");
        }
        *out = t.at;
        return SR_OK;
    }
    return sr_fail(err, SR_UNSUPPORTED, "%s is described by no config, expected a format of gptq, awq, mlx, hqq, ...",
                   fmt->name);
}
