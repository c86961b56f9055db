/* The quantization config of a checkpoint: who quantized it, with how many bits, in which groups, and the exceptions.
 *
 * It comes flattened (file/config.c) from config.json, or from one of the files that older tools wrote beside it. Keys
 * by method:
 *     gptq                 bits group_size sym desc_act checkpoint_format|format is_marlin_format meta.quantizer
 *                          dynamic.<regex>.bits ...       (GPTQModel: gptqmodel/quantization/config.py)
 *     awq                  bits|w_bit group_size|q_group_size zero_point version
 *                                                         (AutoAWQ: awq/models/_config.py)
 *     auto-round           bits group_size sym packing_format|backend block_name_to_quantize
 *                          extra_config.<module|regex>.bits ...
 *                                                         (auto_round: inference/convert_model.py)
 *     mlx                  bits group_size mode, <module>.bits ...
 *                                                         (mlx-lm: mlx_lm/utils.py)
 *     hqq                  quant_config.weight_quant_params.{nbits,group_size,axis}, or that a linear tag
 *     fp8                  weight_block_size              (transformers: quantizers/quantizer_finegrained_fp8.py)
 *     compressed-tensors   config_groups.<g>.{targets,format,weights.{num_bits,group_size,symmetric,strategy,actorder}}
 *     bitsandbytes, modelopt, mxfp4: tensors say the rest
 * Exceptions become rules, of which the last that matches a module counts. */
#include <stdio.h>
#include <string.h>

#include "base/pattern.h"
#include "fmt/fmt.h"

/* MOST_STEPS: of matching patterns, all modules and rules together. About a second. */
enum { KEY = 1100, MOST_RULES = 4096, MOST_STEPS = 50000000 };

typedef struct rule {
    const char *pattern;                                  /* a module's name, a part of it, or a regular expression */
    enum { IS_NAME, IS_PART, IS_PATTERN, IS_CLASS } kind; /* IS_CLASS: every matrix ("Linear") */
    bool skip;
    sr_qspec spec;   /* unless skip */
    void *code;      /* of a regular expression; NULL: it is none, */
    const char *why; /* which is told where it is needed */
} rule;

struct sr_qconfig {
    const sr_file *file;
    sr_arena *arena;
    const char *prefix; /* of its keys */
    sr_qspec spec;      /* of modules that no rule names */
    bool needs_rule;    /* what no rule names is not quantized */
    rule *rule;
    int n_rules, cap;
    int64_t *steps; /* what is left of MOST_STEPS */
    sr_err *err;    /* while reading */
};

/* ---------------------------------------------------------------- reading keys under a prefix */

static const char *full_key(const sr_qconfig *c, const char *key, char text[KEY]) {
    int n = snprintf(text, KEY, "%s%s", c->prefix, key);
    return n > 0 && n < KEY ? text : "";
}
static const char *text_of(const sr_qconfig *c, const char *key) {
    char full[KEY];
    const char *text;
    size_t n;
    if (!sr_value_string(c->file, full_key(c, key, full), &text, &n, NULL)) return NULL;
    return sr_arena_strndup(c->arena, text, n);
}
static bool int_of(const sr_qconfig *c, const char *key, int64_t lo, int64_t hi, int64_t *out) {
    char full[KEY];
    return sr_value_int(c->file, full_key(c, key, full), lo, hi, out, c->err);
}
static bool bool_of(const sr_qconfig *c, const char *key, bool fallback) {
    char full[KEY];
    bool b = fallback;
    sr_value_bool(c->file, full_key(c, key, full), &b, NULL);
    return b;
}
static void read_bits(const sr_qconfig *c, const char *key, sr_qspec *spec) {
    int64_t v;
    if (int_of(c, key, 1, 16, &v)) spec->bits = (uint8_t)v;
}
static void read_group(const sr_qconfig *c, const char *key, sr_qspec *spec) {
    int64_t v;
    if (!int_of(c, key, -1, INT32_MAX, &v)) return;
    if (v == 0)
        sr_fail(c->err, SR_CORRUPT, "%s: %s%s is 0, expected -1 or a number of columns", c->file->path, c->prefix, key);
    spec->group = (int32_t)v;
}

