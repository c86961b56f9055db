/* The configuration that loaders expect beside weights of a format: what qconfig.c reads, the other way round. A method
 * is a function that writes its members; all begin with the method's name. */
#include <string.h>

#include "fmt/fmt.h"

struct writer {
    sr_buffer *b;
    const sr_qspec *s;
    const char *const *kept;
    int n_kept;
    const char *comma; /* in front of the next member */
};

static bool is(const char *a, const char *b) {
    return a && strcmp(a, b) == 0;
}
static void key(struct writer *w, const char *name) {
    sr_buffer_text(w->b, w->comma);
    sr_buffer_json(w->b, name, strlen(name));
    sr_buffer_text(w->b, ": ");
    w->comma = ", ";
}
static void open(struct writer *w, const char *name) {
    key(w, name);
    sr_buffer_text(w->b, "{");
    w->comma = "";
}
static void close(struct writer *w) {
    sr_buffer_text(w->b, "}");
    w->comma = ", ";
}
static void number(struct writer *w, const char *name, int64_t v) {
    key(w, name);
    sr_buffer_int(w->b, v);
}
static void text(struct writer *w, const char *name, const char *v) {
    key(w, name);
    sr_buffer_json(w->b, v, strlen(v));
}
/* true, false, null, or a list: JSON as it stands. */
static void raw(struct writer *w, const char *name, const char *v) {
    key(w, name);
    sr_buffer_text(w->b, v);
}
static void flag(struct writer *w, const char *name, bool v) {
    raw(w, name, v ? "true" : "false");
}
static void list_kept(struct writer *w, const char *name) {
    key(w, name);
    sr_buffer_text(w->b, "[");
    for (int i = 0; i < w->n_kept; i++) {
        sr_buffer_text(w->b, i ? ", " : "");
        sr_buffer_json(w->b, w->kept[i], strlen(w->kept[i]));
    }
    sr_buffer_text(w->b, "]");
}

/* GPTQModel: quantization/config.py; a module that is "-:" is left out, and lm_head is by default. */
static void write_gptq(struct writer *w) {
    number(w, "bits", w->s->bits);
    number(w, "group_size", w->s->group);
    flag(w, "desc_act", w->s->act_order);
    flag(w, "sym", w->s->sym);
    flag(w, "lm_head", false);
    flag(w, "true_sequential", true);
    text(w, "checkpoint_format", w->s->layout);
    open(w, "dynamic");
    for (int i = 0; i < w->n_kept; i++) {
        if (is(w->kept[i], "lm_head")) continue;
        sr_buffer_text(w->b, w->comma);
        sr_buffer_text(w->b, "\"-:^");
        for (const char *c = w->kept[i]; *c; c++) {
            if (*c == '.') sr_buffer_text(w->b, "\\\\");
            sr_buffer_add(w->b, c, 1);
        }
        sr_buffer_text(w->b, "$\": {}");
        w->comma = ", ";
    }
    close(w);
    open(w, "meta");
    text(w, "quantizer", "sirocco");
    close(w);
}

/* AutoAWQ: models/_config.py */
static void write_awq(struct writer *w) {
    number(w, "bits", w->s->bits);
    number(w, "group_size", w->s->group);
    flag(w, "zero_point", !w->s->sym);
    text(w, "version", w->s->layout);
    list_kept(w, "modules_to_not_convert");
}

/* hqq: core/quantize.py (BaseQuantizeConfig); transformers: utils/quantization_config.py (HqqConfig) */
static void write_hqq(struct writer *w) {
    open(w, "quant_config");
    open(w, "weight_quant_params");
    number(w, "nbits", w->s->bits);
    flag(w, "channel_wise", true);
    number(w, "group_size", w->s->group);
    flag(w, "optimize", true);
    flag(w, "round_zero", false);
    number(w, "axis", w->s->axis);
    flag(w, "view_as_float", false);
    close(w);
    raw(w, "scale_quant_params", "null");
    raw(w, "zero_quant_params", "null");
    flag(w, "offload_meta", false);
    close(w);
    list_kept(w, "skip_modules");
}

/* mlx-lm: utils.py (quantize_model) */
static void write_mlx(struct writer *w) {
    number(w, "group_size", w->s->group);
    number(w, "bits", w->s->bits);
    text(w, "mode", w->s->layout);
    for (int i = 0; i < w->n_kept; i++) flag(w, w->kept[i], false);
}

