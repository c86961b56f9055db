/* llama.cpp's file types: one base type, and rules that give single tensors another.
 * Source: llama.cpp, src/llama-quant.cpp (llama_tensor_get_type_impl) and include/llama.h (enum llama_ftype). */
#include <string.h>

#include "quant/quant.h"

struct sr_mix {
    const char *name;
    int ftype;
    const char *base;
};

static const sr_mix mixes[] = {
    {"f32", 0, "f32"},          {"f16", 1, "f16"},        {"bf16", 32, "bf16"},    {"q4_0", 2, "q4_0"},
    {"q4_1", 3, "q4_1"},        {"q5_0", 8, "q5_0"},      {"q5_1", 9, "q5_1"},     {"q8_0", 7, "q8_0"},
    {"q2_k", 10, "q2_k"},       {"q2_k_s", 21, "q2_k"},   {"q3_k_s", 11, "q3_k"},  {"q3_k_m", 12, "q3_k"},
    {"q3_k_l", 13, "q3_k"},     {"q4_k_s", 14, "q4_k"},   {"q4_k_m", 15, "q4_k"},  {"q5_k_s", 16, "q5_k"},
    {"q5_k_m", 17, "q5_k"},     {"q6_k", 18, "q6_k"},     {"iq1_s", 24, "iq1_s"},  {"iq1_m", 31, "iq1_m"},
    {"iq2_xxs", 19, "iq2_xxs"}, {"iq2_xs", 20, "iq2_xs"}, {"iq2_s", 28, "iq2_xs"}, {"iq2_m", 29, "iq2_s"},
    {"iq3_xxs", 23, "iq3_xxs"}, {"iq3_xs", 22, "iq3_s"},  {"iq3_s", 26, "iq3_s"},  {"iq3_m", 27, "iq3_s"},
    {"iq4_nl", 25, "iq4_nl"},   {"iq4_xs", 30, "iq4_xs"}, {"tq1_0", 36, "tq1_0"},  {"tq2_0", 37, "tq2_0"},
    {"mxfp4_moe", 38, "mxfp4"}, {"nvfp4", 39, "nvfp4"},   {"q1_0", 40, "q1_0"},    {"q2_0", 41, "q2_0"},
    {"mix", 1024, "q8_0"}, /* types come from a recipe */
};
enum { N_MIXES = sizeof mixes / sizeof *mixes };

const sr_mix *sr_mix_at(int i) {
    return i < N_MIXES ? &mixes[i] : NULL;
}
const char *sr_mix_name(const sr_mix *m) {
    return m->name;
}
int sr_mix_ftype(const sr_mix *m) {
    return m->ftype;
}
const sr_format *sr_mix_base(const sr_mix *m) {
    return sr_format_by_name(m->base);
}

const sr_mix *sr_mix_by_name(const char *name) {
    /* What people call the middle one, with and without underscores. */
    static const char *const other[][2] = {{"q3_k", "q3_k_m"}, {"q4_k", "q4_k_m"}, {"q5_k", "q5_k_m"},
                                           {"q3k", "q3_k_m"},  {"q4k", "q4_k_m"},  {"q5k", "q5_k_m"},
                                           {"q2k", "q2_k"},    {"q6k", "q6_k"},    {"mxfp4", "mxfp4_moe"}};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (strcmp(name, other[i][0]) == 0) name = other[i][1];
    for (int i = 0; i < N_MIXES; i++)
        if (strcmp(mixes[i].name, name) == 0) return &mixes[i];
    return NULL;
}

/* The kinds of tensors that rules speak of. */
enum kind { OTHER, OUTPUT, EMBED, ATTN_V, ATTN_K, ATTN_Q, ATTN_OUT, FFN_DOWN, FFN_GATE, FFN_UP };