static rule *add_rule(sr_qconfig *c, const char *pattern, int kind) {
    if (c->n_rules == c->cap) {
        int cap = c->cap ? 2 * c->cap : 16;
        rule *more = c->n_rules < MOST_RULES ? sr_arena_alloc(c->arena, (size_t)cap, sizeof *more) : NULL;
        if (!more) {
            sr_fail(c->err, SR_LIMIT, "%s: more than %d rules for modules in %s", c->file->path, c->n_rules, c->prefix);
            return NULL;
        }
        if (c->n_rules) memcpy(more, c->rule, (size_t)c->n_rules * sizeof *more);
        c->rule = more;
        c->cap = cap;
    }
    rule *r = &c->rule[c->n_rules++];
    *r = (rule){.pattern = pattern, .spec = c->spec};
    r->kind = kind;
    return r;
}

/* A list of modules that are left as they are: names, parts of names, or "re:...". */
static void read_skipped(sr_qconfig *c, const char *key) {
    char full[KEY];
    sr_array a = sr_array_over(sr_file_value(c->file, full_key(c, key, full)));
    const char *text;
    size_t n;
    while (sr_array_string(&a, &text, &n)) {
        const char *copy = sr_arena_strndup(c->arena, text, n);
        if (!copy) return;
        bool pattern = !strncmp(copy, "re:", 3);
        rule *r = add_rule(c, pattern ? copy + 3 : copy, pattern ? IS_PATTERN : IS_PART);
        if (!r) return;
        r->skip = true;
    }
}

/* The rule for `name`, of this kind; a new one when there is none. */
static rule *rule_for(sr_qconfig *c, const char *name, size_t n, int kind) {
    for (int i = c->n_rules - 1; i >= 0; i--)
        if (strlen(c->rule[i].pattern) == n && !memcmp(c->rule[i].pattern, name, n)) return &c->rule[i];
    const char *copy = sr_arena_strndup(c->arena, name, n);
    return copy ? add_rule(c, copy, kind) : NULL;
}

/* Rules of this kind before the others from the first on; each before those of its kind, or behind. */
static void bring_forward(sr_qconfig *c, int first, int kind, bool reversed) {
    for (int i = first + 1; i < c->n_rules; i++)
        for (int j = i; j > first && (int)c->rule[j].kind == kind; j--) {
            if (!reversed && (int)c->rule[j - 1].kind == kind) break;
            rule r = c->rule[j];
            c->rule[j] = c->rule[j - 1];
            c->rule[j - 1] = r;
        }
}

/* Calls each(c, rest of the key, length up to its last dot, value) for the keys that start with prefix + head. */
static void each_below(sr_qconfig *c, const char *head,
                       void (*each)(sr_qconfig *, const char *name, size_t n, const char *leaf, const sr_value *)) {
    char full[KEY];
    size_t n = strlen(full_key(c, head, full));
    for (int i = 0; i < c->file->n_values && c->err->code == SR_OK; i++) {
        const sr_value *v = &c->file->value[i];
        if (strncmp(v->key, full, n)) continue;
        const char *rest = v->key + n, *dot = strrchr(rest, '.');
        each(c, rest, dot ? (size_t)(dot - rest) : 0, dot ? dot + 1 : rest, v);
    }
}

static bool number(sr_qconfig *c, const sr_value *v, int64_t lo, int64_t hi, int64_t *out) {
    return sr_value_int(c->file, v->key, lo, hi, out, c->err);
}

/* ---------------------------------------------------------------- methods */

/* dynamic: {"-:regex": {}, "+:regex": {"bits": 8}}; the sign may be missing. An empty object leaves no value, so that
 * "-:" rules that have no key are invisible here: they name modules without packed tensors, and tensors decide. */
