/* How checkpoints call the parts of a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"

/* Most families'; a row lists where it differs. */
static const sr_name names[SR_N_ROLES] = {
    {SR_EMBED, "embed_tokens", "token_embd"},
    {SR_HEAD, "lm_head", "output"},
    {SR_OUT_NORM, "norm", "output_norm"},
    {SR_ROPE_FREQS, NULL, "rope_freqs"},
    {SR_ROPE_LONG, NULL, "rope_factors_long"},
    {SR_ROPE_SHORT, NULL, "rope_factors_short"},
    {SR_ATTN_NORM, "input_layernorm", "attn_norm"},
    {SR_Q, "self_attn.q_proj", "attn_q"},
    {SR_K, "self_attn.k_proj", "attn_k"},
    {SR_V, "self_attn.v_proj", "attn_v"},
    {SR_QKV, "self_attn.qkv_proj", "attn_qkv"},
    {SR_Q_A, "self_attn.q_a_proj", "attn_q_a"},
    {SR_Q_A_NORM, "self_attn.q_a_layernorm", "attn_q_a_norm"},
    {SR_Q_B, "self_attn.q_b_proj", "attn_q_b"},
    {SR_KV_A, "self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {SR_KV_A_NORM, "self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {SR_KV_B, "self_attn.kv_b_proj", "attn_kv_b"},
    {SR_K_B, "self_attn.embed_q", "attn_k_b"}, /* MLX */
    {SR_V_B, "self_attn.unembed_out", "attn_v_b"},
    {SR_Q_NORM, "self_attn.q_norm", "attn_q_norm"},
    {SR_K_NORM, "self_attn.k_norm", "attn_k_norm"},
    {SR_SINKS, "self_attn.sinks", "attn_sinks.weight"},
    {SR_ATTN_OUT, "self_attn.o_proj", "attn_output"},
    {SR_ATTN_POST_NORM, "post_attention_layernorm", "post_attention_norm"},
    {SR_FFN_NORM, "post_attention_layernorm", "ffn_norm"},
    {SR_GATE, "mlp.gate_proj", "ffn_gate"},
    {SR_UP, "mlp.up_proj", "ffn_up"},
    {SR_GATE_UP, "mlp.gate_up_proj", "ffn_up"}, /* GGUF: the same name, twice the rows */
    {SR_DOWN, "mlp.down_proj", "ffn_down"},
    {SR_ROUTER, "mlp.gate", "ffn_gate_inp"},
    {SR_ROUTER_BIAS, "mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
    {SR_EXPERTS_GATE, "mlp.experts.gate_proj", "ffn_gate_exps"},
    {SR_EXPERTS_UP, "mlp.experts.up_proj", "ffn_up_exps"},
    {SR_EXPERTS_GATE_UP, "mlp.experts.gate_up_proj", "ffn_gate_up_exps"},
    {SR_EXPERTS_DOWN, "mlp.experts.down_proj", "ffn_down_exps"},
    {SR_SWITCH_GATE, "mlp.switch_mlp.gate_proj", NULL},
    {SR_SWITCH_UP, "mlp.switch_mlp.up_proj", NULL},
    {SR_SWITCH_DOWN, "mlp.switch_mlp.down_proj", NULL},
    {SR_EXPERT_GATE, "mlp.experts.*.gate_proj", "ffn_gate.*"},
    {SR_EXPERT_UP, "mlp.experts.*.up_proj", "ffn_up.*"},
    {SR_EXPERT_DOWN, "mlp.experts.*.down_proj", "ffn_down.*"},
    {SR_SHARED_GATE, "mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
    {SR_SHARED_UP, "mlp.shared_expert.up_proj", "ffn_up_shexp"},
    {SR_SHARED_GATE_UP, "mlp.shared_expert.gate_up_proj", NULL},
    {SR_SHARED_DOWN, "mlp.shared_expert.down_proj", "ffn_down_shexp"},
    {SR_SHARED_SHARE, "mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
    {SR_FFN_POST_NORM, "post_feedforward_layernorm", "post_ffw_norm"},
};

/* The name that this family has for a role. */
static const sr_name *name_of(const sr_arch *arch, sr_role role) {
    for (const sr_name *own = arch->names; own && (own->hf || own->gguf); own++)
        if (own->role == role) return own;
    return &names[role];
}

/* Where the text model lies in a directory; the first is what a model of text alone has. */
static const struct place {
    const char *body, *head;
} places[] = {
    {"model.", ""},
    {"model.language_model.", ""},
    {"language_model.model.", "language_model."},
    {"model.text_model.", ""},
};
enum { N_PLACES = sizeof places / sizeof *places };

const char *sr_config_prefix(const sr_file *file) {
    return !file->gguf && sr_file_value(file, "text_config.hidden_size") ? "text_config." : "";
}

sr_naming sr_naming_of(const sr_file *file, const sr_arch *arch) {
    sr_naming naming = {arch, file->gguf, places[0].body, places[0].head};
    char name[SR_NAME];
    for (int i = 0; i < N_PLACES && !file->gguf; i++) {
        sr_naming other = {arch, false, places[i].body, places[i].head};
        sr_name_full(&other, SR_OUT_NORM, -1, ".weight", name); /* the one part that nothing quantizes */
        if (sr_file_part(file, name)) return other;
    }
    return naming;
}

bool sr_name_full(const sr_naming *naming, sr_role role, int layer, const char *suffix, char out[SR_NAME]) {
    return sr_name_expert(naming, role, layer, -1, suffix, out);
}

bool sr_name_expert(const sr_naming *naming, sr_role role, int layer, int expert, const char *suffix,
                    char out[SR_NAME]) {
    const sr_name *name = name_of(naming->arch, role);
    const char *stem = naming->gguf ? name->gguf : name->hf, *front = naming->gguf ? "" : naming->body;
    if (!stem) return false;
    if (!naming->gguf && role == SR_HEAD) front = naming->head;
    char of_layer[24] = "", number[12] = "";
    const int before = (int)strcspn(stem, "*");
    if (layer >= 0) snprintf(of_layer, sizeof of_layer, "%s.%d.", naming->gguf ? "blk" : "layers", layer);
    if (stem[before]) snprintf(number, sizeof number, "%d", expert);
    snprintf(out, SR_NAME, "%s%s%.*s%s%s%s", front, of_layer, before, stem, number,
             stem[before] ? stem + before + 1 : "", suffix);
    return true;
}

/* Past "blk.12." or "layers.12.". */
static const char *past_layer(const char *name, const char *front) {
    size_t n = strlen(front), digits = 0;
    if (strncmp(name, front, n) != 0) return name;
    digits = strspn(name + n, "0123456789");
    return digits > 0 && name[n + digits] == '.' ? name + n + digits + 1 : name;
}

/* What stands behind the stem, NULL when the tensor is no part of it; *number is what the '*' stood for, or -1. */
static const char *past_stem(const char *tensor, const char *stem, int *number) {
    *number = -1;
    if (!stem) return NULL;
    while (*stem) {
        if (*stem == '*') {
            size_t digits = strspn(tensor, "0123456789");
            if (digits == 0 || digits > 6) return NULL;
            *number = (int)strtol(tensor, NULL, 10);
            tensor += digits, stem++;
        } else if (*stem++ != *tensor++)
            return NULL;
    }
    return *tensor == '.' || *tensor == 0 ? tensor : NULL;
}

static bool is_part_of(const char *tensor, const char *stem) {
    int number;
    return past_stem(tensor, stem, &number) != NULL;
}

bool sr_name_parse(const sr_naming *naming, const char *tensor, sr_role *role, int *layer, int *expert,
                   const char **suffix) {
    const char *const front = naming->gguf ? "blk." : "layers.";
    const char *in_body = tensor;
    const size_t body = naming->gguf ? 0 : strlen(naming->body), head = naming->gguf ? 0 : strlen(naming->head);
    const bool is_body = strncmp(tensor, naming->body, body) == 0;
    size_t longest = 0;
    if (is_body) in_body += body;
    const char *past = past_layer(in_body, front);
    *layer = past == in_body ? -1 : (int)strtol(in_body + strlen(front), NULL, 10);
    for (int i = 0; i < SR_N_ROLES; i++) {
        const sr_name *name = name_of(naming->arch, (sr_role)i);
        const char *stem = naming->gguf ? name->gguf : name->hf, *at = past, *rest;
        int number;
        if (i == SR_ATTN_POST_NORM && !naming->arch->post_norms) continue;
        if (i == SR_HEAD && !naming->gguf) {
            if (strncmp(tensor, naming->head, head) != 0) continue;
            at = tensor + head;
        } else if (!naming->gguf && !is_body)
            continue;
        rest = past_stem(at, stem, &number);
        if (!rest || strlen(stem) <= longest) continue; /* "attn_k_b" is no part of "attn_k" anyway */
        longest = strlen(stem);
        *role = (sr_role)i;
        *expert = number;
        *suffix = rest;
    }
    return longest > 0;
}

sr_role sr_role_stacked(sr_role role) {
    switch (role) {
    case SR_EXPERT_GATE:
    case SR_SWITCH_GATE:
        return SR_EXPERTS_GATE;
    case SR_EXPERT_UP:
    case SR_SWITCH_UP:
        return SR_EXPERTS_UP;
    case SR_EXPERT_DOWN:
    case SR_SWITCH_DOWN:
        return SR_EXPERTS_DOWN;
    default:
        return role;
    }
}

bool sr_name_known(bool gguf, const char *tensor) {
    size_t skip = 0;
    for (int i = 0; i < N_PLACES && !gguf; i++) /* the longest that fits */
        for (int h = 0; h < 2; h++) {
            const char *front = h ? places[i].head : places[i].body;
            size_t n = strlen(front);
            if (n > skip && strncmp(tensor, front, n) == 0) skip = n;
        }
    tensor = past_layer(tensor + skip, gguf ? "blk." : "layers.");
    for (int i = 0; i < SR_N_ROLES; i++)
        if (is_part_of(tensor, gguf ? names[i].gguf : names[i].hf)) return true;
    for (int a = 0; sr_archs[a]; a++)
        for (const sr_name *own = sr_archs[a]->names; own && (own->hf || own->gguf); own++)
            if (is_part_of(tensor, gguf ? own->gguf : own->hf)) return true;
    return false;
}