/* transformers: utils/quantization_config.py (BitsAndBytesConfig) */
static void write_bnb(struct writer *w) {
    const bool eight = w->s->bits == 8;
    flag(w, "load_in_8bit", eight);
    flag(w, "load_in_4bit", !eight);
    text(w, "bnb_4bit_quant_type", eight ? "fp4" : w->s->layout);
    flag(w, "bnb_4bit_use_double_quant", w->s->nested);
    text(w, "bnb_4bit_compute_dtype", "bfloat16");
    text(w, "bnb_4bit_quant_storage", "uint8");
    raw(w, "llm_int8_threshold", "6.0");
    flag(w, "llm_int8_has_fp16_weight", false);
    flag(w, "llm_int8_enable_fp32_cpu_offload", false);
    list_kept(w, "llm_int8_skip_modules");
}

/* transformers: FineGrainedFP8Config; vLLM: layers/quantization/fp8.py */
static void write_fp8(struct writer *w) {
    text(w, "fmt", is(w->s->layout, "e5m2") ? "e5m2" : "e4m3");
    text(w, "activation_scheme", "dynamic");
    if (w->s->group_n > 1) {
        key(w, "weight_block_size");
        sr_buffer_text(w->b, "[");
        sr_buffer_int(w->b, w->s->group_n);
        sr_buffer_text(w->b, ", ");
        sr_buffer_int(w->b, w->s->group);
        sr_buffer_text(w->b, "]");
    }
    list_kept(w, "modules_to_not_convert");
}

/* compressed-tensors: quantization/quant_config.py, quant_args.py */
static void write_ct(struct writer *w) {
    const char *layout = w->s->layout;
    const bool floats = strstr(layout, "fp4") || strstr(layout, "fp6"), nv = strstr(layout, "nvfp4");
    const bool ints = is(layout, "int-quantized");
    text(w, "format", layout);
    text(w, "quantization_status", "compressed");
    open(w, "config_groups");
    open(w, "group_0");
    raw(w, "targets", "[\"Linear\"]");
    open(w, "weights");
    number(w, "num_bits", w->s->bits);
    text(w, "type", floats ? "float" : "int");
    flag(w, "symmetric", w->s->sym);
    text(w, "strategy", nv ? "tensor_group" : w->s->group > 0 ? "group" : "channel");
    if (w->s->group > 0) number(w, "group_size", w->s->group);
    flag(w, "dynamic", false);
    raw(w, "actorder", w->s->act_order ? "\"group\"" : "null");
    close(w);
    if (ints) { /* activations are rounded a token at a time */
        open(w, "input_activations");
        number(w, "num_bits", 8);
        text(w, "type", "int");
        flag(w, "symmetric", true);
        text(w, "strategy", "token");
        flag(w, "dynamic", true);
        close(w);
    } else
        raw(w, "input_activations", "null");
    raw(w, "output_activations", "null");
    close(w);
    close(w);
    list_kept(w, "ignore");
    raw(w, "kv_cache_scheme", "null");
}

/* gpt-oss */
static void write_mxfp4(struct writer *w) {
    list_kept(w, "modules_to_not_convert");
}

static const struct method {
    const char *name, *quant_method; /* NULL: the config does not name it */
    const char *member[2];           /* of config.json */
    void (*write)(struct writer *w);
} methods[] = {
    {"gptq", "gptq", {"quantization_config"}, write_gptq},
    {"awq", "awq", {"quantization_config"}, write_awq},
    {"hqq", "hqq", {"quantization_config"}, write_hqq},
    {"mlx", NULL, {"quantization", "quantization_config"}, write_mlx},
    {"bitsandbytes", "bitsandbytes", {"quantization_config"}, write_bnb},
    {"fp8", "fp8", {"quantization_config"}, write_fp8},
    {"compressed-tensors", "compressed-tensors", {"quantization_config"}, write_ct},
    {"mxfp4", "mxfp4", {"quantization_config"}, write_mxfp4},
};

sr_status sr_qconfig_write(const sr_format *fmt, const sr_qspec *spec, const char *const *kept, int n_kept,
                           sr_buffer *out, sr_err *err) {
    const struct method *m = NULL;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (is(spec->method, methods[i].name)) m = &methods[i];
    if (!m) return sr_fail(err, SR_UNSUPPORTED, "%s has no configuration that could be written", fmt->name);
    struct writer w = {out, spec, kept, n_kept, ",\n  "};
    for (int i = 0; i < 2 && m->member[i]; i++) {
        open(&w, m->member[i]);
        if (m->quant_method) text(&w, "quant_method", m->quant_method);
        m->write(&w);
        close(&w);
        w.comma = ",\n  ";
    }
    return SR_OK;
}