static void gptq_rule(sr_qconfig *c, const char *name, size_t n, const char *leaf, const sr_value *v) {
    bool skip = n > 2 && !strncmp(name, "-:", 2);
    if (n > 2 && (skip || !strncmp(name, "+:", 2))) name += 2, n -= 2;
    if (!n) return;
    rule *r = rule_for(c, name, n, IS_PATTERN);
    int64_t i;
    if (!r) return;
    r->skip = skip;
    if (!strcmp(leaf, "bits") && number(c, v, 1, 16, &i)) r->spec.bits = (uint8_t)i;
    if (!strcmp(leaf, "group_size") && number(c, v, -1, INT32_MAX, &i)) r->spec.group = (int32_t)i;
    if (!strcmp(leaf, "sym") && v->kind == SR_KIND_BOOL) r->spec.sym = v->v.b;
    if (!strcmp(leaf, "desc_act") && v->kind == SR_KIND_BOOL) r->spec.act_order = v->v.b;
}
/* meta.quantizer: "gptqmodel:1.4.0", or a list of all tools that had a hand in it. */
static const char *writer_of(sr_qconfig *c) {
    char full[KEY];
    sr_array a = sr_array_over(sr_file_value(c->file, full_key(c, "meta.quantizer", full)));
    const char *text;
    size_t n;
    while (sr_array_string(&a, &text, &n))
        if (n >= 9 && !memcmp(text, "gptqmodel", 9)) return "gptqmodel";
    return text_of(c, "meta.quantizer");
}
static void read_gptq(sr_qconfig *c) {
    sr_qspec *s = &c->spec;
    s->layout = text_of(c, "checkpoint_format");
    if (!s->layout) s->layout = text_of(c, "format");
    if (!s->layout) s->layout = bool_of(c, "is_marlin_format", false) ? "marlin" : "gptq";
    s->writer = writer_of(c);
    s->sym = bool_of(c, "sym", true);
    s->act_order = bool_of(c, "desc_act", false);
    s->static_groups = bool_of(c, "static_groups", false);
    if (!s->group) s->group = -1;
    each_below(c, "dynamic.", gptq_rule);
}

static void read_awq(sr_qconfig *c) {
    sr_qspec *s = &c->spec;
    read_bits(c, "w_bit", s);
    read_group(c, "q_group_size", s);
    s->layout = text_of(c, "version");
    if (!s->layout) s->layout = text_of(c, "checkpoint_format");
    if (!s->layout) s->layout = text_of(c, "format");
    if (!s->layout) s->layout = "gemm";
    s->sym = !bool_of(c, "zero_point", true);
    if (!s->group) s->group = 128;
    read_skipped(c, "modules_to_not_convert");
}

/* "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8, "mode": ...} or false. What such a dictionary leaves
 * out is the mode's own default, never the number beside it (mlx: python/mlx/nn/layers/quantized.py). */
static void mlx_rule(sr_qconfig *c, const char *name, size_t n, const char *leaf, const sr_value *v) {
    int64_t i;
    bool leaves_it = v->kind == SR_KIND_BOOL && !v->v.b;
    if (leaves_it) n = strlen(name);
    if (!n) return;
    int before = c->n_rules;
    rule *r = rule_for(c, name, n, IS_NAME);
    if (!r) return;
    if (c->n_rules > before) r->spec = (sr_qspec){.method = c->spec.method, .layout = "affine"};
    r->skip = leaves_it;
    if (!strcmp(leaf, "bits") && number(c, v, 1, 16, &i)) r->spec.bits = (uint8_t)i;
    if (!strcmp(leaf, "group_size") && number(c, v, 1, INT32_MAX, &i)) r->spec.group = (int32_t)i;
    if (!strcmp(leaf, "mode") && v->kind == SR_KIND_STRING)
        r->spec.layout = sr_arena_strndup(c->arena, v->v.s.text, (size_t)v->v.s.n);
}
static void mlx_defaults(sr_qspec *s) {
    bool nv = s->layout && !strcmp(s->layout, "nvfp4"), affine = !s->layout || !strcmp(s->layout, "affine");
    if (!s->bits) s->bits = s->layout && !strcmp(s->layout, "mxfp8") ? 8 : 4;
    if (!s->group) s->group = affine ? 64 : nv ? 16 : 32;
}
static void read_mlx(sr_qconfig *c) {
    c->spec.method = "mlx";
    c->spec.layout = text_of(c, "mode");
    if (!c->spec.layout) c->spec.layout = "affine";
    mlx_defaults(&c->spec);
    each_below(c, "", mlx_rule);
    for (int i = 0; i < c->n_rules; i++) mlx_defaults(&c->rule[i].spec);
}

