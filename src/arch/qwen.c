#include <stddef.h>

#include "arch/arch.h"

/* The windowed variant switches by layer (max_window_layers); no published checkpoint turns it on. */
static const sr_reject rejects[] = {
    {"use_sliding_window", "attention.sliding_window", "a window of some layers"},
    {"num_experts", "expert_count", "a mixture of experts"},
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