int sr_mix_kind(sr_role role) {
    switch (role) {
    case SR_HEAD:
        return OUTPUT;
    case SR_EMBED:
        return EMBED;
    case SR_V:
    case SR_QKV:
    case SR_KV_B:
        return ATTN_V;
    case SR_K:
        return ATTN_K;
    case SR_Q:
        return ATTN_Q;
    case SR_ATTN_OUT:
        return ATTN_OUT;
    case SR_DOWN:
    case SR_EXPERTS_DOWN:
    case SR_EXPERT_DOWN:
    case SR_SHARED_DOWN:
        return FFN_DOWN;
    case SR_GATE:
    case SR_EXPERTS_GATE:
    case SR_EXPERT_GATE:
    case SR_SHARED_GATE:
    case SR_EXPERTS_GATE_UP: /* "ffn_gate_up_exps" */
        return FFN_GATE;
    case SR_UP:
    case SR_GATE_UP:
    case SR_EXPERTS_UP:
    case SR_EXPERT_UP:
    case SR_SHARED_UP:
        return FFN_UP;
    default:
        return OTHER;
    }
}

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}
static bool begins(const char *a, const char *b) {
    return strncmp(a, b, strlen(b)) == 0;
}
/* Layers that get more bits in the _M mixes. */
static bool more(int i, int n) {
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

/* Few key-value heads: their values are small, and get more. */
static bool is_70b(const sr_mix_model *model) {
    return model->n_layer == 80 &&
           ((is(model->arch, "llama") && model->n_head != model->n_kv_head) || is(model->arch, "qwen2"));
}

/* Values are counted, and so are MLPs; with experts these go by the number of their layer, except in the rules of the
 * fewest bits, where a layer's experts and its shared one are two. */
static const char *choose(const sr_mix *m, const sr_mix_model *model, enum kind kind, sr_mix_place at, int64_t K,
                          bool stack) {
    const char *f = m->name, *base = m->base;
    const int gqa = model->n_kv_head > 0 ? model->n_head / model->n_kv_head : 1;
    const bool low = begins(f, "iq1_") || begins(f, "iq2_"), iq2_more = is(f, "iq2_s") || is(f, "iq2_m");
    const bool is_value = kind == ATTN_V;
    const int n = is_value ? at.n : model->n_layer;
    const int i = model->n_expert > 1 && !is_value && !low ? at.layer : at.i;
    const bool plain = is(base, "f32") || is(base, "f16") || is(base, "bf16");
    if (plain) return base;
    if (is(f, "mxfp4_moe")) return stack ? "mxfp4" : "q8_0";
    if (kind == OUTPUT || (kind == EMBED && model->tied)) {
        if (K % sr_format_by_name(base)->block != 0) return "q8_0";
        if (low || is(f, "iq3_xxs")) return "q5_k";
        return is(base, "q8_0") ? base : "q6_k";
    }
    if (kind == EMBED) {
        if (iq2_more || is(f, "iq3_xxs")) return "iq3_s";
        if (low) return "q2_k";
        return begins(f, "tq") || is(f, "q2_0") ? "q4_k" : base;
    }
    if (low) {
        if (kind == ATTN_V) return gqa >= 4 || model->n_expert >= 4 ? "q4_k" : iq2_more ? "iq3_s" : "q2_k";
        if (kind == FFN_DOWN && i < n / 8) return iq2_more ? "iq3_s" : "q2_k";
        if (kind == ATTN_OUT)
            return model->n_expert == 8 ? "q5_k" : begins(f, "iq1_") ? "iq2_xxs" : iq2_more ? "iq3_s" : base;
        return kind == ATTN_K && model->n_expert == 8 ? "q4_k" : base;
    }
    switch (kind) {
    case ATTN_V: {
        const char *to = base;
        if (is(f, "q2_k")) to = gqa >= 4 ? "q4_k" : "q3_k";
        if (is(f, "q2_k_s") && gqa >= 4) to = "q4_k";
        if (is(f, "iq3_xxs")) to = gqa >= 4 ? "q4_k" : model->has_importance ? base : "iq3_s";
        if ((is(f, "iq3_xs") || is(f, "iq3_s")) && gqa >= 4) to = "q4_k";
        if (is(f, "iq3_m")) to = "q4_k";
        if (is(f, "q3_k_m")) to = i < 2 ? "q5_k" : "q4_k";
        if (is(f, "q3_k_l")) to = "q5_k";
        if ((is(f, "iq4_nl") || is(f, "iq4_xs")) && gqa >= 4) to = "q5_k";
        if ((is(f, "q4_k_m") || is(f, "q5_k_m")) && more(i, n)) to = "q6_k";
        if (is(f, "q4_k_s") && i < 4) to = "q5_k";
        if (is_70b(model) && (is(to, "q3_k") || is(to, "q4_k"))) to = "q5_k";
        return model->n_expert == 8 ? "q8_0" : to;
    }
    case ATTN_K:
        if (model->n_expert == 8) return "q8_0";
        return is(f, "iq3_xs") ? "iq3_xxs" : is(f, "iq3_xxs") ? "iq2_s" : base;
    case ATTN_Q:
        return is(f, "iq3_xs") ? "iq3_xxs" : is(f, "iq3_xxs") ? "iq2_s" : base;
    case ATTN_OUT:
        if (model->n_expert == 8)
            return is(f, "q2_k") || is(f, "q3_k_s") || is(f, "q3_k_m") || begins(f, "q4_k_") || begins(f, "iq3_") ||
                           begins(f, "iq4_")
                       ? "q5_k"
                       : base;
        if (is(f, "q2_k")) return "q3_k";
        if (is(f, "iq3_xxs")) return "iq3_s";
        if (is(f, "q3_k_m") || is(f, "iq3_m")) return "q4_k";
        return is(f, "q3_k_l") ? "q5_k" : base;
    case FFN_DOWN:
        if (is(f, "q2_k")) return "q3_k";
        if (is(f, "q2_k_s") && i < n / 8) return "q4_k";
        if (is(f, "iq3_xxs") && !model->has_importance) return i < n / 8 ? "q4_k" : "q3_k";
        if (is(f, "q3_k_m")) return i < n / 16 ? "q5_k" : "q4_k";
        if (is(f, "q3_k_l")) return "q5_k";
        if ((is(f, "q4_k_m") || is(f, "q5_k_m")) && more(i, n)) return "q6_k";
        if (is(f, "iq3_m") && (i < n / 8 || (model->n_expert == 8 && more(i, n)))) return "q4_k";
        if ((is(f, "iq4_nl") || is(f, "iq4_xs")) && !model->has_importance && i < n / 8) return "q5_k";
        if (is(f, "q4_k_s") && i < n / 8) return "q5_k";
        if (is(f, "q4_0") && model->has_importance && i < n / 8) return "q4_1";
        if (is(f, "q5_0") && model->has_importance && i < n / 8) return "q5_1";
        return base;
    case FFN_GATE:
    case FFN_UP:
        return is(f, "iq3_xs") && i >= n / 8 && i < 7 * n / 8 ? "iq3_xxs" : base;
    default:
        return base;
    }
}

/* What a type becomes whose blocks do not divide the row. */
static const char *smaller(const char *type) {
    static const char *const to[][2] = {{"q2_k", "q4_0"}, {"q3_k", "q4_0"},  {"q4_k", "q5_0"},  {"q5_k", "q5_1"},
                                        {"q6_k", "q8_0"}, {"tq1_0", "q4_0"}, {"tq2_0", "q4_0"}, {"q2_0", "q4_0"}};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++)
        if (is(type, to[i][0])) return to[i][1];
    return begins(type, "iq") && !is(type, "iq4_nl") ? "iq4_nl" : "f16";
}

const sr_format *sr_mix_type(const sr_mix *m, const sr_mix_model *model, sr_role role, sr_mix_place at, int64_t K) {
    /* What has three dimensions there: experts, and a matrix a head. */
    const bool stack = (role >= SR_EXPERTS_GATE && role <= SR_EXPERT_DOWN) || role == SR_K_B || role == SR_V_B;
    return sr_mix_fitting(sr_format_by_name(choose(m, model, (enum kind)sr_mix_kind(role), at, K, stack)), K);
}

const sr_format *sr_mix_fitting(const sr_format *fmt, int64_t K) {
    while (fmt && K % fmt->block != 0) fmt = sr_format_by_name(smaller(fmt->name));
    return fmt;
}

bool sr_mix_has(const sr_format *fmt) {
    for (int i = 0; i < N_MIXES; i++)
        if (sr_mix_base(&mixes[i]) == fmt) return true;
    return false;
}

int sr_mix_ftype_of(const sr_format *fmt) {
    for (int i = 0; i < N_MIXES; i++)
        if (sr_mix_base(&mixes[i]) == fmt) return mixes[i].ftype;
    return 0;
}