static void hqq_rule(sr_qconfig *c, const char *name, size_t n, const char *leaf, const sr_value *v) {
    static const char tail[] = "weight_quant_params";
    size_t m = sizeof tail - 1;
    int64_t i;
    if (n < m || memcmp(name + n - m, tail, m)) return;
    sr_qspec *s = &c->spec;
    if (n > m) { /* "self_attn.q_proj.weight_quant_params" */
        rule *r = rule_for(c, name, n - m - 1, IS_PART);
        if (!r) return;
        s = &r->spec;
    }
    if (!strcmp(leaf, "nbits")) {
        if (v->kind == SR_KIND_F64 && v->v.f == 1.58) /* three values in fields of two bits */
            s->bits = 2;
        else if (number(c, v, 1, 16, &i))
            s->bits = (uint8_t)i;
    }
    if (!strcmp(leaf, "group_size") && number(c, v, 1, INT32_MAX, &i)) s->group = (int32_t)i;
    if (!strcmp(leaf, "axis") && number(c, v, 0, 1, &i)) s->axis = (uint8_t)i;
}
static void read_hqq(sr_qconfig *c) {
    c->spec.axis = 1;
    each_below(c, "quant_config.", hqq_rule);
    read_skipped(c, "skip_modules");
}

static void read_block(sr_qconfig *c, const char *key, sr_qspec *s) {
    char full[KEY];
    sr_array a = sr_array_over(sr_file_value(c->file, full_key(c, key, full)));
    int64_t n, k;
    if (!sr_array_int(&a, &n) || !sr_array_int(&a, &k)) return;
    if (n < 1 || k < 1 || n > INT32_MAX || k > INT32_MAX)
        sr_fail(c->err, SR_CORRUPT, "%s: %s%s is [%lld, %lld], expected two sizes of 1 or more", c->file->path,
                c->prefix, key, (long long)n, (long long)k);
    s->group_n = (int32_t)n;
    s->group = (int32_t)k;
}
static void read_fp8(sr_qconfig *c) {
    c->spec.bits = 8;
    read_block(c, "weight_block_size", &c->spec);
    c->spec.layout = text_of(c, "fmt");
    read_skipped(c, "modules_to_not_convert");
    read_skipped(c, "ignored_layers");
}

static void read_bnb(sr_qconfig *c) {
    c->spec.bits = bool_of(c, "load_in_8bit", bool_of(c, "_load_in_8bit", false)) ? 8 : 4;
    c->spec.layout = c->spec.bits == 8 ? "int8" : text_of(c, "bnb_4bit_quant_type");
    read_skipped(c, "llm_int8_skip_modules");
}

static void read_ct_group(sr_qconfig *c, const char *group, const char *common) {
    char key[KEY], full[KEY];
    sr_qspec s = {.method = c->spec.method, .sym = true};
    snprintf(key, sizeof key, "config_groups.%s.format", group);
    s.layout = text_of(c, key);
    if (!s.layout) s.layout = common;
    snprintf(key, sizeof key, "config_groups.%s.weights.num_bits", group);
    read_bits(c, key, &s);
    snprintf(key, sizeof key, "config_groups.%s.weights.group_size", group);
    read_group(c, key, &s);
    snprintf(key, sizeof key, "config_groups.%s.weights.symmetric", group);
    s.sym = bool_of(c, key, true);
    snprintf(key, sizeof key, "config_groups.%s.weights.block_structure", group);
    read_block(c, key, &s);
    if (!s.group) s.group = -1;
    snprintf(key, sizeof key, "config_groups.%s.weights.actorder", group);
    const char *order = text_of(c, key);
    s.act_order = order && (!strcmp(order, "group") || !strcmp(order, "dynamic"));
    s.static_groups = order && (!strcmp(order, "weight") || !strcmp(order, "static"));
    snprintf(key, sizeof key, "config_groups.%s.targets", group);
    sr_array a = sr_array_over(sr_file_value(c->file, full_key(c, key, full)));
    const char *text;
    size_t n;
    while (sr_array_string(&a, &text, &n)) {
        const char *copy = sr_arena_strndup(c->arena, text, n);
        if (!copy) return;
        bool pattern = !strncmp(copy, "re:", 3);
        bool class = !strcmp(copy, "Linear") || !strcmp(copy, "Embedding") || strstr(copy, "Experts");
        rule *r = add_rule(c, pattern ? copy + 3 : copy, pattern ? IS_PATTERN : class ? IS_CLASS : IS_NAME);
        if (!r) return;
        r->spec = s;
    }
}
/* Groups in the order of the file; rules for one module count before those for all, so these come first. */
static void read_ct(sr_qconfig *c) {
    static const char head[] = "config_groups.";
    char full[KEY], seen[64] = "";
    const char *common = text_of(c, "format");
    c->needs_rule = true;
    size_t n = strlen(full_key(c, head, full));
    for (int i = 0; i < c->file->n_values && c->err->code == SR_OK; i++) {
        const char *key = c->file->value[i].key;
        if (strncmp(key, full, n)) continue;
        char group[64];
        size_t m = strcspn(key + n, ".");
        if (m >= sizeof group) continue;
        memcpy(group, key + n, m);
        group[m] = 0;
        if (!strcmp(group, seen)) continue;
        strcpy(seen, group);
        read_ct_group(c, group, common);
    }
    bring_forward(c, 0, IS_CLASS, false); /* so that a later rule for a name wins */
    read_skipped(c, "ignore");
}

