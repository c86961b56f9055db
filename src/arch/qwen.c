#include <stddef.h>

#include "arch/arch.h"

/* The windowed variant switches by layer (max_window_layers); no published checkpoint turns it on. */
static const char *const rejects[] = {"use_sliding_window|attention.sliding_window", "num_experts|expert_count", NULL};

const sr_arch sr_arch_qwen2 = {
    .name = "qwen2",
    .gguf_name = "qwen2",
    .hf_class = "Qwen2ForCausalLM",
    .hf_type = "qwen2",
    .gguf_rope = SR_ROPE_HALVES,
    .qkv_bias = true,
    .rejects = rejects,
};

const sr_arch sr_arch_qwen3 = {
    .name = "qwen3",
    .gguf_name = "qwen3",
    .hf_class = "Qwen3ForCausalLM",
    .hf_type = "qwen3",
    .gguf_rope = SR_ROPE_HALVES,
    .qk_norm = true,
    .rejects = rejects,
};
