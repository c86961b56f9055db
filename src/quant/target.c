/* What --to says: container, format, options. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

static sr_status unknown_mix(const char *text, sr_err *err) {
    char list[200] = "";
    size_t at = 0;
    const sr_mix *m;
    for (int i = 0; (m = sr_mix_at(i)) && at + strlen(sr_mix_name(m)) + 2 < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? " " : "", sr_mix_name(m));
    return sr_fail(err, SR_INVALID, "--to '%.20s': expected gguf:TYPE of %s%s", text, list, m ? " ..." : "");
}

/* Options that a format has: others would be dropped without a word. */
enum { GROUP = 1, ROW = 2, SYM = 4, ORDER = 8, NESTED = 16, GPTQ = GROUP | ROW | SYM | ORDER };

/* A family of formats in Hugging Face directories: what may stand behind its name, and the row that it means. */
static const struct family {
    const char *name, *word, *row;
    bool edges;
    int options;
} families[] = {
    {"gptq", "2", "gptq2", false, GPTQ},
    {"gptq", "3", "gptq3", false, GPTQ},
    {"gptq", "4", "gptq4", false, GPTQ},
    {"gptq", "8", "gptq8", false, GPTQ},
    {"awq", "4", "awq4", false, GROUP | SYM},
    {"hqq", "1", "hqq1", false, GROUP},
    {"hqq", "2", "hqq2", false, GROUP},
    {"hqq", "3", "hqq3", false, GROUP},
    {"hqq", "4", "hqq4", false, GROUP},
    {"hqq", "8", "hqq8", false, GROUP},
    {"mlx", "2", "mlx2", true, GROUP},
    {"mlx", "3", "mlx3", true, GROUP},
    {"mlx", "4", "mlx4", true, GROUP},
    {"mlx", "5", "mlx5", true, GROUP},
    {"mlx", "6", "mlx6", true, GROUP},
    {"mlx", "8", "mlx8", true, GROUP},
    {"mlx", "mxfp4", "mlx_mxfp4", true, 0},
    {"mlx", "mxfp8", "mlx_mxfp8", true, 0},
    {"mlx", "nvfp4", "mlx_nvfp4", true, 0},
    {"bnb", "nf4", "nf4", false, GROUP | NESTED},
    {"bnb", "fp4", "fp4", false, GROUP | NESTED},
    {"bnb", "int8", "bnb_int8", false, 0},
    {"fp8", "", "fp8_e4m3", false, 0},
    {"fp8", "block", "fp8_e4m3", false, 0},
    {"compressed-tensors", "w4a16", "ct_pack4", false, GPTQ},
    {"compressed-tensors", "w8a16", "ct_pack8", false, GPTQ},
    {"compressed-tensors", "w8a8", "ct_int8", false, GROUP | ROW},
    {"compressed-tensors", "mxfp4", "ct_mxfp4", false, 0},
    {"compressed-tensors", "nvfp4", "ct_nvfp4", false, 0},
    {"mxfp4", "", "ct_mxfp4", false, 0},
    {"nvfp4", "", "ct_nvfp4", false, 0},
    {"uqff", "q4_0", "q4_0", true, 0},
    {"uqff", "q4_1", "q4_1", true, 0},
    {"uqff", "q5_0", "q5_0", true, 0},
    {"uqff", "q5_1", "q5_1", true, 0},
    {"uqff", "q8_0", "q8_0", true, 0},
    {"uqff", "q8_1", "q8_1", true, 0},
    {"uqff", "q2k", "q2_k", true, 0},
    {"uqff", "q3k", "q3_k", true, 0},
    {"uqff", "q4k", "q4_k", true, 0},
    {"uqff", "q5k", "q5_k", true, 0},
    {"uqff", "q6k", "q6_k", true, 0},
    {"uqff", "q8k", "q8_k", true, 0},
    {"uqff", "hqq4", "hqq4", true, 0},
    {"uqff", "hqq8", "hqq8", true, 0},
    {"uqff", "fp8", "fp8_e4m3", true, 0},
    {"uqff", "afq2", "mlx2", true, 0},
    {"uqff", "afq3", "mlx3", true, 0},
    {"uqff", "afq4", "mlx4", true, 0},
    {"uqff", "afq6", "mlx6", true, 0},
    {"uqff", "afq8", "mlx8", true, 0},
    {"uqff", "f8q8", "f8q8", true, 0},
    {"uqff", "mxfp4", "mlx_mxfp4", true, 0},
    {"f32", "", "f32", true, 0},
    {"f16", "", "f16", true, 0},
    {"bf16", "", "bf16", true, 0},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

/* mlx-lm's mixed recipes: the bits of most matrices, and the type of the others. */
static const struct {
    const char *name, *bits, *more;
} mixed[] = {
    {"mixed_2_6", "2", "mlx6"}, {"mixed_3_4", "3", "mlx4"}, {"mixed_3_6", "3", "mlx6"}, {"mixed_4_6", "4", "mlx6"}};
enum { N_MIXED = sizeof mixed / sizeof *mixed };

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* A family's types where it is known, else those of most. */
static sr_status unknown(const char *text, const char *family, sr_err *err) {
    char list[176] = "";
    size_t at = 0;
    bool known = false;
    for (int i = 0; i < N_FAMILIES; i++) known = known || is(families[i].name, family);
    for (int i = 0; i < N_FAMILIES; i++) {
        if (known ? !is(families[i].name, family) : is(families[i].name, "uqff")) continue;
        const bool again = i && is(families[i].name, families[i - 1].name);
        const int n = snprintf(list + at, sizeof list - at, "%s%s%s",
                               again ? "|"
                               : at  ? " "
                                     : "",
                               again ? "" : families[i].name, families[i].word[0] && !again ? ":" : "");
        at += n > 0 ? (size_t)n : 0;
        if (at < sizeof list) {
            const int m = snprintf(list + at, sizeof list - at, "%s", families[i].word);
            at += m > 0 ? (size_t)m : 0;
        }
        if (at >= sizeof list) break;
    }
    return sr_fail(err, SR_INVALID, "--to '%.40s' is unknown; expected %s%s", text,
                   known ? "" : "gguf:TYPE (as gguf:q4_k_m), uqff:TYPE or one of ", list);
}

/* As mistral.rs has a type in UQFF: one scale a matrix of FP8, HQQ's groups in columns. */
static sr_qspec spec_in_uqff(const sr_format *fmt) {
    sr_qspec spec = fmt->spec;
    if (spec.method && is(spec.method, "fp8")) spec.group = -1, spec.group_n = INT32_MAX;
    if (fmt->across) spec.axis = 0, spec.floats = "f32";
    return spec;
}

static sr_status option(sr_target *t, int has, const char *key, const char *value, sr_err *err) {
    const bool yes = !value || is(value, "true") || is(value, "1"),
               no = value && (is(value, "false") || is(value, "0"));
    if (is(key, "group") && value && has & GROUP) {
        char *end;
        const long group = strtol(value, &end, 10);
        if (*end || ((group != -1 || !(has & ROW)) && (group < 16 || group > 1024 || group & (group - 1))))
            return sr_fail(err, SR_INVALID, "--to: group=%.20s: expected a power of two from 16 to 1024%s", value,
                           has & ROW ? ", or -1 for a row" : "");
        t->spec.group = (int32_t)group;
        t->group_said = true;
        return SR_OK;
    }
    if ((yes || no) && is(key, "sym") && has & SYM) return t->spec.sym = yes, SR_OK;
    if ((yes || no) && is(key, "asym") && has & SYM) return t->spec.sym = !yes, SR_OK;
    if ((yes || no) && (is(key, "desc_act") || is(key, "act_order")) && has & ORDER)
        return t->spec.act_order = yes, SR_OK;
    if ((yes || no) && is(key, "static_groups") && t->fmt->fit) return t->spec.static_groups = yes, SR_OK;
    if ((yes || no) && (is(key, "double") || is(key, "nested")) && has & NESTED) return t->spec.nested = yes, SR_OK;
    if (!has && !t->fmt->fit)
        return sr_fail(err, SR_INVALID, "--to: found the option '%.30s' of %s, which has none: leave it out", key,
                       t->fmt->name);
    return sr_fail(err, SR_INVALID, "--to: found the option '%.30s%s%.30s': leave it out; %s has %s%s%s%sstatic_groups",
                   key, value ? "=" : "", value ? value : "", t->fmt->name, has & GROUP ? "group=N, " : "",
                   has & SYM ? "sym, asym, " : "", has & ORDER ? "desc_act, " : "", has & NESTED ? "double, " : "");
}

sr_status sr_target_parse(const char *text, sr_target *t, sr_err *err) {
    *t = (sr_target){0};
    const size_t n = strlen(text);
    int has = 0;
    if (n >= sizeof t->text) return unknown(text, "", err);
    for (size_t i = 0; i < n; i++) t->text[i] = (char)tolower((unsigned char)text[i]);
    char copy[SR_TARGET_TEXT], *rest = copy;
    memcpy(copy, t->text, n + 1);
    char *options = strchr(copy, ',');
    if (options) *options++ = 0;
    char *word = strchr(rest, ':');
    if (word) *word++ = 0;
    const char *family = is(rest, "afq")            ? "mlx"
                         : is(rest, "bitsandbytes") ? "bnb"
                         : is(rest, "ct")           ? "compressed-tensors"
                                                    : rest;
    if (is(family, "gguf")) {
        t->gguf = true;
        t->mix = sr_mix_by_name(word ? word : "mix");
        if (!t->mix) return unknown_mix(text, err);
        t->fmt = sr_mix_base(t->mix);
    }
    for (int i = 0; i < N_MIXED && is(family, "mlx") && word; i++)
        if (is(word, mixed[i].name)) {
            t->more = sr_format_by_name(mixed[i].more);
            strcpy(word, mixed[i].bits);
        }
    for (int i = 0; i < N_FAMILIES && !t->gguf && !t->fmt; i++)
        if (is(family, families[i].name) && is(word ? word : "", families[i].word)) {
            t->fmt = sr_format_by_name(families[i].row);
            t->edges = families[i].edges;
            t->floats = is(family, "mlx") || is(family, "compressed-tensors");
            has = families[i].options;
            t->spec = t->fmt ? t->fmt->spec : (sr_qspec){0};
            if (word && is(word, "block")) t->spec.group = 128, t->spec.group_n = 128;
            t->uqff = is(family, "uqff");
            if (t->uqff) t->spec = spec_in_uqff(t->fmt);
        }
    if (!t->fmt) return unknown(text, family, err);
    if (!sr_format_writable(t->fmt))
        return sr_fail(err, SR_UNSUPPORTED, "--to '%.40s': this build cannot write %s", text, t->fmt->name);
    sr_status s = SR_OK;
    while (options && s == SR_OK) {
        char *key = options, *value;
        options = strchr(key, ',');
        if (options) *options++ = 0;
        value = strchr(key, '=');
        if (value) *value++ = 0;
        s = option(t, has, key, value, err);
    }
    /* AutoGPTQ's name for columns in an order and groups in their places is both. */
    if (t->spec.static_groups) t->spec.act_order = false;
    if (t->spec.layout && is(t->spec.layout, "gptq") && !t->spec.sym) t->spec.layout = "gptq_v2";
    return s;
}

static bool is_method(const sr_target *t, const char *method) {
    return t->fmt->spec.method && is(t->fmt->spec.method, method);
}

bool sr_target_is_mlx(const sr_target *t) {
    return is_method(t, "mlx");
}

/* Stacks that are parameters are no layers to a loader that replaces layers: it has them in plain numbers. gptqmodel
 * takes them apart, and its gates are the first half of rows in which gates and ups take turns (defuser 0.0.28), which
 * the next version may have otherwise; no loader of HQQ knows them. */
sr_status sr_target_suit(const sr_arch *arch, sr_target *t, sr_err *err) {
    static const char mxfp4[] = "mxfp4";
    const bool whole = t->spec.static_groups, gptq = is_method(t, "gptq") || is_method(t, "awq");
    if (!arch->turned_experts || t->gguf || t->uqff) return SR_OK;
    if (gptq || is_method(t, "hqq"))
        return sr_fail(err, SR_UNSUPPORTED,
                       "--to %s: the experts of %s are parameters of a layout of their own, %s: choose mxfp4, bf16, "
                       "mlx:4, uqff:q4k or gguf:q4_k_m, or bnb:nf4, which quantizes the attention alone",
                       t->text, arch->name,
                       gptq ? "of which gptqmodel makes gates that are half ups" : "which no loader of HQQ knows");
    if (strncmp(t->text, mxfp4, sizeof mxfp4 - 1) != 0) return SR_OK;
    t->fmt = sr_format_by_name("gptoss_mxfp4");
    t->spec = t->fmt->spec;
    t->spec.static_groups = whole;
    t->experts = true;
    return SR_OK;
}

/* ---------------------------------------------------------------- several types in a directory */

sr_status sr_target_mixes(const sr_target *t, sr_err *err) {
    if (t->uqff || sr_qconfig_mixes(t->fmt)) return SR_OK;
    return sr_fail(err, SR_UNSUPPORTED,
                   "--to %s: types matrix by matrix are for containers whose loaders read several in one model: "
                   "convert --to gguf:mix, uqff:q4k, mlx:4, gptq:4 or compressed-tensors:w4a16, or leave the recipe or "
                   "the limit out",
                   t->text);
}

static bool same_layout(const sr_format *a, const sr_format *b) {
    const char *x = a->spec.layout, *y = b->spec.layout;
    return x && y ? is(x, y) : x == y;
}

static bool same_method(const sr_format *a, const sr_format *b) {
    const char *x = a->spec.method, *y = b->spec.method;
    return x && y ? is(x, y) : x == y;
}

/* Whether the target's loaders read the family's row beside the target's own. UQFF says of each layer what it is. */
static bool goes_with(const sr_target *t, const struct family *f) {
    const bool uqff = is(f->name, "uqff");
    return t->uqff ? uqff : !uqff && *f->word && same_method(sr_format_by_name(f->row), t->fmt);
}

/* How near a format is to the target's own: of its method, of its layout. */
static int nearness(const sr_target *t, const sr_format *fmt) {
    return 2 * same_method(fmt, t->fmt) + same_layout(fmt, t->fmt);
}

/* Such a row, by its format, or of the target's method by its bits; the nearest. */
static const struct family *find_row(const sr_target *t, const sr_format *fmt, int bits) {
    const struct family *found = NULL;
    for (int i = N_FAMILIES - 1; i >= 0; i--) {
        const struct family *f = &families[i];
        const sr_format *row = sr_format_by_name(f->row);
        if (!goes_with(t, f)) continue;
        if (row != fmt && (!bits || row->spec.bits != bits || !same_method(row, t->fmt))) continue;
        if (!found || nearness(t, row) >= nearness(t, sr_format_by_name(found->row))) found = f;
    }
    return found;
}

/* As the target has it where both are of one layout: groups, zeros, order. */
static sr_type as_target(const sr_target *t, const sr_format *fmt) {
    sr_type type = {fmt, t->uqff ? spec_in_uqff(fmt) : fmt->spec};
    if (t->uqff || !same_layout(fmt, t->fmt)) return type;
    type.spec = t->spec;
    type.spec.bits = fmt->spec.bits;
    return type;
}

static void list_rows(const sr_target *t, char *list, size_t cap) {
    size_t at = 0;
    for (int i = 0; i < N_FAMILIES && at < cap; i++) {
        if (!goes_with(t, &families[i])) continue;
        const int n = snprintf(list + at, cap - at, "%s%s", at ? ", " : "", families[i].row);
        at += n > 0 ? (size_t)n : 0;
    }
}

sr_status sr_target_type(const sr_target *t, const sr_rule *rule, const char *recipe, sr_type *type, sr_err *err) {
    *type = (sr_type){rule->fmt, rule->fmt->spec};
    if (!rule->bits && sr_is_plain(rule->fmt)) return SR_OK;
    const struct family *f = find_row(t, rule->fmt, rule->bits);
    char list[192] = "", bits[24];
    list_rows(t, list, sizeof list);
    snprintf(bits, sizeof bits, "of %d bits", rule->bits);
    if (!f)
        return sr_fail(err, SR_INVALID,
                       "%s: found the type %s, which '--to %s' has not: it needs one of %s, bf16, or a number of bits",
                       recipe, rule->bits ? bits : rule->fmt->name, t->text, list);
    *type = as_target(t, sr_format_by_name(f->row));
    if (rule->group && !(f->options & GROUP) && rule->group != type->fmt->spec.group)
        return sr_fail(err, SR_INVALID, "%s: found groups of %d columns for %s, whose groups are of %d: leave it out",
                       recipe, rule->group, type->fmt->name, type->fmt->spec.group);
    if (rule->group) type->spec.group = rule->group;
    return SR_OK;
}

/* GGUF's types of activations: finer than matrices need, and not multiplied by every device of mistral.rs's. */
static bool is_of_activations(const sr_format *fmt) {
    return is(fmt->name, "q8_1") || is(fmt->name, "q8_k");
}

/* MLX: all that its kernels multiply; UQFF: all of the target's method; else one layout, in the target's groups. */
bool sr_target_candidate(const sr_target *t, int i, sr_type *type) {
    static const int groups[] = {128, 64, 32};
    const bool mlx = sr_target_is_mlx(t) && !t->uqff, affine = mlx && is(t->fmt->spec.layout, "affine");
    for (int bits = 0; bits <= 8; bits++) /* GGUF's types say none */
        for (int f = 0; f < N_FAMILIES; f++) {
            const sr_format *row = sr_format_by_name(families[f].row);
            if (!goes_with(t, &families[f]) || !same_method(row, t->fmt) || row->spec.bits != bits ||
                is_of_activations(row) || (!mlx && !t->uqff && !same_layout(row, t->fmt)))
                continue;
            const bool several = mlx && is(row->spec.layout, "affine") && !(affine && t->group_said);
            for (int g = several ? 0 : 2; g < 3; g++)
                if (i-- == 0) {
                    *type = as_target(t, row);
                    if (several) type->spec.group = groups[g];
                    return true;
                }
        }
    return false;
}