static void modelopt_rule(sr_qconfig *c, const char *name, size_t n, const char *leaf, const sr_value *v) {
    if (!n || strcmp(leaf, "quant_algo") || v->kind != SR_KIND_STRING) return;
    rule *r = rule_for(c, name, n, IS_NAME);
    if (r) r->spec.layout = sr_arena_strndup(c->arena, v->v.s.text, (size_t)v->v.s.n);
}
static void read_modelopt(sr_qconfig *c) {
    const char *algo = text_of(c, "quant_algo"); /* config.json repeats hf_quant_config.json without "quantization" */
    c->spec.layout = algo ? algo : text_of(c, "quantization.quant_algo");
    read_group(c, algo ? "group_size" : "quantization.group_size", &c->spec);
    each_below(c, algo ? "quantized_layers." : "quantization.quantized_layers.", modelopt_rule);
    read_skipped(c, algo ? "ignore" : "quantization.exclude_modules");
}

/* AutoBitLinear multiplies by the scale that BitLinear divides by (transformers: integrations/bitnet.py). */
static void read_bitnet(sr_qconfig *c) {
    c->spec.layout = text_of(c, "linear_class");
    if (bool_of(c, "use_rms_norm", false))
        sr_fail(c->err, SR_UNSUPPORTED, "%s: %suse_rms_norm is true, expected no norm before each matrix",
                c->file->path, c->prefix);
    read_skipped(c, "modules_to_not_convert");
}

/* Keys are names or, with a character that no name has, regular expressions. */
static void auto_round_rule(sr_qconfig *c, const char *name, size_t n, const char *leaf, const sr_value *v) {
    bool pattern = false;
    int64_t i;
    for (size_t k = 0; k < n; k++) pattern = pattern || strchr("*^$|()[]?+\\", name[k]);
    rule *r = n ? rule_for(c, name, n, pattern ? IS_PATTERN : IS_NAME) : NULL;
    if (!r) return;
    if (!strcmp(leaf, "bits") && number(c, v, 1, 32, &i)) {
        r->skip = i >= 16;
        if (!r->skip) r->spec.bits = (uint8_t)i;
    }
    if (!strcmp(leaf, "group_size") && number(c, v, -1, INT32_MAX, &i)) r->spec.group = (int32_t)i;
    if (!strcmp(leaf, "sym") && v->kind == SR_KIND_BOOL) r->spec.sym = v->v.b;
}
static void add_blocks(sr_qconfig *c, const char *text, size_t n) {
    for (size_t m; n; text += m, n -= m) {
        const char *comma = memchr(text, ',', n);
        size_t length = comma ? (size_t)(comma - text) : n;
        const char *copy = sr_arena_strndup(c->arena, text, length);
        if (!copy || (length && !add_rule(c, copy, IS_PART))) return;
        m = comma ? length + 1 : n;
    }
}
/* "model.layers,model.vision.blocks", or a list. */
static void read_blocks(sr_qconfig *c, const char *key) {
    char full[KEY];
    sr_array a = sr_array_over(sr_file_value(c->file, full_key(c, key, full)));
    const char *text = text_of(c, key);
    size_t n;
    if (text) add_blocks(c, text, strlen(text));
    while (sr_array_string(&a, &text, &n)) add_blocks(c, text, n);
    c->needs_rule = c->n_rules > 0;
}
/* Such a matrix wants x rotated. */
static void refuse_rotation(sr_qconfig *c, const char *name, size_t n, const char *leaf, const sr_value *v) {
    (void)name, (void)n, (void)leaf;
    sr_fail(c->err, SR_UNSUPPORTED, "%s: %s is there, expected no rotation of activations", c->file->path, v->key);
}

