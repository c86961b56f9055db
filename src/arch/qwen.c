#include <stddef.h>

#include "arch/arch.h"

/* The windowed variant switches by layer (max_window_layers); no published checkpoint turns it on. */
static const sr_reject rejects[] = {
    {"use_sliding_window", "attention.sliding_window", "a window of some layers"},
    {"num_experts", "expert_count", "a mixture of experts"},
    {NULL, NULL, NULL},
};

static const sr_reject rejects_window[] = {
    {"use_sliding_window", "attention.sliding_window", "a window of some layers"},
    {NULL, NULL, NULL},
};

const sr_arch sr_arch_qwen2 = {
    .name = "qwen2",
    .gguf_name = "qwen2",
    .hf = (const char *const[]){"Qwen2ForCausalLM", "qwen2", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .bias = SR_BIAS_QKV,
    .rejects = rejects,
};

const sr_arch sr_arch_qwen3 = {
    .name = "qwen3",
    .gguf_name = "qwen3",
    .hf = (const char *const[]){"Qwen3ForCausalLM", "qwen3", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .qk_norm = true,
    .rejects = rejects,
};

/* The first converters wrote neither width: the experts of a token are together as wide as an MLP, and so is the shared
 * one. */
static const char *check_moe(const sr_file *file, sr_hparams *h) {
    (void)file;
    if (h->d_expert == 0) h->d_expert = h->d_ff / h->gating.used;
    if (h->d_shared == 0) h->d_shared = h->d_ff;
    return h->d_expert > 0 ? NULL : "its MLP is narrower than the experts of a token are many";
}

/* Qwen1.5-MoE and Qwen2-57B: one expert for all tokens, as far as a logit of its own says. */
const sr_arch sr_arch_qwen2moe = {
    .name = "qwen2moe",
    .gguf_name = "qwen2moe",
    .hf = (const char *const[]){"Qwen2MoeForCausalLM", "qwen2_moe", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .bias = SR_BIAS_QKV,
    .experts = "num_experts",
    .gate = SR_GATE_SOFTMAX,
    .shared = true,
    .shared_share = true,
    .defaults = (const sr_default[]){{NULL, "expert_feed_forward_length", 0}, {NULL, NULL, 0}},
    .rejects = rejects_window,
    .check = check_moe,
};

const sr_arch sr_arch_qwen3moe = {
    .name = "qwen3moe",
    .gguf_name = "qwen3moe",
    .hf = (const char *const[]){"Qwen3MoeForCausalLM", "qwen3_moe", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .qk_norm = true,
    .experts = "num_experts",
    .gate = SR_GATE_SOFTMAX,
    .defaults = (const sr_default[]){{NULL, "expert_weights_norm", 1}, {NULL, NULL, 0}}, /* converters leave it out */
    .rejects = rejects_window,
};