/* A packing_format, in old files the backend, has two to five words: "auto_round:auto_awq",
 * "auto_round:gptq:exllamav2". Packers ask which method it names, and so do we: with gptq zeros are stored less one,
 * with gptqmodel and by its own packer as they are; what else it can name, tensors tell. */
static void read_auto_round(sr_qconfig *c) {
    sr_qspec *s = &c->spec;
    const char *packing = text_of(c, "packing_format");
    if (!packing) packing = text_of(c, "backend");
    if (!packing || !strcmp(packing, "auto")) packing = "auto_round:auto_gptq";
    s->sym = bool_of(c, "sym", true);
    s->writer = "auto-round";
    if (!s->group) s->group = 128;
    if (!s->bits) s->bits = 4;
    if (strstr(packing, "awq")) {
        s->method = "awq";
        s->layout = "gemm";
    } else {
        s->method = "gptq";
        s->layout = strstr(packing, "gptq") && !strstr(packing, "gptqmodel") ? "gptq" : "gptq_v2";
    }
    const char *type = text_of(c, "data_type");
    if (type && !strncmp(type, "fp8_to_int", 10))
        sr_fail(c->err, SR_UNSUPPORTED, "%s: %sdata_type is '%.40s', expected weights of one scale a group",
                c->file->path, c->prefix, type);
    read_blocks(c, "block_name_to_quantize");
    const int first = c->n_rules;
    each_below(c, "extra_config.", auto_round_rule);
    /* The first regular expression that matches counts, and a name before all of them. */
    bring_forward(c, first, IS_PATTERN, true);
    each_below(c, "rotation_config.", refuse_rotation);
    each_below(c, "spinquant_config.", refuse_rotation);
}

static void read_nothing(sr_qconfig *c) {
    read_skipped(c, "modules_to_not_convert");
}

static const struct {
    const char *name;
    void (*read)(sr_qconfig *);
} methods[] = {
    {"gptq", read_gptq},
    {"awq", read_awq},
    {"mlx", read_mlx},
    {"afq", read_mlx},
    {"hqq", read_hqq},
    {"fp8", read_fp8},
    {"fbgemm_fp8", read_fp8},
    {"bitsandbytes", read_bnb},
    {"compressed-tensors", read_ct},
    {"modelopt", read_modelopt},
    {"mxfp4", read_nothing},
    {"bitnet", read_bitnet},
    {"auto-round", read_auto_round},
    {"intel/auto-round", read_auto_round},
};
enum { N_METHODS = sizeof methods / sizeof *methods };

/* ---------------------------------------------------------------- the config */

/* Where it stands; the first that has a key counts. MLX repeats "quantization" as "quantization_config". */
static const char *const prefixes[] = {"quantization_config.", "quantization.",    "text_config.quantization_config.",
                                       "compression_config.",  "quantize_config.", "quant_config.",
                                       "hf_quant_config."};

static void compile_rules(sr_qconfig *c) {
    for (int i = 0; i < c->n_rules; i++) {
        rule *r = &c->rule[i];
        sr_err why = {0};
        if (r->kind != IS_PATTERN) continue;
        r->code = sr_pattern_compile(r->pattern, false, c->file->path, c->arena, &why);
        if (!r->code) r->why = sr_arena_strndup(c->arena, why.msg, strlen(why.msg));
    }
}

sr_status sr_qconfig_read(const sr_file *file, sr_arena *arena, sr_qconfig **out, sr_err *err) {
    sr_err own = {0};
    sr_qconfig probe = {.file = file, .arena = arena, .err = err ? err : &own};
    *out = NULL;
    if (file->gguf) return SR_OK;
    for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes && !probe.prefix; p++)
        for (int i = 0; i < file->n_values && !probe.prefix; i++)
            if (!strncmp(file->value[i].key, prefixes[p], strlen(prefixes[p]))) probe.prefix = prefixes[p];
    if (!probe.prefix) return SR_OK;
    sr_qconfig *c = sr_arena_alloc(arena, 1, sizeof *c);
    probe.steps = sr_arena_small(arena, 1, sizeof *probe.steps);
    if (!c || !probe.steps) return sr_fail(err, SR_NOMEM, "%s: no memory for its quantization config", file->path);
    *c = probe;
    *c->steps = MOST_STEPS;
    const char *method = text_of(c, "quant_method");
    if (!method) method = text_of(c, "method");
    if (!method && !strcmp(c->prefix, "hf_quant_config.")) method = "modelopt";
    if (!method && !strcmp(c->prefix, "quantize_config.")) method = "gptq";
    if (!method && !strcmp(c->prefix, "quant_config.")) method = "awq";
    if (!method && !strcmp(c->prefix, "compression_config.")) method = "compressed-tensors";
    if (!method && text_of(c, "mode")) method = "mlx";
    int64_t bits;
    if (!method && int_of(c, "bits", 1, 16, &bits)) method = "mlx"; /* MLX names no method */
    if (!method) {
        sr_fail(c->err, SR_UNSUPPORTED, "%s: %squant_method is missing, expected one of gptq, awq, ...", file->path,
                c->prefix);
        return c->err->code; /* of the first failure, which may be that of its bits */
    }
    c->spec.method = method;
    read_bits(c, "bits", &c->spec);
    read_group(c, "group_size", &c->spec);
    int m = 0;
    while (m < N_METHODS && strcmp(methods[m].name, method)) m++;
    if (m == N_METHODS) {
        char list[160] = "";
        for (int i = 0; i < N_METHODS; i++) {
            size_t at = strlen(list);
            snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", methods[i].name);
        }
        sr_fail(c->err, SR_UNSUPPORTED, "%s: %squant_method is '%.40s', expected one of %s", file->path, c->prefix,
                method, list);
    } else {
        methods[m].read(c);
    }
    compile_rules(c);
    sr_status s = c->err->code;
    c->err = NULL;
    if (s == SR_OK) *out = c;
    return s;
}

static sr_status applies(const sr_qconfig *c, const rule *r, const char *name, bool *yes, sr_err *err) {
    switch (r->kind) {
    case IS_CLASS:
        *yes = true;
        return SR_OK;
    case IS_NAME:
        *yes = !strcmp(r->pattern, name);
        return SR_OK;
    case IS_PART:
        *yes = strstr(name, r->pattern) != NULL;
        return SR_OK;
    default:
        if (!r->code) return sr_fail(err, SR_INVALID, "%s", r->why ? r->why : "no memory");
        return sr_pattern_match(r->code, r->pattern, name, c->file->path, c->steps, yes, err);
    }
}

sr_status sr_qconfig_resolve(const sr_qconfig *c, const char *name, sr_qspec *spec, sr_err *err) {
    *spec = (sr_qspec){0};
    if (!c) return SR_OK;
    *spec = c->spec;
    bool listed = false, found = false;
    for (int i = c->n_rules - 1; i >= 0; i--) {
        bool yes;
        sr_status s = applies(c, &c->rule[i], name, &yes, err);
        if (s != SR_OK) return s;
        if (!yes) continue;
        if (c->rule[i].skip) { /* says nothing of how a module is stored that is quantized after all */
            listed = true;
            continue;
        }
        *spec = c->rule[i].spec;
        found = true;
        break;
    }
    spec->skip = listed || (c->needs_rule && !found);
    return SR_OK;
}
